"""What a device profile may say: the pydantic models behind every YAML file in this folder.

Units are in the field names. Peaks are *dense* (never the 2:4-sparse figure) and count a fused
multiply-add as two FLOPs. Every figure needs an entry in ``sources``; `costmodel.hardware.checked`
enforces that, so that a number without an origin cannot enter the product.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DType = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "int4"]
Level = Literal["l1", "l2", "l3", "dram"]
Kind = Literal["phone", "board", "laptop", "desktop", "server", "gpu", "microcontroller", "host"]
# Strict: YAML text such as 1.0e12 must not pass for a number, nor yes/no for a count.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(gt=0, strict=True)]
Flag = Annotated[bool, Field(strict=True)]


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Defaults(Record):
    """What a prediction assumes when the user names only the device."""

    engine: str
    execution: str
    layout: Literal["nchw", "nhwc"]
    threads: Count | None = None
    dtype: DType = "fp32"


class Core(Record):
    """A CPU core's microarchitecture (``cores.yaml``).

    ``flops_per_cycle`` is per core, over all vector pipes: an FMA counts as 2, so does an integer
    MAC. A dtype that is absent has no arithmetic of its own on the core and runs as fp32.
    ``load_bytes_per_cycle`` comes from the L1 data cache. ``outstanding_misses`` are the L1 data
    misses that can be in flight; ``None`` where nobody has published it.
    """

    title: str
    isa: str
    vector_bits: Count
    decode_width: Count
    out_of_order: Flag
    flops_per_cycle: dict[DType, Positive]
    load_bytes_per_cycle: Positive
    outstanding_misses: Count | None = None
    sources: dict[str, str]


class Cluster(Record):
    """Identical cores that share a clock.

    ``clock_ghz`` is the highest clock of one busy core, ``all_core_ghz`` the clock with every core
    of the cluster busy on its widest vectors (``None``: the same). ``l2_kb`` is per core unless
    ``l2_shared``. ``l1d_kb`` is ``None`` where there is no data cache.
    """

    core: str
    count: Count
    clock_ghz: Positive
    all_core_ghz: Positive | None = None
    l1d_kb: Positive | None
    l2_kb: Positive | None = None
    l2_shared: Flag = False

    def clock_for(self, busy: int) -> float:
        """Clock in GHz with ``busy`` cores at work: linear between one core and all of them."""
        if self.all_core_ghz is None or self.count == 1:
            return self.clock_ghz
        share = (min(busy, self.count) - 1) / (self.count - 1)
        return self.clock_ghz + (self.all_core_ghz - self.clock_ghz) * share


class CpuEngine(Record):
    """A CPU: clusters from the fastest to the slowest, and the caches behind them.

    There are ``l3_count`` L3 caches of ``l3_mb`` each, every one shared by an equal part of the
    cores. ``system_cache_mb`` sits in front of memory and serves the other engines too.
    """

    kind: Literal["cpu"]
    clusters: list[Cluster] = Field(min_length=1)
    l3_mb: Positive | None = None
    l3_count: Count = 1
    system_cache_mb: Positive | None = None

    @property
    def cores(self) -> int:
        """Cores in all clusters together."""
        return sum(cluster.count for cluster in self.clusters)


class GpuArchitecture(Record):
    """What all GPUs of one generation share (``architectures.yaml``).

    Rates are per multiprocessor (SM, CU, shader core) and clock; ``matrix_flops_per_cycle`` is
    dense, with fp32 accumulation where the hardware tells the two apart, and empty where there is
    no matrix engine. ``warp`` threads execute together.
    """

    title: str
    warp: Count
    max_threads: Count | None = None
    max_blocks: Count | None = None
    register_kb: Positive | None = None
    shared_kb: Positive | None = None
    l1_kb: Positive | None = None
    vector_flops_per_cycle: dict[DType, Positive]
    matrix_flops_per_cycle: dict[DType, Positive] = Field(default_factory=dict)
    sources: dict[str, str]


class Memory(Record):
    """Main memory: peak bandwidth (transfer rate x bus width), not the achieved one."""

    type: str
    capacity_gb: Positive
    bus_bits: Count | None = None
    mt_per_s: Positive | None = None
    gb_per_s: Positive


class Host(Record):
    """The core whose single thread issues a GPU's kernels, at the clock that it then reaches.

    ``slowness`` is the range of times of hosts that it may stand for, over its own.
    """

    core: str
    clock_ghz: Positive
    slowness: tuple[Positive, Positive] = (1.0, 1.0)
    sources: dict[str, str] = Field(default_factory=dict)


class GpuEngine(Record):
    """A GPU, discrete or on the chip.

    ``clock_ghz`` is the boost clock that the vendor's peaks refer to, ``base_ghz`` the guaranteed
    one. The peaks are what the vendor publishes; the loader fills those that are absent from the
    architecture: multiprocessors x clock x FLOPs per cycle. ``datacenter`` boards sit in servers.
    ``host`` issues the kernels (`costmodel.hardware.issuing`).
    """

    kind: Literal["gpu"]
    architecture: str
    datacenter: Flag = False
    multiprocessors: Count
    clock_ghz: Positive
    base_ghz: Positive | None = None
    vector_tflops: dict[DType, Positive] = Field(default_factory=dict)
    matrix_tflops: dict[DType, Positive] = Field(default_factory=dict)
    l2_mb: Positive | None = None
    l2_gb_per_s: Positive | None = None
    l3_mb: Positive | None = None
    l3_gb_per_s: Positive | None = None
    memory: Memory | None = None
    host: Host | None = None


class NpuEngine(Record):
    """A neural accelerator: peaks per dtype, on-chip memory, and the fixed cost of one call."""

    kind: Literal["npu"]
    matrix_tflops: dict[DType, Positive]
    vector_tflops: dict[DType, Positive] = Field(default_factory=dict)
    sram_mb: Positive | None = None
    call_us: NonNegative | None = None
    memory: Memory | None = None


Engine = Annotated[CpuEngine | GpuEngine | NpuEngine, Field(discriminator="kind")]


class Range(Record):
    """A figure that nobody knows exactly: what is typical, and what the literature spans."""

    low: NonNegative
    typical: NonNegative
    high: NonNegative


class Power(Record):
    """The most that the device (board, module, phone) draws when busy, and what it draws at rest.

    Without ``idle_w``, the share of ``max_w`` that is usual for its kind (``energy.yaml``).
    """

    max_w: Positive
    idle_w: Range | None = None


class Energy(Record):
    """Energy of one operation by dtype and of one byte by memory level, and power at rest.

    Computed by `costmodel.hardware.energy` from the process node, the memory type and ``power``.
    """

    pj_per_mac: dict[DType, Range]
    pj_per_op: Range
    pj_per_byte: dict[Level, Range]
    idle_w: Range
    max_w: Positive


class Point(Record):
    """One microbenchmark: a kernel's counts, where its data lay, and the time of one call."""

    kernel: str
    dtype: DType
    threads: Count
    working_set_kb: Positive
    flops: Annotated[int, Field(ge=0, strict=True)]
    bytes: Count
    us: Positive


class Spread(Record):
    """The interval of a prediction is it x [``low``, ``high``]."""

    low: Positive
    high: Positive


class Measured(Record):
    """What microbenchmarks found on the device itself, beside what the data sheet says.

    ``gb_per_s`` by memory level and ``tflops`` by dtype are the best rates of all threads.
    ``constants`` replace those of the machine model, by execution; an execution on an engine that
    is not the default one is written ``gpu/eager``. ``residual`` is by execution too. ``probe_ms``
    is what small programs took meanwhile, by execution and threads (`costmodel.measure.pace`),
    ``fitted_on`` how many microbenchmarks the constants of an execution rest on.
    """

    date: str
    software: dict[str, str]
    gb_per_s: dict[Level, Positive] = Field(default_factory=dict)
    tflops: dict[DType, Positive] = Field(default_factory=dict)
    constants: dict[str, dict[str, NonNegative]] = Field(default_factory=dict)
    residual: dict[str, Spread] = Field(default_factory=dict)
    probe_ms: dict[str, dict[str, Positive]] = Field(default_factory=dict)
    fitted_on: dict[str, Count] = Field(default_factory=dict)
    points: list[Point] = Field(default_factory=list)


class Profile(Record):
    """One device."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    title: str
    kind: Kind
    chip: str
    process_nm: Positive
    default: Defaults
    memory: Memory
    engines: dict[str, Engine]
    power: Power
    measured: Measured | None = None
    notes: str | None = None
    sources: dict[str, str]
