"""Fitting the constants of a machine model to measured runs, inside their physical limits.

The most probable constants given the runs and what was known before: logarithms of
predicted/measured are spread by `NOISE`, with heavier tails than a Gaussian (pseudo-Huber); the
logarithm of a constant is spread by `PRIOR` around where it stood. So one run moves constants a
little in the direction that explains it, and hundreds decide alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from costmodel.errors import CostModelError
from costmodel.machine.constants import Constant, constants_of
from costmodel.machine.times import Latencies
from costmodel.roofline import latencies_of
from costmodel.validate.predict_rows import Row
from costmodel.validate.score import Array

#: Spread of log(predicted/measured) for a row that the model describes well.
NOISE = 0.05
#: The same for the runs of one network, which share whatever the model gets wrong about it: the
#: spread of errors between networks.
NOISE_OF_ONE = 0.2
#: Spread of log(constant) around its value before the fit: about what it differs by from device to
#: device of a class.
PRIOR = 0.8
#: Rows that a fit looks at where they are timed one by one; more are thinned evenly in order of
#: family and size.
MOST = 160
#: Steps until a fit stands still; few need more than half of them.
STEPS = 40


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
    constants = constants_of(rows[0].setting.block) if rows else {}
    free = [c for name, c in constants.items() if c.low < c.high and name in start]
    if seconds is None:
        rows = thin(rows, most)

    def values(x: Array) -> dict[str, float]:
        return {**start, **{c.name: _clip(c, v) for c, v in zip(free, _inverse(free, x, start),
                                                                 strict=True)}}  # fmt: skip

    bounds, x = _bounds(free, start), np.zeros(len(free))
    if not rows or not free:
        return dict(start)
    timed = seconds or one_by_one(rows)
    return values(_solve(rows, timed, values, x, bounds, NOISE))


def seconds_of(rows: Sequence[Row]) -> Latencies | None:
    """The seconds of all rows at once, in order; ``None`` if their machine model can't."""
    together = latencies_of([(row.work.kernels, row.setting) for row in rows])
    if together is None:
        return None
    setting = rows[0].setting
    return lambda constants: together(setting.constants(constants))


def one_by_one(rows: Sequence[Row]) -> Latencies:
    """The seconds of the rows, each timed alone."""
    return lambda constants: np.array([row.predicted(constants) for row in rows])


def fit_scales(rows: Sequence[Row], start: Mapping[str, float]) -> dict[str, float]:
    """Two factors fitted on few rows: one on every efficiency, one on every fixed time.

    Constants stay inside their physical limits, so a device that needs an efficiency above 1
    keeps its error.
    """
    constants = constants_of(rows[0].setting.block)

    def values(x: Array) -> dict[str, float]:
        factors = {"rate": float(np.exp(x[0])), "time": float(np.exp(x[1]))}
        return {
            name: _clip(constants[name], value * factors.get(role(constants[name]) or "", 1.0))
            for name, value in start.items()
        }

    limit = np.full(2, 2.5)
    timed = one_by_one(rows)
    return values(_solve(rows, timed, values, np.zeros(2), (-limit, limit), NOISE_OF_ONE))


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
    rows: Sequence[Row],
    seconds: Latencies,
    values: Callable[[Array], dict[str, float]],
    x0: Array,
    bounds: tuple[Array, Array],
    noise: float,
) -> Array:
    """The x that makes log(predicted/measured) small without moving far from 0, from ``x0``."""
    try:
        from scipy.optimize import least_squares
    except ModuleNotFoundError as error:
        raise CostModelError(
            "calibrating needs scipy; try: pip install 'torch-costmodel[calibrate]'"
        ) from error
    measured = np.log([row.measured for row in rows])

    def residuals(x: Array) -> Array:
        predicted = np.log(np.maximum(seconds(values(x)), 1e-12))
        return np.concatenate([_heavy_tailed((predicted - measured) / noise), x / PRIOR])

    x0 = np.clip(x0, *bounds)
    solution = least_squares(
        residuals, x0, bounds=bounds, x_scale=PRIOR, diff_step=1e-3, max_nfev=STEPS, xtol=1e-4,
        ftol=1e-4,
    )  # fmt: skip
    found: Array = solution.x
    return found


def _heavy_tailed(z: Array) -> Array:
    """Values whose squares are the pseudo-Huber loss of ``z``, linear beyond 2."""
    return np.asarray(np.sign(z) * 2 * np.sqrt(2 * (np.sqrt(1 + (z / 2) ** 2) - 1)))


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
