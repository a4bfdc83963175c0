"""How fast the host issues a GPU's kernels: one thread of interpreter and driver code."""

from __future__ import annotations

from costmodel.hardware.catalog import core, usual_host
from costmodel.hardware.schema import CpuEngine, GpuEngine, Host, Profile


def issuing_host(profile: Profile, engine: str) -> tuple[Host, bool]:
    """The core that issues the kernels of a GPU engine, and whether it is known or assumed.

    Known where the profile names it, or where a CPU is on the same chip (its fastest core);
    otherwise the usual host of such a board (``hosts.yaml``).
    """
    gpu = profile.engines[engine]
    assert isinstance(gpu, GpuEngine)
    if gpu.host is not None:
        return gpu.host, True
    own = [
        Host(core=cluster.core, clock_ghz=cluster.clock_ghz)
        for cpu in profile.engines.values()
        if isinstance(cpu, CpuEngine)
        for cluster in cpu.clusters
    ]
    if own:
        return max(own, key=_decoded), True
    return usual_host("server" if gpu.datacenter else "desktop"), False


def issuing_slowness(profile: Profile, engine: str) -> float:
    """Time that the host takes for some code, over that of the usual server's.

    What such code does in a cycle grows with the decoder's width; caches hold it on any host.
    """
    return _decoded(usual_host("server")) / _decoded(issuing_host(profile, engine)[0])


def _decoded(host: Host) -> float:
    """Instructions that a core decodes in a nanosecond."""
    return core(host.core).decode_width * host.clock_ghz
