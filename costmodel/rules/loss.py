"""Losses: operations for each element compared, the add that reduces them included."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, TensorSpec
from costmodel.rules.registry import RuleFunction, rule

FAMILY = "loss"

# fmt: off
PER_ELEMENT: dict[str, int] = {
    "mse_loss": 3,                # subtract, multiply, add
    "l1_loss": 3,                 # subtract, absolute value, add
    "smooth_l1_loss": 6, "huber_loss": 6,
    "binary_cross_entropy": 8, "binary_cross_entropy_with_logits": 10,
    "soft_margin_loss": 6, "kl_div": 4, "poisson_nll_loss": 4, "hinge_embedding_loss": 3,
    "margin_ranking_loss": 5, "multilabel_margin_loss_forward": 4, "multi_margin_loss": 4,
}
# fmt: on


def _per_element(count: int) -> RuleFunction:
    def loss(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
        return Cost(ops=count * x.numel)

    return loss


for _name, _count in PER_ELEMENT.items():
    rule(f"aten.{_name}", family=FAMILY)(_per_element(_count))


@rule(
    "aten.nll_loss_forward", "aten.nll_loss2d_forward", "aten.nll_loss", "aten.nll_loss_nd",
    "aten.nll_loss2d", family=FAMILY,
)  # fmt: skip
def nll_loss(x: TensorSpec, target: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """One value picked for each target, negated and added."""
    read = target.numel * x.itemsize + target.nbytes
    return Cost(ops=2 * target.numel, bytes_read=read)


@rule("aten.cross_entropy_loss", family=FAMILY)
def cross_entropy(x: TensorSpec, target: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """Log-softmax (five an element), then a pick, a negate and an add for each target."""
    return Cost(ops=5 * x.numel + 2 * target.numel)


@rule("aten._ctc_loss", "aten.ctc_loss", family=FAMILY)
def ctc_loss(x: TensorSpec, target: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """The forward recursion over 2·L+1 states for each frame (Graves et al. 2006, eq. 6)."""
    frames, batch, _ = x.shape
    length = target.shape[-1]
    return Cost(ops=7 * frames * batch * (2 * length + 1))
