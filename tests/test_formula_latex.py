"""LaTeX output goes through a TeX engine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from costmodel.formula import formula
from costmodel.formula.render import latex, markdown

PAGE = "\\documentclass{article}\\usepackage{amsmath,booktabs}\\begin{document}%s\\end{document}"


def test_compiles(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("no TeX engine; install texlive-latex-base to check LaTeX output")
    convolution = formula(
        nn.Conv2d, in_channels="C_in", out_channels="C_out", kernel_size="K", stride="S",
        padding="P", groups="g", inputs="N x C_in x H x W",
    )  # fmt: skip
    block = formula(example("mbconv").MBConv, in_ch="C", out_ch="C", inputs="N x C x H x W")
    stack = formula(example("decoder").Decoder(layers=3), inputs="int64: N x L")
    parts = [
        latex(convolution), latex(block), latex(block, by="op"), latex(stack.tidy(), by="module"),
        latex(block.tidy(), by="family"),
    ]  # fmt: skip
    (tmp_path / "page.tex").write_text(PAGE % "\n".join(parts))
    done = subprocess.run(
        [engine, "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 1000


def test_names_are_typeset(example: Callable[[str], ModuleType]) -> None:
    found = formula(
        example("depthwise_separable").DepthwiseSeparable, in_ch="C_in", out_ch="C_out",
        inputs="N x C_in x H x W",
    )  # fmt: skip
    macs = "N H W \\left(9\\,C_{\\mathrm{in}} + C_{\\mathrm{in}} C_{\\mathrm{out}}\\right)"
    assert latex(found, ["macs"]).splitlines()[1:] == [
        "\\begin{align*}", f"  \\text{{MACs}} &= {macs}", "\\end{align*}",
    ]  # fmt: skip
    assert f"| MACs | ${macs}$ |" in markdown(found, ["macs"])
