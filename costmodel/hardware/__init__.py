"""Device profiles: peaks, memory levels and energy of real hardware, each figure with a source."""

from costmodel.hardware.catalog import architecture, core
from costmodel.hardware.checked import check_file
from costmodel.hardware.energy import energy
from costmodel.hardware.loader import load_profile, profile_names, resolve
from costmodel.hardware.peaks import cpu_peak, peak
from costmodel.hardware.schema import (
    Cluster,
    Core,
    CpuEngine,
    Energy,
    GpuArchitecture,
    GpuEngine,
    Memory,
    NpuEngine,
    Profile,
    Range,
)

__all__ = [
    "Cluster",
    "Core",
    "CpuEngine",
    "Energy",
    "GpuArchitecture",
    "GpuEngine",
    "Memory",
    "NpuEngine",
    "Profile",
    "Range",
    "architecture",
    "check_file",
    "core",
    "cpu_peak",
    "energy",
    "load_profile",
    "peak",
    "profile_names",
    "resolve",
]
