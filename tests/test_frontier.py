"""The frontier exercise: its commands run, and what it says of the frontiers is so."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner

import costmodel.cli as frame
from costmodel import accuracy
from costmodel.pick import Budget, pick
from costmodel.sweep import read


@pytest.fixture(scope="module")
def folder(repository, tmp_path_factory):
    """Where the commands of the page have run."""
    folder = tmp_path_factory.mktemp("frontier")
    (folder / "specs").symlink_to(repository / "specs")
    page = (repository / "examples" / "frontier.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for b in blocks for line in b.replace("\\\n", " ").splitlines()]
    assert len(lines) == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COSTMODEL_CACHE", str(folder / "cache"))
        for line in lines:
            words = shlex.split(line)
            extra = ["--jobs", "1"] if words[1] == "sweep" else []
            result = CliRunner().invoke(frame.cli, [*words[1:], *extra])
            assert result.exit_code == 0, (line, result.output)
    return folder


def front(folder, repository, hw, cost="latency_s"):
    scores = accuracy.read(repository / "specs" / "published" / "frontier.csv")
    found = pick(scores, read(folder / "frontier.parquet"), hw, Budget())
    ordered = sorted(found.rows, key=lambda row: getattr(row, cost))
    best, names = 0.0, []
    for row in ordered:
        if row.top1 > best:
            best = row.top1
            names.append(row.target.removeprefix("timm:"))
    return names


EFFICIENT = [f"tf_efficientnet_b{i}" for i in range(5)]


def test_the_pictures_are_there(folder):
    for name in ("flops", "phone", "gpu"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_over_flops_and_on_the_phone_the_frontier_is_efficientnet(folder, repository):
    assert front(folder, repository, "pixel8", "macs") == EFFICIENT
    assert front(folder, repository, "pixel8") == EFFICIENT


def test_on_the_gpu_the_order_changes(folder, repository):
    names = front(folder, repository, "rtx4090")
    assert names[0] == "resnet50"
    assert set(EFFICIENT[2:]) <= set(names)


def test_the_figures_of_the_page(folder, repository):
    rows = {r["target"]: r for r in read(folder / "frontier.parquet")}
    macs = {name: rows[f"timm:{name}"]["macs"] for name in (*EFFICIENT, "resnet50", "resnet101")}
    assert macs["resnet50"] / macs["tf_efficientnet_b0"] == pytest.approx(10.6, abs=0.05)
    assert macs["resnet101"] > macs["tf_efficientnet_b4"]
