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


def layer_cost(kind: str, x: TensorSpec, params: Sequence[TensorSpec], steps: Dim) -> Cost:
    """Σ over layers and directions of gates·H·(I + H) MACs a step (Σ over its weight matrices).

    ``steps`` is the number of (time, sample) pairs. Each matrix is used once a step, so the MACs
    are the elements of all matrices times the steps; each bias vector is one add an element.
    """
    macs: Dim = 0
    ops: Dim = 0
    for weight in params:
        if weight.ndim == 2:
            macs = macs + weight.numel * steps
            hidden_to_hidden = weight.shape[0] == GATES[kind] * weight.shape[1]
            del hidden_to_hidden
        else:
            ops = ops + weight.numel * steps
    recurrent = [w for w in params if w.ndim == 2][1::2]
    for weight in recurrent:
        ops = ops + CELL_OPS[kind] * (weight.shape[0] // GATES[kind]) * steps
    return Cost(macs, ops)


def _flat(value: Any) -> list[TensorSpec]:
    return [spec for spec in value if isinstance(spec, TensorSpec)]


def _kind(target: str) -> str:
    return next(kind for kind in ("lstm", "gru", "rnn") if kind in target)


def _register(target: str) -> None:
    kind = _kind(target)

    @rule(f"aten.{target}", family=FAMILY)
    def layer(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
        lists = [a for a in args if isinstance(a, tuple)]
        packed = isinstance(args[0], TensorSpec) and not isinstance(args[1], bool)
        # Plain: (x, hx, params, has_biases, layers, dropout, train, bidirectional, batch_first).
        # Packed: (data, batch_sizes, hx, params, ...): ``data`` holds the valid steps in rows.
        params = _flat(lists[-1])
        steps = x.shape[0] if packed and x.ndim == 2 else x.shape[0] * x.shape[1]
        return layer_cost(kind, x, params, steps)


for _target in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    _register(_target)


def _register_cell(target: str) -> None:
    kind = _kind(target)

    @rule(f"aten.{target}", family=FAMILY)
    def cell(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
        params = [a for a in args if isinstance(a, TensorSpec)]
        weights = params[1:] if kind != "lstm" else params
        return layer_cost(kind, x, weights, x.shape[0] if x.ndim == 2 else 1)


for _target in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
    _register_cell(_target)


@rule("aten.mkldnn_rnn_layer", family=FAMILY)
def mkldnn_layer(
    x: TensorSpec, weight0: TensorSpec, weight1: TensorSpec, weight2: TensorSpec,
    weight3: TensorSpec, *args: Any, out: Any,
) -> Cost:  # fmt: skip
    """One LSTM layer in one direction, as the CPU backend runs it."""
    return layer_cost("lstm", x, [weight0, weight1, weight2, weight3], x.shape[0] * x.shape[1])


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
