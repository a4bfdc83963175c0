"""Resampling. Weights of the taps are counted once an output element, not their derivation."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, Dim, TensorSpec
from costmodel.rules.registry import RuleFunction, rule

FAMILY = "interpolation"
#: What mobile networks resample maps with.
NEAREST_MAPS = frozenset({"aten.upsample_nearest2d"})
OF_MAPS = NEAREST_MAPS | {"aten.upsample_bilinear2d"}

#: Taps an output element reads; each is a multiply and an add.
TAPS = {
    "upsample_linear1d": 2,
    "upsample_bilinear2d": 4,
    "upsample_trilinear3d": 8,
    "upsample_bicubic2d": 16,
}
NEAREST = [f"{kind}{rank}d" for kind in ("upsample_nearest", "_upsample_nearest_exact")
           for rank in (1, 2, 3)]  # fmt: skip


def _weighted(taps: int) -> RuleFunction:
    def upsample(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
        return Cost(ops=2 * taps * out.numel)

    return upsample


for _name, _taps in TAPS.items():
    rule(f"aten.{_name}", family=FAMILY)(_weighted(_taps))


@rule(*(f"aten.{name}" for name in NEAREST), family=FAMILY)
def nearest(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """A copy of the nearest element."""
    return Cost()


def _antialiased(support: int) -> RuleFunction:
    """Separable filter whose support grows with the reduction: a multiply and an add a tap.

    Columns are filtered first, so the first pass makes H_in x W_out values.
    """

    def resample(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
        horizontal = _taps_across(support, x.shape[-1], out.shape[-1])
        vertical = _taps_across(support, x.shape[-2], out.shape[-2])
        rows = out.numel // out.shape[-2] * x.shape[-2]
        return Cost(ops=2 * (rows * horizontal + out.numel * vertical))

    return resample


rule("aten._upsample_bilinear2d_aa", family=FAMILY)(_antialiased(2))
rule("aten._upsample_bicubic2d_aa", family=FAMILY)(_antialiased(4))


def _taps_across(support: int, size_in: Dim, size_out: Dim) -> Dim:
    """⌈support · max(1, in/out)⌉."""
    taps: Dim = -(-support * size_in // size_out)
    if isinstance(taps, int):
        return max(support, taps)
    import sympy

    return sympy.Max(support, taps)


@rule("aten.grid_sampler", "aten.grid_sampler_2d", "aten.grid_sampler_3d", family=FAMILY)
def grid_sampler(
    x: TensorSpec, grid: TensorSpec, interpolation: int, *args: Any, out: TensorSpec
) -> Cost:
    """Bilinear (0): 2^rank taps; nearest (1): none; bicubic (2): 4^rank taps.

    A multiply and an add a tap; placing the grid is a multiply and an add for each coordinate.
    """
    rank = x.ndim - 2
    taps = (2**rank, 0, 4**rank)[interpolation]
    return Cost(ops=2 * taps * out.numel + 2 * grid.numel)


@rule("aten.affine_grid_generator", family=FAMILY)
def affine_grid(theta: TensorSpec, size: Any, *args: Any, out: TensorSpec) -> Cost:
    """A product of each point's homogeneous coordinates with the matrix."""
    return Cost(out.numel * theta.shape[-1])
