"""What a prediction assumes besides the network: device, runtime, format, layout, threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike

from costmodel.errors import CostModelError
from costmodel.execution import engine_for, format_of, module_of, runs_framework
from costmodel.execution.formats import AMP
from costmodel.hardware import resolve
from costmodel.hardware.catalog import core
from costmodel.hardware.schema import CpuEngine, GpuEngine, NpuEngine, Profile, Spread
from costmodel.machine.constants import constants_of, measured_here, values_of

#: Orders of a map in memory: channels outermost, and innermost.
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class Setting:
    """Everything that a prediction assumes besides the network."""

    profile: Profile
    engine: str
    execution: str
    dtype: str
    layout: str
    threads: int | None
    #: The runtime that calls an accelerator, where a run names it.
    caller: str | None = None

    @property
    def block(self) -> str:
        """The machine model's constants: engine class and execution."""
        engine = self.profile.engines[self.engine]
        if self.is_x86:
            return f"x86/{self.execution}"
        if runs_framework(self.execution) and getattr(engine, "datacenter", False):
            return f"server-gpu/{self.execution}"
        return f"{engine.kind}/{self.execution}"

    @property
    def is_x86(self) -> bool:
        """Whether the engine is a CPU with x86 cores."""
        engine = self.profile.engines[self.engine]
        return isinstance(engine, CpuEngine) and core(engine.clusters[0].core).isa.startswith("x86")

    @property
    def lanes(self) -> int:
        """The fp32 values of a vector of the x86 cores; 0 on other engines."""
        engine = self.profile.engines[self.engine]
        if not self.is_x86 or not isinstance(engine, CpuEngine):
            return 0
        return core(engine.clusters[0].core).vector_bits // 32

    @property
    def hw(self) -> str:
        return f"{self.profile.name}:{self.engine}"

    def constants(
        self, calibration: Mapping[str, float] | None = None, *, without: str | None = None
    ) -> dict[str, float]:
        """The machine model's constants: the shipped ones, replaced by those that were measured on
        the device, and these by ``calibration``. ``without`` as in `values_of`.

        Raises `CostModelError` for a name that the model lacks and a value outside its limits.
        """
        measured = self.measured_constants
        if measured:
            measured = {**measured_here(self.block), **measured}
        return values_of(self.block, {**measured, **(calibration or {})}, without=without)

    @property
    def measured_constants(self) -> Mapping[str, float]:
        """The constants that microbenchmarks found for this execution on the device, if any."""
        measured = self.profile.measured
        if measured is None:
            return {}
        found = measured.constants.get(self._measured_as)
        if found is None:
            like = getattr(module_of(self.execution), "CALLS_LIBRARIES_OF", self.execution)
            shared = constants_of(self.block)
            others = measured.constants.get(self._named(like), {})
            found = {name: value for name, value in others.items() if name in shared}
        return found

    def measuring(self, constants: Mapping[str, float]) -> Setting:
        """The same on a device where microbenchmarks found ``constants`` for this execution."""
        measured = self.profile.measured
        assert measured is not None
        found = {**measured.constants, self._measured_as: dict(constants)}
        other = measured.model_copy(update={"constants": found})
        return replace(self, profile=self.profile.model_copy(update={"measured": other}))

    @property
    def measured_spread(self) -> Spread | None:
        """How far measurements of this execution on the device lie from predictions, if known."""
        measured = self.profile.measured
        return measured.residual.get(self._measured_as) if measured else None

    @property
    def _measured_as(self) -> str:
        return self._named(self.execution)

    def _named(self, execution: str) -> str:
        own = self.engine == self.profile.default.engine
        return execution if own else f"{self.engine}/{execution}"

    @property
    def format(self) -> str:
        """What the execution computes in on this engine; runtimes may choose a shorter format."""
        return format_of(self.execution, self.dtype, self.profile.engines[self.engine])


def setting(
    hw: str | PathLike[str],
    *,
    dtype: str | None = None,
    execution: str | None = None,
    layout: str | None = None,
    threads: int | None = None,
) -> Setting:
    """Fill what the user left open from the profile's defaults.

    Raises `CostModelError` for an unknown device, engine, execution, dtype or layout.
    """
    profile, engine = resolve(hw)
    if layout is not None and layout not in LAYOUTS:
        raise CostModelError(f"unknown layout {layout!r}; choose {' or '.join(LAYOUTS)}")
    kind = profile.engines[engine].kind
    default = profile.default if engine == profile.default.engine else None
    if execution is None:
        execution = default.execution if default else _usual_execution(kind, profile)
    if dtype is None:
        dtype = default.dtype if default else _usual_dtype(profile.engines[engine])
    known = module_of(execution).DTYPES
    if dtype not in known:
        raise CostModelError(f"{execution} has no dtype {dtype!r}; choose {', '.join(known)}")
    _refuse_missing(profile, engine, dtype)
    engine = engine_for(execution, dtype, profile, engine)
    if engine != resolve(hw)[1]:
        kind, default = profile.engines[engine].kind, None
    if threads is None and kind == "cpu" and default is not None:
        threads = default.threads
    return Setting(
        profile,
        engine,
        execution,
        dtype,
        layout or (default.layout if default else profile.default.layout),
        threads,
    )


def _usual_dtype(engine: CpuEngine | GpuEngine | NpuEngine) -> str:
    if isinstance(engine, NpuEngine):
        return "fp16" if "fp16" in engine.matrix_tflops else next(iter(engine.matrix_tflops))
    return "fp32"


def _refuse_missing(profile: Profile, name: str, dtype: str) -> None:
    """An accelerator has no slower way to compute in a format that it lacks."""
    engine = profile.engines[name]
    if isinstance(engine, NpuEngine) and AMP.get(dtype, dtype) not in engine.matrix_tflops:
        has = ", ".join(engine.matrix_tflops)
        raise CostModelError(
            f"{profile.name}:{name} has no {dtype}; it computes in {has} (--dtype)"
        )


def _usual_execution(kind: str, profile: Profile) -> str:
    if kind == "npu":
        return "npu"
    mobile = profile.kind in ("phone", "board", "microcontroller")
    return "tflite" if mobile else "eager"
