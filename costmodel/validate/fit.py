"""Fitting the constants of a machine model to measured runs, inside their physical limits.

The most probable constants given the runs and what was known before: logarithms of
predicted/measured are spread by `NOISE`, with heavier tails than a Gaussian (pseudo-Huber); the
logarithm of a constant is spread by `PRIOR` around where it stood. So one run moves constants a
little in the direction that explains it, and hundreds decide alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.errors import CostModelError
from costmodel.machine.constants import Constant, constants_of
from costmodel.machine.residuals import Spread
from costmodel.machine.times import Latencies
from costmodel.roofline import latencies_of
from costmodel.validate.predict_rows import Row
from costmodel.validate.score import Array

#: Spread of log(predicted/measured) for a row that the model describes well.
NOISE = 0.05
#: Spread of log(constant) around its value before the fit: about what it differs by from device to
#: device of a class. The 29 constants of eager PyTorch differ by 0.35 in the root mean square over
#: the twelve x86 machines in ``benchmarks/host``, whose makers are two.
PRIOR = 0.4
#: Degrees of freedom of the spread of devices.
_FREEDOM = 3.0
#: Rows that a fit looks at where they are timed one by one; more are thinned evenly in order of
#: family and size.
MOST = 160
#: Steps until a fit stands still; few need more than half of them.
STEPS = 40


@dataclass(frozen=True)
class Space:
    """The constants that a fit may move, as steps x from ``start``: 0 is where they stood."""

    free: tuple[Constant, ...]
    start: Mapping[str, float]

    def values(self, x: Array) -> dict[str, float]:
        """All constants after the steps, each inside its physical limits."""
        moved = zip(self.free, _inverse(self.free, x, self.start), strict=True)
        return {**self.start, **{c.name: _clip(c, value) for c, value in moved}}

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The steps to the physical limits."""
        return _bounds(self.free, self.start)


def space_of(block: str, start: Mapping[str, float]) -> Space:
    """The constants of a block that no definition holds where they are, and no way of measuring."""
    free = [
        c
        for name, c in constants_of(block).items()
        if c.low < c.high and name in start and start[name] != c.here
    ]
    return Space(tuple(free), start)


def fit_all(
    rows: Sequence[Row],
    start: Mapping[str, float],
    *,
    most: int = MOST,
    seconds: Latencies | None = None,
) -> dict[str, float]:
    """Every constant of the block, fitted on ``rows`` from ``start``.

    ``seconds`` times all rows at once (`seconds_of`); without it the fit looks at ``most`` rows.
    """
    if not rows:
        return dict(start)
    space = space_of(rows[0].setting.block, start)
    if seconds is None:
        rows = thin(rows, most)
        seconds = one_by_one(rows)
    return space.values(steps_of(space, seconds, measured_of(rows)))


def steps_of(space: Space, seconds: Latencies, measured: Array) -> Array:
    """The steps that bring ``seconds`` nearest to ``measured``, every constant held alike."""
    hold = np.eye(len(space.free)) / PRIOR
    noise = np.full(len(measured), NOISE)
    return _solve(space, seconds, measured, hold, noise, missed=_heavy_tailed)


def measured_of(rows: Sequence[Row]) -> Array:
    """Seconds."""
    return np.array([row.measured for row in rows])


def seconds_of(rows: Sequence[Row]) -> Latencies | None:
    """The seconds of all rows at once, in order; ``None`` if their machine model can't, or if
    constants are others from run to run."""
    if any(row.waking_us for row in rows):
        return None
    together = latencies_of([(row.work.kernels, row.setting) for row in rows])
    if together is None:
        return None
    setting = rows[0].setting
    paces = np.array([row.pace for row in rows])
    return lambda constants: paces * together(setting.constants(constants))


def one_by_one(rows: Sequence[Row]) -> Latencies:
    """The seconds of the rows, each timed alone."""
    return lambda constants: np.array([row.predicted(constants) for row in rows])


def fit_networks(
    rows: Sequence[Row], start: Mapping[str, float], spread: Spread
) -> dict[str, float]:
    """Every constant of the block, fitted on the runs of one network, or of a few, from ``start``.

    What one network says of a device is mixed with what the model gets wrong about the network.
    ``spread`` weighs them: constants are held as much as it takes for them to foresee, on these
    runs, errors that differ from device to device by ``spread.devices``; the runs of a network
    share its error, so together they count as one that is off by ``spread.networks``.
    """
    space = space_of(rows[0].setting.block, start)
    if not space.free:
        return dict(start)
    timed = one_by_one(rows)
    runs = Counter(row.run.model for row in rows)
    noise = np.array([spread.networks * math.sqrt(runs[row.run.model]) for row in rows])
    hold = np.linalg.inv(np.linalg.cholesky(_prior(space, timed, spread.devices)))
    places = [np.array([row.run.model == name for row in rows]) for name in runs]

    def missed(z: Array) -> Array:
        found = np.zeros(len(z))
        for own in places:
            found[own] = _student(z[own])
        return found

    far = {"missed": missed} if spread.measured else {"held": _student}
    return space.values(_solve(space, timed, measured_of(rows), hold, noise, **far))


def _prior(space: Space, seconds: Latencies, devices: float) -> Array:
    """Covariance of the steps before any run: each constant by itself, and as much again shared by
    all rates and by all fixed times, under which the rows' mean logarithm is spread by ``devices``.
    """
    covariance = np.eye(len(space.free))
    for kind in ("rate", "time"):
        shared = np.array([role(constant) == kind for constant in space.free], float)
        covariance += np.outer(shared, shared)
    slope = _slope(space, seconds)
    foreseen = float(np.sqrt(slope @ covariance @ slope))
    scale = min(PRIOR, devices / foreseen) if foreseen > 0 else PRIOR
    return covariance * scale**2


def _slope(space: Space, seconds: Latencies) -> Array:
    """d mean log(seconds) / d step, away from limits that the start lies at."""
    step, low = 1e-3, space.bounds[0]
    before = np.log(seconds(space.start)).mean()
    found = np.zeros(len(space.free))
    for i in range(len(found)):
        x = np.zeros(len(found))
        x[i] = -step if low[i] < -step else step
        found[i] = (np.log(seconds(space.values(x))).mean() - before) / x[i]
    return found


def role(constant: Constant) -> str | None:
    """Whether a constant is a rate (a share of a peak) or a time that adds to every run."""
    if constant.name.endswith("_efficiency"):
        return "rate"
    return "time" if constant.unit in ("us", "ms", "s", "instructions", "cycles") else None


def thin(rows: Sequence[Row], most: int = MOST) -> list[Row]:
    """At most ``most`` rows, evenly over families and sizes; the same ones each time."""
    if len(rows) <= most:
        return list(rows)
    order = sorted(
        range(len(rows)), key=lambda i: (rows[i].run.family, rows[i].work.macs, rows[i].run.model)
    )
    picked = np.linspace(0, len(order) - 1, most).round().astype(int)
    return [rows[order[i]] for i in picked]


def _solve(
    space: Space,
    seconds: Latencies,
    measured: Array,
    hold: Array,
    noise: Array,
    *,
    missed: Callable[[Array], Array] = np.asarray,
    held: Callable[[Array], Array] = np.asarray,
) -> Array:
    """The steps x that make log(predicted/measured) in ``noise``, and ``hold`` x, small.

    By squares, or by the squares of what ``missed`` and ``held`` make of the two.
    """
    try:
        from scipy.optimize import least_squares
    except ModuleNotFoundError as error:
        raise CostModelError(
            "calibrating needs scipy; try: pip install 'torch-costmodel[calibrate]'"
        ) from error
    target = np.log(measured)
    if not space.free:
        return np.zeros(0)

    def residuals(x: Array) -> Array:
        predicted = np.log(np.maximum(seconds(space.values(x)), 1e-12))
        return np.concatenate([missed((predicted - target) / noise), held(hold @ x)])

    start = np.clip(np.zeros(len(space.free)), *space.bounds)
    solution = least_squares(
        residuals, start, bounds=space.bounds, x_scale=1 / hold.diagonal(), diff_step=1e-3,
        max_nfev=STEPS, xtol=1e-4, ftol=1e-4,
    )  # fmt: skip
    found: Array = solution.x
    return found


def _heavy_tailed(z: Array) -> Array:
    """Values whose squares are the pseudo-Huber loss of ``z``, linear beyond 2."""
    return np.asarray(np.sign(z) * 2 * np.sqrt(2 * (np.sqrt(1 + (z / 2) ** 2) - 1)))


def _student(z: Array) -> Array:
    """A vector whose square is the loss of Student's t distribution in the length of ``z``.

    Of what are alike but for a few that are far off: small beside the spread is chance, what is
    large is not.
    """
    square = float(z @ z)
    if square == 0:
        return z
    loss = (_FREEDOM + 1) * math.log1p(square / _FREEDOM)
    return np.asarray(z * math.sqrt(loss / square))


def _offset(constant: Constant) -> float:
    """Added before the logarithm, so that a constant may reach 0."""
    return 1e-3 * (constant.high - constant.low)


def _inverse(free: Sequence[Constant], x: Array, start: Mapping[str, float]) -> list[float]:
    return [
        float((start[c.name] + _offset(c)) * np.exp(step) - _offset(c))
        for c, step in zip(free, x, strict=True)
    ]


def _bounds(free: Sequence[Constant], start: Mapping[str, float]) -> tuple[Array, Array]:
    def steps(limit: str) -> Array:
        return np.array([
            np.log((getattr(c, limit) + _offset(c)) / (start[c.name] + _offset(c))) for c in free
        ])  # fmt: skip

    slack = 1e-9  # a start at its limit must still lie inside
    return steps("low") - slack, steps("high") + slack


def _clip(constant: Constant, value: float) -> float:
    return float(min(max(value, constant.low), constant.high))
