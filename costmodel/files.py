"""Writing output files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from costmodel.errors import CostModelError


def write_atomic(path: str | Path, data: str | bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never half.

    Raises `CostModelError` naming the path when it cannot be written (missing folder, no
    permission, full disk); the previous file, if any, is then untouched.
    """
    target = Path(path)
    if target.exists() and not (target.is_file() or target.is_dir()):
        _write_through(target, data)
        return
    payload = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise CostModelError(
            f"cannot write {target}: {reason}; choose another path with -o"
        ) from error


def _write_through(target: Path, data: str | bytes) -> None:
    """Write to a device or a pipe, which must not be replaced by a file."""
    try:
        target.write_bytes(data.encode() if isinstance(data, str) else data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CostModelError(
            f"cannot write {target}: {reason}; choose another path with -o"
        ) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
