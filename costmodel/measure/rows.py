"""The file of measured runs: resumed, and appended to by several processes at once.

A row is appended in one write under a lock on the file, which is cut back if the write falls
short, so that neither a full disk nor a killed process leaves half a row or loses one.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from costmodel.errors import CostModelError
from costmodel.validate.runs import COLUMNS, PROBED

#: Columns of the run format, and after them what a reader of the format may ignore.
HEADER = (*COLUMNS, "p10_ms", "p90_ms", "runs", "mode", *PROBED)
#: What a file may lack that another version has begun.
_LATER = PROBED
#: What makes two rows the same measurement.
KEY = (
    "device", "software", "execution", "dtype", "layout", "threads", "model", "input_shape",
    "batch", "mode",
)  # fmt: skip
#: Room that must be left before anything is measured.
_ROOM = 4096

Row = Mapping[str, str]
Key = tuple[str, ...]


def key_of(row: Row) -> Key:
    """What the row measured. A row without a mode, as others write them, is inference."""
    return tuple(row.get(name, "") or ("eval" if name == "mode" else "") for name in KEY)


def start(path: str | Path) -> None:
    """Make the file with its header, or see that the one there can be appended to.

    Raises `CostModelError` in one line where that cannot be: a missing folder, no permission, a
    full disk, a file of something else. The content of a file that is there stays as it is.
    """
    with _locked(Path(path)) as handle:
        header = _header(_content(handle), path)
        if header is None:
            _write(handle, _line(HEADER))
        elif missing := [name for name in HEADER if name not in (*header, *_LATER)]:
            raise CostModelError(
                f"{path} has no column{'s' * (len(missing) > 1)} {', '.join(missing)}; choose "
                "another path with -o"
            )
        if S_ISREG(os.fstat(handle).st_mode):
            size = os.fstat(handle).st_size
            _write(handle, b"\n" * _ROOM)  # blank lines are no rows, should this be cut off here
            os.ftruncate(handle, size)


def known(path: str | Path) -> set[Key]:
    """The measurements that the file holds."""
    with _locked(Path(path)) as handle:
        return _keys(_content(handle))


def append(path: str | Path, row: Row) -> bool:
    """Add a row, unless another process has added the same measurement; whether it was added.

    Raises `CostModelError` where it cannot be written; the file is then as it was before.
    """
    with _locked(Path(path)) as handle:
        content = _content(handle)
        if key_of(row) in _keys(content):
            return False
        header = _header(content, path) or HEADER
        torn = bool(content) and not content.endswith("\n")
        line = _line([row.get(name, "") for name in header])
        _write(handle, b"\n" * torn + line)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, open for appending and locked against every other process that does the same."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)  # which also unlocks
    except OSError as error:
        reason = error.strerror or str(error)
        raise CostModelError(
            f"cannot write {path}: {reason}; choose another path with -o"
        ) from error


def _content(handle: int) -> str:
    """The text of a regular file; of anything else, such as a pipe, nothing."""
    about = os.fstat(handle)
    if not S_ISREG(about.st_mode):
        return ""
    return os.pread(handle, about.st_size, 0).decode("utf-8-sig", errors="replace")


def _write(handle: int, data: bytes) -> None:
    regular = S_ISREG(os.fstat(handle).st_mode)
    size = os.fstat(handle).st_size
    try:
        written = os.write(handle, data)
        while written < len(data):  # a second write says why the first fell short
            written += os.write(handle, data[written:])
        if regular:
            os.fsync(handle)
    except OSError:
        if regular:
            os.ftruncate(handle, size)
        raise


def _line(fields: object) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)  # type: ignore[arg-type]
    return buffer.getvalue().encode()


def _header(content: str, path: str | Path) -> list[str] | None:
    """The columns of a file; ``None`` of one that is empty."""
    lines = [line for line in csv.reader(io.StringIO(content)) if line]
    if not lines:
        return None
    if not set(COLUMNS) & set(lines[0]):
        raise CostModelError(f"{path} is no file of runs; choose another path with -o")
    return [name.strip() for name in lines[0]]


def _keys(content: str) -> set[Key]:
    lines = [line for line in csv.reader(io.StringIO(content)) if line]
    header = [name.strip() for name in lines[0]] if lines else []
    return {
        key_of(dict(zip(header, line, strict=True)))
        for line in lines[1:]
        if len(line) == len(header)
    }
