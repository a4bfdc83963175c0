"""What a device profile may say: the pydantic models behind every YAML file in this folder.

Units are in the field names. Peaks are *dense* (never the 2:4-sparse figure) and count a fused
multiply-add as two FLOPs. Every figure needs an entry in ``sources``; `costmodel.hardware.loader`
enforces that, so that a number without an origin cannot enter the product.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DType = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "int4"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class Strict(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Defaults(Strict):
    """What a prediction assumes when the user names only the device."""

    engine: str
    execution: str
    layout: Literal["nchw", "nhwc"]
    threads: Count | None = None
    dtype: DType = "fp32"


class Core(Strict):
    """A CPU core's microarchitecture (``cores.yaml``).

    ``flops_per_cycle`` counts an FMA as 2, over all vector pipes, per core. A dtype that is absent
    has no arithmetic of its own on the core and runs as fp32.
    """

    title: str
    isa: str
    vector_bits: Count
    flops_per_cycle: dict[DType, Positive]
    load_bytes_per_cycle: Positive
    outstanding_misses: Count
    out_of_order: bool
    sources: dict[str, str]


class Cluster(Strict):
    """Identical cores that share a clock. ``l2_kb`` is per core unless ``l2_shared``."""

    core: str
    count: Count
    clock_ghz: Positive
    l1d_kb: Positive
    l2_kb: Positive | None = None
    l2_shared: bool = False


class CpuEngine(Strict):
    """A CPU: clusters from the fastest to the slowest, and the caches behind them."""

    kind: Literal["cpu"]
    clusters: list[Cluster] = Field(min_length=1)
    l3_mb: Positive | None = None
    system_cache_mb: Positive | None = None


class GpuArchitecture(Strict):
    """What all GPUs of one generation share (``architectures.yaml``).

    ``matrix_flops_per_cycle`` is per multiprocessor, dense, with fp32 accumulation where the
    hardware tells the two apart; empty where there is no matrix engine.
    """

    title: str
    warp: Count
    max_threads: Count
    register_kb: Positive
    shared_kb: Positive
    vector_flops_per_cycle: dict[DType, Positive]
    matrix_flops_per_cycle: dict[DType, Positive]
    sources: dict[str, str]


class GpuEngine(Strict):
    """A GPU, discrete or on the chip. ``multiprocessors``: SMs, CUs, shader cores."""

    kind: Literal["gpu"]
    architecture: str
    multiprocessors: Count
    clock_ghz: Positive
    vector_tflops: dict[DType, Positive]
    matrix_tflops: dict[DType, Positive] = Field(default_factory=dict)
    l2_mb: Positive | None = None
    l2_gb_per_s: Positive | None = None
    memory: Memory | None = None


class NpuEngine(Strict):
    """A neural accelerator: peaks per dtype, on-chip memory, and the fixed cost of one call."""

    kind: Literal["npu"]
    matrix_tflops: dict[DType, Positive]
    vector_tflops: dict[DType, Positive] = Field(default_factory=dict)
    sram_mb: Positive | None = None
    call_us: NonNegative | None = None
    memory: Memory | None = None


class Memory(Strict):
    """Main memory: peak bandwidth (transfer rate x bus width), not the achieved one."""

    type: str
    capacity_gb: Positive
    gb_per_s: Positive


class Range(Strict):
    """A figure that nobody knows exactly: what is typical, and what the literature spans."""

    low: NonNegative
    typical: NonNegative
    high: NonNegative


class Energy(Strict):
    """Energy of one operation by dtype and of one byte by memory level, and power at rest."""

    pj_per_mac: dict[DType, Range]
    pj_per_op: Range
    pj_per_byte: dict[Literal["l1", "l2", "l3", "dram"], Range]
    idle_w: Range


class Profile(Strict):
    """One device."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    title: str
    kind: Literal["phone", "board", "laptop", "desktop", "server", "gpu", "microcontroller", "host"]
    chip: str
    year: Count
    default: Defaults
    memory: Memory
    engines: dict[str, CpuEngine | GpuEngine | NpuEngine]
    energy: Energy | None = None
    measured: dict[str, float] | None = None
    notes: str | None = None
    sources: dict[str, str]


GpuEngine.model_rebuild()
NpuEngine.model_rebuild()
