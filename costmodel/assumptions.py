"""What a prediction assumes that its user may not expect, each in a sentence."""

from __future__ import annotations

from costmodel.execution.formats import AMP
from costmodel.hardware.catalog import core
from costmodel.hardware.issuing import issuing_host
from costmodel.hardware.peaks import computes_in
from costmodel.hardware.schema import CpuEngine, Host
from costmodel.machine.constants import blocks
from costmodel.machine.times import Times
from costmodel.rules.autocast import in_fast_norm
from costmodel.setting import Setting
from costmodel.table import CostTable


def assumptions(table: CostTable, chosen: Setting, times: Times) -> tuple[str, ...]:
    """The sentences for one prediction, in the order in which they matter."""
    found = [*_detection(chosen), *_substitutions(chosen), *_crowded(chosen)]
    found += _issuing(chosen, times)
    if not table.complete:
        found.append("ops without a cost rule are missing from the latency")
    return (*found, *_of_norms(table, chosen))


def _detection(chosen: Setting) -> list[str]:
    """Said where the machine in hand is known by detection only."""
    unmeasured = chosen.profile.kind == "host" and chosen.profile.measured is None
    return [chosen.profile.notes] if unmeasured and chosen.profile.notes else []


def _substitutions(chosen: Setting) -> list[str]:
    """What happens instead where the engine has no arithmetic of its own for the dtype."""
    engine = chosen.profile.engines[chosen.engine]
    dtype = AMP.get(chosen.dtype, chosen.dtype)
    if dtype == "fp32" or computes_in(engine, dtype):
        return []
    stored = f"stored as {dtype}, computed" if dtype == chosen.format != "tf32" else "run"
    return [f"{chosen.hw} has no {dtype} arithmetic: {stored} as fp32"]


def _crowded(chosen: Setting) -> list[str]:
    """Said where more threads are asked for than there are cores for."""
    engine = chosen.profile.engines[chosen.engine]
    if not isinstance(engine, CpuEngine) or (chosen.threads or 0) <= engine.cores:
        return []
    cores = engine.cores
    return [f"{chosen.hw} has {cores} cores: predicted with {cores} threads, not {chosen.threads}"]


def _of_norms(table: CostTable, chosen: Setting) -> list[str]:
    """Said where a mode of timm, which a trace does not show, decides the format of norms."""
    if chosen.dtype not in AMP or not any(in_fast_norm(row.op) for row in table.rows):
        return []
    text = (
        "timm's norms are taken to stay in the low format, as in timm's published runs "
        "(timm.layers.set_fast_norm); otherwise autocast computes them in fp32, which takes longer"
    )
    return [text]


def _issuing(chosen: Setting, times: Times) -> list[str]:
    """Said where most of the latency rests on a host that is assumed."""
    host = assumed_host(chosen)
    if host is None or times.overhead.sum() < times.latency.sum() / 2:
        return []
    assumed = f"assumed host: {core(host.core).title} at {host.clock_ghz:g} GHz"
    return [f"most of this is the host issuing ops; {assumed}"]


def assumed_host(chosen: Setting) -> Host | None:
    """The host that issues the kernels, if the prediction rests on one that nobody named."""
    if "dispatch_us" not in blocks()[chosen.block] or chosen.measured_constants:
        return None
    host, known = issuing_host(chosen.profile, chosen.engine)
    return None if known else host
