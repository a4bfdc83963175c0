"""The C library's allocator, made to keep what was freed.

By default glibc gives large blocks back to the system and takes them anew, and every new page
costs a fault: MobileNetV2 at batch 8 took 126 or 216 ms depending on what the process had freed
before. Measurements would depend on their order; runtimes in production keep their memory.
"""

from __future__ import annotations

import ctypes
import sys

#: ``malloc.h``: blocks taken with mmap, and bytes at the heap's end that are given back.
_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for itself; whether the allocator can be told so."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
