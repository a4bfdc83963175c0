"""The doorbell example: its page shows what its script prints, and battery arithmetic by hand."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from costmodel import CostModelError, battery_hours


def test_the_page_shows_what_the_script_prints(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(repository / "examples" / "doorbell.py"))
    printed = capsys.readouterr().out
    page = (repository / "examples" / "doorbell.md").read_text()
    shown = re.search(r"\$ python examples/doorbell.py\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    assert printed == shown[1]
    verdicts = {tuple(line.split()[:2]): line for line in printed.splitlines()[1:]}
    for dtype in ("fp32", "int8"):
        assert "too slow and too hungry" in verdicts["timm:resnet50", dtype]
        assert verdicts["timm:mobilenetv3_small_100", dtype].endswith("fits")


def test_battery_hours_by_hand() -> None:
    """36 J a run, 100 runs an hour: 3600 J/h = 1 W; with 1 W idle, 10 Wh last 5 hours."""
    assert battery_hours(36, capacity_wh=10, per_hour=100, idle_w=1) == pytest.approx(5)


@pytest.mark.parametrize(
    ("energy", "per_hour", "words"), [(-1, 1, "energy_j is -1"), (0, 5, "nothing draws power")]
)
def test_battery_hours_refuses(energy: float, per_hour: float, words: str) -> None:
    with pytest.raises(CostModelError, match=words):
        battery_hours(energy, capacity_wh=1, per_hour=per_hour)
