"""How the cost of a family grows in depth, width and resolution, and compound scaling.

Compound scaling (Tan and Le, EfficientNet, ICML 2019, arXiv:1905.11946, equation 3) sets depth to
alpha^phi, width to beta^phi and resolution to gamma^phi with alpha·beta²·gamma² close to 2, so that
the cost doubles with every unit of phi.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from costmodel.errors import CostModelError
from costmodel.roofline import predict
from costmodel.scaling.family import Family, builder_of, kinds, released, shape
from costmodel.scaling.polynomial import AXES, Polynomial, fit
from costmodel.setting import setting
from costmodel.table import CostTable

#: How far from 2 the factor of one unit of phi may be; the paper's own is 4 % off.
TOLERANCE = 0.05

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Constants:
    """alpha, beta, gamma: what one unit of phi does to depth, width and resolution."""

    depth: float
    width: float
    resolution: float

    @property
    def factor(self) -> float:
        """The nominal growth of FLOPs a unit of phi: alpha·beta²·gamma²."""
        return self.depth * self.width**2 * self.resolution**2

    @property
    def doubles(self) -> bool:
        """Whether `factor` is 2 within `TOLERANCE`."""
        return abs(self.factor / 2 - 1) <= TOLERANCE

    def __str__(self) -> str:
        return f"{self.depth:g}, {self.width:g}, {self.resolution:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One member. ``ratio`` is its MACs over the first's; ``coefficient_ratio`` is d·w²·r²."""

    phi: int
    target: str
    resolution: int
    macs: int
    params: int
    ratio: float
    coefficient_ratio: float
    depthwise_share: float
    latency_s: dict[str, float] = field(default_factory=dict)
    top1: float | None = None

    @property
    def two_to_phi(self) -> float:
        return float(2**self.phi)


@dataclass(frozen=True)
class Scaling:
    """What `scale` found. ``polynomials`` are by kind of op; ``total`` is their sum."""

    title: str
    constants: Constants | None
    rows: tuple[Row, ...]
    polynomials: dict[str, Polynomial] = field(default_factory=dict)
    why: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Polynomial | None:
        """The polynomial of the whole network."""
        if not self.polynomials:
            return None
        terms: dict[Any, Any] = {}
        for polynomial in self.polynomials.values():
            for powers, coefficient in polynomial.terms.items():
                terms[powers] = terms.get(powers, 0) + coefficient
        return Polynomial(terms)

    def to_dict(self) -> dict[str, Any]:
        """The object that ``scale --format json`` prints."""
        total = self.total
        return {
            "schema": 1,
            "title": self.title,
            "nominal_factor": round(self.constants.factor, 4) if self.constants else None,
            "doubles": self.constants.doubles if self.constants else None,
            "constants": [self.constants.depth, self.constants.width, self.constants.resolution]
            if self.constants
            else None,
            "rows": [
                {
                    "phi": row.phi, "target": row.target, "resolution": row.resolution,
                    "macs": row.macs, "params": row.params, "ratio": row.ratio,
                    "two_to_phi": row.two_to_phi, "coefficient_ratio": row.coefficient_ratio,
                    "depthwise_share": row.depthwise_share, "latency_s": row.latency_s,
                    "top1": row.top1,
                }
                for row in self.rows
            ],
            "exponents": _exponents(total),
            "limit_exponents": {a: total.degree(i) for i, a in enumerate(AXES)} if total else None,
            "macs": str(total.expression) if total else None,
            "kinds": {
                kind: {"share": p.total / total.total, **(_exponents(p) or {})}
                for kind, p in self.polynomials.items()
            }
            if total
            else {},
            "why": self.why,
            "notes": list(self.notes),
        }  # fmt: skip


def scale(
    family: Family,
    constants: Constants,
    phis: Sequence[int] = range(8),
    hw: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Scaling:
    """The members of ``family`` at each phi, its exponents, and their MACs as a polynomial.

    Raises `CostModelError` when a member cannot be built. Where the MACs are no polynomial the
    exponents are missing and a note says why.
    """
    devices = _devices(hw)
    tables = []
    for phi in phis:
        depth, width = constants.depth**phi, constants.width**phi
        size = shape(family.size, constants.resolution**phi)
        progress(f"phi = {phi}")
        nominal = depth * width**2 * (size / family.size) ** 2
        tables.append(
            (phi, family.member(depth, width), size, family.table(depth, width, size), nominal)
        )
    rows = _rows(tables, devices)
    polynomials, notes = polynomials_of(family, progress)
    return Scaling(family.target, constants, rows, polynomials, notes=notes)


def scale_released(
    name: str, hw: Sequence[str] = (), progress: Progress = lambda _: None
) -> Scaling:
    """The members of a released family (``families.yaml``) at the sizes that they were made for.

    Raises `CostModelError` for a family that is not known.
    """
    from costmodel.api import trace
    from costmodel.table import cost

    known = released()
    if name not in known:
        raise CostModelError(f"no family {name!r}; there are {', '.join(known)}, or give a TARGET")
    found = known[name]
    devices = _devices(hw)
    tables, first = [], found["members"][0]
    for phi, member in enumerate(found["members"]):
        size = member["resolution"]
        progress(member["target"])
        table = cost(trace(member["target"], f"1x3x{size}x{size}"))
        nominal = member["depth"] * member["width"] ** 2 * (size / first["resolution"]) ** 2
        tables.append((phi, member["target"], size, table, nominal))
    constants = Constants(**found["constants"]) if found["constants"] else None
    top1 = [member["top1"] for member in found["members"]]
    return Scaling(found["title"], constants, _rows(tables, devices, top1), why=found["why"])


def polynomials_of(
    family: Family, progress: Progress = lambda _: None
) -> tuple[dict[str, Polynomial], tuple[str, ...]]:
    """The polynomials of a family, or a note why there are none."""

    def counts(point: tuple[int, int, int]) -> dict[str, int]:
        progress(f"depth x{point[0]}, width x{point[1]}, resolution x{point[2]}")
        size = _base_size(family.size) * point[2]
        return kinds(family.table(float(point[0]), float(point[1]), size))

    try:
        return fit(counts), ()
    except CostModelError as error:
        return {}, (f"no exponents: {error}",)


def _base_size(size: int) -> int:
    """The size nearest ``size`` that every stride divides, so that doubling is exact."""
    return max(64, round(size / 64) * 64)


def _exponents(polynomial: Polynomial | None) -> dict[str, float] | None:
    if polynomial is None:
        return None
    return {axis: round(polynomial.exponent(i), 4) for i, axis in enumerate(AXES)}


def _devices(hw: Sequence[str]) -> list[str]:
    for name in hw:
        setting(name)
    return list(hw)


def _rows(
    tables: Sequence[tuple[int, str, int, CostTable, float]],
    devices: Sequence[str],
    top1: Sequence[float] | None = None,
) -> tuple[Row, ...]:
    base, nominal_base = int(tables[0][3].total.macs), tables[0][4]
    rows = []
    for index, (phi, target, size, table, nominal) in enumerate(tables):
        macs = int(table.total.macs)
        rows.append(
            Row(
                phi, target, size, macs, int(table.total.params), macs / base,
                nominal / nominal_base, kinds(table).get("depthwise", 0) / macs,
                {name: predict(table, name).latency_s for name in devices},
                None if top1 is None else top1[index],
            )
        )  # fmt: skip
    return tuple(rows)


__all__ = [
    "Constants",
    "Family",
    "Row",
    "Scaling",
    "builder_of",
    "polynomials_of",
    "released",
    "scale",
    "scale_released",
]
