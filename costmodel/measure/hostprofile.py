"""The profile of the machine in hand, filled by microbenchmarks: roofs, then constants.

What is measured replaces what detection assumed (the clock where the system does not tell it, the
bandwidth of main memory), and says so in its source; everything else is in ``measured``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.files import write_atomic
from costmodel.hardware.catalog import core
from costmodel.hardware.checked import check
from costmodel.hardware.gpus import engine_named
from costmodel.hardware.host import HOST, as_yaml, document, stored
from costmodel.hardware.processor import Facts, facts
from costmodel.hardware.schema import CpuEngine, Point, Profile
from costmodel.measure.roofs import Say, bandwidths, measure_roofs, peaks

#: Products that are large enough to be shared out without loss: those that gain most from it.
_LARGE = 3
#: Share of the time that the roofs take; the rest is for the machine models' constants.
_FOR_ROOFS = 0.25
#: GHz: the highest clock that a processor was sold with (Intel Core i9-14900KS). Products that seem
#: to need more ran on a unit that the core is not known to have.
_FASTEST = 6.2


def calibrate_host(
    runtimes: Sequence[str], seconds: float, say: Say = lambda _: None
) -> dict[str, Any]:
    """The profile of this machine as plain values, measured in about ``seconds``.

    ``runtimes`` are the executions whose constants are fitted. ``say`` is told what is being done.
    Raises `CostModelError` where the machine cannot be detected or a runtime is not installed.
    """
    from costmodel.measure.calibrate import fit_constants

    found = facts()
    bare = check(document(found), Path(HOST))
    points = measure_roofs(bare, seconds * _FOR_ROOFS, say)
    made = with_roofs(found, points)
    _add_gpu(made, say)
    profile = check(made, Path(HOST))
    fitted = fit_constants(
        profile, runtimes, threads=profile.default.threads or 1,
        seconds=seconds * (1 - _FOR_ROOFS), advance=say,
    )  # fmt: skip
    made["measured"] |= {
        "constants": {name: rounded(one.constants) for name, one in fitted.items()},
        "probe_ms": {name: rounded(one.probe_ms) for name, one in fitted.items()},
        "fitted_on": {name: one.points for name, one in fitted.items()},
    }
    return made


def with_roofs(found: Facts, points: Sequence[Point]) -> dict[str, Any]:
    """The profile that a machine's facts and its measured roofs give, as plain values."""
    made = document(found)
    profile = check(made, Path(HOST))
    engine = profile.engines[profile.default.engine]
    assert isinstance(engine, CpuEngine)
    tops, rates = peaks(points), bandwidths(points, engine)
    today = date.today().isoformat()
    made.pop("notes")
    sources = made["sources"]
    if "dram" in rates:
        made["memory"]["gb_per_s"] = round(rates["dram"], 1)
        sources["memory.gb_per_s"] = f"measured: the fastest stream beyond the caches, {today}"
    if len(engine.clusters) == 1:
        _raise_clock(made, profile, points, today)
        _share_clock(made, points, core(engine.clusters[0].core).flops_per_cycle["fp32"], today)
    made["measured"] = {
        "date": today,
        "software": {name: version(name) for name in ("torch", "numpy")},
        "gb_per_s": {level: round(rate, 1) for level, rate in rates.items()},
        "tflops": {dtype: round(rate, 4) for dtype, rate in tops.items()},
        "constants": {},
        "points": [point.model_dump() for point in points],
    }
    return made


def save(document: Mapping[str, Any], output: str | Path | None) -> Path:
    """Keep the profile as this machine's calibration, and in ``output`` too; returns where.

    Raises `CostModelError` when a file cannot be written.
    """
    text = as_yaml(document)
    kept = stored()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CostModelError(
            f"cannot make {kept.parent}: {error.strerror}; name a file in COSTMODEL_HOST"
        ) from error
    write_atomic(kept, text)
    if output is not None:
        write_atomic(output, text)
    return kept


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Four digits of each, as a profile has them."""
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def _add_gpu(made: dict[str, Any], say: Say) -> None:
    """The machine's GPU as a second engine, as its shipped profile describes it."""
    import torch

    if not torch.cuda.is_available():
        return
    name = torch.cuda.get_device_name()
    known = engine_named(name)
    if known is None:
        say(f"the GPU {name} is left out: no profile describes it")
        return
    source, engine = known
    made["engines"]["gpu"] = engine
    made["sources"]["engines.gpu"] = f"detected: {name}; its figures are of the profile {source}"


def _raise_clock(
    made: dict[str, Any], profile: Profile, points: Sequence[Point], today: str
) -> None:
    """A product that is faster than the stated clock allows shows a higher clock."""
    engine = profile.engines[profile.default.engine]
    assert isinstance(engine, CpuEngine)
    cluster, stated = engine.clusters[0], made["engines"]["cpu"]["clusters"][0]
    rates = core(cluster.core).flops_per_cycle
    shown = [
        (gigahertz, rates[point.dtype], point.dtype)
        for point in points
        if point.kernel == "product" and point.dtype in rates
        and (gigahertz := _rate(point, cluster.count) / rates[point.dtype]) <= _FASTEST
    ]  # fmt: skip
    least, rate, dtype = max(shown, default=(0.0, 0.0, ""))
    if least > cluster.clock_ghz:
        stated["clock_ghz"] = round(least + 0.0005, 3)
        made["sources"]["engines.cpu.clusters.0.clock_ghz"] = (
            f"measured: at least this, for the fastest matrix product at {rate:g} {dtype} "
            f"FLOPs a cycle, {today}"
        )


def _rate(point: Point, count: int) -> float:
    """GFLOP/s of each core that a product ran on, of ``count``."""
    return point.flops / point.us / 1e3 / min(point.threads, count)


def _share_clock(
    made: dict[str, Any], points: Sequence[Point], per_cycle: float, today: str
) -> None:
    """Cores that share power, and their time with other guests of the machine, slow one another
    down: products on all of them, each beside the same one on one core, tell how much.

    Most of them tell, and the fastest one how much at most: no product is above the peak, of
    ``per_cycle`` FLOPs a core.
    """
    stated = made["engines"]["cpu"]["clusters"][0]
    alone, together = (
        {
            point.flops: point.flops / point.us / point.threads
            for point in points
            if point.kernel == "product" and point.dtype == "fp32" and point.threads == threads
        }
        for threads in (1, stated["count"])
    )
    shares = [together[flops] / rate for flops, rate in alone.items() if flops in together]
    if not shares:
        return
    usual = stated["clock_ghz"] * statistics.median(sorted(shares)[-_LARGE:])
    shown = max(together.values()) / 1e3 / per_cycle
    if (clock := max(round(usual, 3), round(shown + 0.0005, 3))) < stated["clock_ghz"]:
        stated["all_core_ghz"] = clock
        made["sources"]["engines.cpu.clusters.0.all_core_ghz"] = (
            f"measured: fp32 matrix products on all cores beside the same on one, {today}"
        )
