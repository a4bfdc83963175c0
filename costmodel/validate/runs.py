"""Reading measured runs: network latencies, and single convolutions.

A file without the columns of its format is refused; a line that says nothing usable is listed as
skipped with the reason, and the rest is read.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from costmodel.errors import CostModelError

Mode = Literal["eval", "train"]
COLUMNS = (
    "device", "software", "execution", "dtype", "layout", "threads", "model", "input_shape",
    "batch", "latency_ms", "statistic", "source",
)  # fmt: skip
#: Single convolutions in fp32; the file's name says the device: ``conv-DEVICE.csv``.
CONVOLUTION_COLUMNS = (
    "batch", "c_in", "c_out", "kernel", "size", "stride", "padding", "latency_ms",
)  # fmt: skip
#: Times of small programs beside a run, in milliseconds.
PROBED = ("probe_ms", "probe_1_ms")
_SHAPE = re.compile(r"(?:[a-z]\w*:)?\d{1,9}(?:x\d{1,9})*", re.ASCII)
_PREFIXES = ("tf_", "legacy_", "ese_")


@dataclass(frozen=True, slots=True)
class Convolution:
    """One square convolution without bias, on ``size`` x ``size`` inputs."""

    c_in: int
    c_out: int
    kernel: int
    size: int
    stride: int
    padding: int


@dataclass(frozen=True, slots=True)
class Run:
    """One measured latency of a whole batch. ``convolution`` is set where no model is named.

    ``mode`` is ``train`` for a training step, ``probe_ms`` the time of small programs beside it
    (`costmodel.measure.pace`), and ``probe_1_ms`` their time on one thread if it has more, from the
    columns of these names where a file has them.
    """

    device: str
    software: str
    execution: str
    dtype: str
    layout: str
    threads: int | None
    model: str
    input_shape: str
    batch: int
    latency_ms: float
    statistic: str = ""
    source: str = ""
    convolution: Convolution | None = None
    mode: Mode = "eval"
    probe_ms: float | None = None
    probe_1_ms: float | None = None

    @property
    def family(self) -> str:
        """The network family that folds are split by.

        A network's is its name up to the first digit, underscore or argument, prefixes that only
        say where the weights come from aside. A convolution's is the octave of its input channels.
        """
        if self.convolution is not None:
            low = 1 << (self.convolution.c_in.bit_length() - 1)
            return f"conv {low}-{2 * low - 1} channels"
        name = self.model.partition(":")[2] or self.model
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        return re.split(r"[\d_.(]", name, maxsplit=1)[0] or name


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that is not predicted, and why."""

    model: str
    why: str
    place: str


def read(path: str | Path) -> tuple[list[Run], list[Skipped]]:
    """The runs of a file, and the lines that are none.

    Raises `CostModelError` for a file that cannot be read, is empty, or lacks a column.
    """
    file = Path(path)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = list(csv.reader(stream))
    except OSError as error:
        raise CostModelError(
            f"cannot read {file}: {error.strerror}; name a file of runs"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CostModelError(f"{file} is no CSV file in UTF-8: {error}") from error
    if not lines:
        raise CostModelError(f"{file} is empty; its first line must name the columns of the format")
    header = [name.strip() for name in lines[0]]
    if "model" not in header and "c_in" in header:
        _require(header, CONVOLUTION_COLUMNS, file)
        device = file.stem.removeprefix("conv-")
        return _rows(lines, header, file, lambda fields: _convolution(fields, device))
    _require(header, COLUMNS, file)
    return _rows(lines, header, file, _network)


def _require(header: Sequence[str], columns: Sequence[str], file: Path) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise CostModelError(
            f"{file} has no column{plural} {', '.join(missing)}; a run file has {','.join(columns)}"
        )


def _rows(
    lines: Sequence[Sequence[str]],
    header: Sequence[str],
    file: Path,
    make: Callable[[dict[str, str]], Run],
) -> tuple[list[Run], list[Skipped]]:
    runs: list[Run] = []
    skipped: list[Skipped] = []
    for number, line in enumerate(lines[1:], 2):
        if not any(field.strip() for field in line):
            continue
        fields = {name: value.strip() for name, value in zip(header, line, strict=False)}
        try:
            if len(line) != len(header):
                raise CostModelError(f"{len(line)} fields where the header has {len(header)}")
            runs.append(make(fields))
        except CostModelError as error:
            skipped.append(Skipped(fields.get("model", ""), str(error), f"{file}:{number}"))
    return runs, skipped


def _network(fields: dict[str, str]) -> Run:
    for name in ("device", "execution", "dtype", "model"):
        if not fields[name]:
            raise CostModelError(f"{name} is empty")
    if fields["layout"] not in ("nchw", "nhwc"):
        raise CostModelError(f"layout {fields['layout']!r} is neither nchw nor nhwc")
    if not _SHAPE.fullmatch(fields["input_shape"]):
        raise CostModelError(
            f"input_shape {fields['input_shape']!r} is no shape; write one without the batch, "
            "as 3x224x224"
        )
    return Run(
        device=fields["device"],
        software=fields["software"],
        execution=fields["execution"],
        dtype=fields["dtype"],
        layout=fields["layout"],
        threads=_count(fields, "threads") if fields["threads"] else None,
        model=fields["model"],
        input_shape=fields["input_shape"],
        batch=_count(fields, "batch"),
        latency_ms=_milliseconds(fields, "latency_ms"),
        statistic=fields["statistic"],
        source=fields["source"],
        mode=_mode(fields),
        probe_ms=_milliseconds(fields, "probe_ms") if fields.get("probe_ms") else None,
        probe_1_ms=_milliseconds(fields, "probe_1_ms") if fields.get("probe_1_ms") else None,
    )


def _mode(fields: dict[str, str]) -> Mode:
    match fields.get("mode", ""):
        case "" | "eval":
            return "eval"
        case "train":
            return "train"
        case other:
            raise CostModelError(f"mode {other!r} is neither eval nor train")


def _convolution(fields: dict[str, str], device: str) -> Run:
    sizes = {name: _count(fields, name) for name in CONVOLUTION_COLUMNS[1:6]}
    padding = int(fields["padding"]) if fields["padding"].isdecimal() else -1
    if padding < 0:
        raise CostModelError(f"padding {fields['padding']!r} is not a whole number")
    shape = Convolution(**sizes, padding=padding)
    if shape.size + 2 * padding < shape.kernel:
        raise CostModelError(f"a window of {shape.kernel} does not fit into {shape.size}")
    text = ", ".join(f"{name}={sizes[name]}" for name in ("c_in", "c_out", "kernel", "stride"))
    return Run(
        device=device,
        software="cuDNN",
        execution="eager",
        dtype="fp32",
        layout="nchw",
        threads=None,
        model=f"conv2d({text}, padding={padding})",
        input_shape=f"{shape.c_in}x{shape.size}x{shape.size}",
        batch=_count(fields, "batch"),
        latency_ms=_milliseconds(fields, "latency_ms"),
        convolution=shape,
    )


def _count(fields: dict[str, str], name: str) -> int:
    text = fields[name]
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise CostModelError(f"{name} {text!r} is not a positive whole number")
    return int(text)


def _milliseconds(fields: dict[str, str], name: str) -> float:
    try:
        value = float(fields[name])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise CostModelError(f"{name} {fields[name]!r} is not a positive number")
    return value


def families(runs: Sequence[Run]) -> Iterator[str]:
    """The distinct families, in order of first appearance."""
    yield from dict.fromkeys(run.family for run in runs)
