"""Copy the figures that the README quotes out of ``accuracy.md``.

    python benchmarks/quote.py

Rows of the README's table keep their order and their words; only the figures change.
"""

from __future__ import annotations

from pathlib import Path

from costmodel.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
README, REPORT = ROOT / "README.md", ROOT / "benchmarks" / "accuracy.md"
#: What the README calls a run file.
QUOTED = {
    "RTX 4090, eager, channels last": "rtx4090-eager-nhwc",
    "RTX 3090, eager, channels last": "rtx3090-eager-nhwc",
    "RTX 3090, eager, channels first": "rtx3090-eager-nchw",
    "RTX 4090, eager, channels first": "rtx4090-eager-nchw",
    "RTX 4090, torch.compile": "rtx4090-compiled-nchw",
    "T4, batch 1 to 256": "t4-batch-sweep",
    "V100, batch 1 to 256": "v100-sxm2-16gb-batch-sweep",
    "Core i9-10940X, torch.compile": "i9-10940x-compiled-nchw",
    "Snapdragon 855, Paddle Lite": "snapdragon-855-paddlelite",
    "Pixel 1, 2, 3a, XNNPACK": "xnnpack-pixel",
    "Raspberry Pi 4, ncnn": "rpi4-ncnn",
    "Raspberry Pi Zero 2 W, ncnn": "rpi-zero2w-ncnn",
    "Snapdragon 855, ncnn": "snapdragon-855-ncnn",
    "Snapdragon 835, ncnn": "snapdragon-835-ncnn",
    "Galaxy S24, NPU": "galaxy-s24-npu",
    "T4, single convolutions": "conv-t4",
    "RK3588, ncnn": "rk3588-ncnn",
    "Apple M1, ncnn, CPU and Vulkan": "apple-m1-ncnn",
    "RTX 3090, ncnn on Vulkan": "rtx3090-ncnn",
}


def main() -> None:
    """Write the README anew."""
    write_atomic(README, quoted(README.read_text(), REPORT.read_text()))


def quoted(readme: str, report: str) -> str:
    """The README's text with the figures of the report: rows, the three tiers and k·MACs."""
    figures = {}
    for line in report.splitlines():
        name, *cells = _cells(line) or [""]
        figures.setdefault(name, cells)
    lines = []
    for line in readme.splitlines(keepends=True):
        label = (_cells(line) or [""])[0]
        if label in QUOTED:
            rows, none, one, families, _, _, macs, *_ = figures[QUOTED[label]]
            line = f"| {label} | {rows} | {none} | {one} | {families} | {macs} |\n"
        lines.append(line)
    return "".join(lines)


def _cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if "|" in line else []


if __name__ == "__main__":
    main()
