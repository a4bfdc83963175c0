"""Recurrent layers, whole, and their cells.

An LSTM has 4 gates, a GRU 3, a plain RNN 1; each gate multiplies the input (I) and the state (H).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costmodel.ir import Cost, Dim, TensorSpec
from costmodel.rules.registry import rule

FAMILY = "recurrent"

#: Scalar operations for each hidden unit and step, biases aside. LSTM: 3 sigmoids (12), 2 tanh,
#: add of the two products in 4 gates, f·c + i·g (3), o·tanh(c). GRU: 2 sigmoids (8), tanh, 3
#: gate adds, r·n, (1-z)·n + z·h (4). RNN: one add and one nonlinearity.
CELL_OPS = {"lstm": 12 + 2 + 4 + 3 + 1, "gru": 8 + 1 + 3 + 1 + 4, "rnn": 2}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def layer_cost(
    kind: str, params: Sequence[TensorSpec], steps: Dim, projected: bool = False
) -> Cost:
    """Σ over layers and directions of gates·H·(I + H) MACs a step.

    ``params`` are all weights: for each layer and direction an input matrix (gates·H, I), a state
    matrix (gates·H, H), if ``projected`` one more (P, H) and a narrower state matrix (gates·H, P),
    and biases. Each matrix is used once a step, so the MACs are the elements of all matrices times
    ``steps``, the number of (time, sample) pairs. Each bias is one add an element.
    """
    matrices = [w for w in params if w.ndim == 2]
    macs: Dim = 0
    ops: Dim = 0
    for weight in matrices:
        macs = macs + weight.numel * steps
    for bias in (w for w in params if w.ndim == 1):
        ops = ops + bias.numel * steps
    for weight in matrices[:: 3 if projected else 2]:
        ops = ops + CELL_OPS[kind] * (weight.shape[0] // GATES[kind]) * steps
    return Cost(macs, ops)


def _specs(values: Any) -> list[TensorSpec]:
    return [spec for spec in values if isinstance(spec, TensorSpec)]


def _kind(target: str) -> str:
    return next(kind for kind in ("lstm", "gru", "rnn") if kind in target)


def _register(target: str) -> None:
    kind = _kind(target)

    @rule(f"aten.{target}", family=FAMILY)
    def layer(x: TensorSpec, *args: Any, out: tuple[TensorSpec, ...], **kwargs: Any) -> Cost:
        # Plain: (x, hx, params, has_biases, layers, dropout, train, bidirectional, batch_first).
        # Packed: (data, batch_sizes, hx, params, ...): ``data`` holds the valid steps in rows, and
        # is a matrix; a plain input has three dimensions.
        params = _specs([a for a in args if isinstance(a, tuple)][-1])
        steps = x.shape[0] if x.ndim == 2 else x.shape[0] * x.shape[1]
        # An LSTM returns (output, h, c): h is narrower than c when it is projected.
        projected = kind == "lstm" and out[1].shape[-1] != out[2].shape[-1]
        return layer_cost(kind, params, steps, projected)


for _target in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    _register(_target)


def _register_cell(target: str) -> None:
    kind = _kind(target)

    @rule(f"aten.{target}", family=FAMILY)
    def cell(x: TensorSpec, hx: Any, *params: Any, out: Any, **kwargs: Any) -> Cost:
        return layer_cost(kind, _specs(params), x.shape[0] if x.ndim == 2 else 1)


for _target in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
    _register_cell(_target)


@rule("aten._pack_padded_sequence", family="movement")
def pack(x: TensorSpec, lengths: TensorSpec, *args: Any, out: tuple[TensorSpec, ...]) -> Cost:
    """The valid steps are copied into rows without gaps."""
    return Cost(bytes_read=out[0].nbytes + lengths.nbytes)


@rule("aten._pad_packed_sequence", family="movement")
def unpack(x: TensorSpec, *args: Any, out: tuple[TensorSpec, ...]) -> Cost:
    """The valid steps are copied, the gaps filled."""
    return Cost(bytes_read=x.nbytes)


@rule("aten.mkldnn_rnn_layer", family=FAMILY)
def mkldnn_layer(
    x: TensorSpec, weight0: TensorSpec, weight1: TensorSpec, weight2: TensorSpec,
    weight3: TensorSpec, *args: Any, out: Any,
) -> Cost:  # fmt: skip
    """One LSTM layer in one direction, as the CPU backend runs it."""
    return layer_cost("lstm", [weight0, weight1, weight2, weight3], x.shape[0] * x.shape[1])


@rule("aten._thnn_fused_lstm_cell", family=FAMILY)
def fused_lstm_cell(
    input_gates: TensorSpec, hidden_gates: TensorSpec, *args: Any, out: Any
) -> Cost:
    """The pointwise part of a cell."""
    return Cost(ops=CELL_OPS["lstm"] * (input_gates.numel // 4))


@rule("aten._thnn_fused_gru_cell", family=FAMILY)
def fused_gru_cell(input_gates: TensorSpec, hidden_gates: TensorSpec, *args: Any, out: Any) -> Cost:
    """The pointwise part of a cell."""
    return Cost(ops=CELL_OPS["gru"] * (input_gates.numel // 3))
