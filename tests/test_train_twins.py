"""The exercise with twins: counts by hand, a short training that learns, and the page's numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import costmodel as cm

pytest.importorskip("sklearn", reason="scikit-learn ships the digits")

#: Input and output channels, and height at the output, of each block at 16x16.
BLOCKS = [(32, 64, 16), (64, 128, 8), (128, 128, 8), (128, 256, 4), (256, 256, 4)]


def by_hand(kind: str) -> tuple[int, int]:
    """Parameters and MACs of one image: stem, blocks, classifier; a norm has two numbers each."""
    params = 9 * 32 + 2 * 32 + 256 * 10 + 10
    macs = 16 * 16 * 32 * 9 + 256 * 10
    for c_in, c_out, size in BLOCKS:
        if kind == "standard":
            weights, norms = 9 * c_in * c_out, 2 * c_out
        else:
            weights, norms = 9 * c_in + c_in * c_out, 2 * c_in + 2 * c_out
        params += weights + norms
        macs += weights * size**2
    return params, macs


@pytest.fixture(scope="module")
def twins(example):
    return example("train_twins")


@pytest.mark.parametrize("kind", ["standard", "separable"])
def test_counts_by_hand(twins, kind):
    report = cm.analyze(twins.Twin(kind), "1x1x16x16")
    assert (report.params, report.macs) == by_hand(kind)


@pytest.mark.slow
def test_a_short_training_learns_and_prints_the_exact_counts(twins, capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n```console\n$ python examples/train_twins.py\nold\n```\nafter\n")
    twins.main(["--epochs", "3", "--hw", "epyc-genoa", "--threads", "1", "--page", str(page)])
    printed = capsys.readouterr().out
    head = "```console\n$ python examples/train_twins.py\n"
    assert page.read_text() == f"before\n{head}{printed}```\nafter\n"
    assert "1437 images to train on, 360 to test, 1x16x16; 3 epochs" in printed
    lines = {line[:28].strip(): line[28:].split() for line in printed.splitlines()}
    for row, index in (("parameters", 0), ("MACs an image", 1)):
        want = [by_hand(kind)[index] for kind in ("standard", "separable")]
        assert lines[row] == [f"{want[0]:,}", f"{want[1]:,}", f"{want[0] / want[1]:.2f}"]
    assert all(float(share) > 0.9 for share in lines["test accuracy"])
    assert all(float(took) > 0 for took in lines["measured s an epoch"])
    for twin in (0, 2):  # numbers and their % signs alternate
        shares = [
            int(lines[f"predicted bound: {b}"][twin]) for b in ("compute", "memory", "overhead")
        ]
        assert 98 <= sum(shares) <= 102


def test_the_page_has_the_counts_and_the_speed_ups_of_its_own_rows(repository):
    text = (repository / "examples" / "train_twins.md").read_text()
    block = re.search(r"\$ python examples/train_twins\.py\n(.*?)```", text, re.DOTALL)
    assert block is not None
    lines = {line[:28].strip(): line[28:].split() for line in block[1].splitlines()}
    assert lines["parameters"][:2] == [
        f"{by_hand(kind)[0]:,}" for kind in ("standard", "separable")
    ]
    assert lines["MACs an image"][:2] == [
        f"{by_hand(kind)[1]:,}" for kind in ("standard", "separable")
    ]
    flops = [
        cm.analyze(f"{repository}/examples/train_twins.py:Twin(kind='{kind}')", "64x1x16x16",
                   mode="train").flops
        for kind in ("standard", "separable")
    ]  # fmt: skip
    assert lines["FLOPs a training step"][:2] == [f"{value:,}" for value in flops]
    a, b, ratio = map(float, lines["measured s an epoch"])
    assert ratio == pytest.approx(a / b, rel=0.02)
    said = re.search(
        r"speed-up in FLOPs ([\d.]+), predicted [\d.]+, on the clock ([\d.]+)", block[1]
    )
    assert said is not None
    assert float(said[1]) == pytest.approx(flops[0] / flops[1], abs=0.05)
    assert float(said[2]) == pytest.approx(ratio, abs=0.06)
    assert all(float(share) > 0.97 for share in lines["test accuracy"])


def test_the_reasons_on_the_page_are_counted(repository):
    text = " ".join((repository / "examples" / "train_twins.md").read_text().split())
    found = {}
    for kind in ("standard", "separable"):
        target = f"{repository}/examples/train_twins.py:Twin(kind='{kind}')"
        found[kind] = cm.analyze(target, "64x1x16x16", "epyc-genoa", mode="train", threads=2)
    moved, kernels = (
        [value(found[kind]) for kind in ("separable", "standard")]
        for value in (
            lambda r: round(r.table.total.bytes / 1e6),
            lambda r: len(r.prediction.kernels),
        )
    )
    assert f"moves {moved[0]} MB before fusion against {moved[1]} MB" in text
    assert f"issues {kernels[0]} kernels a step, the standard one {kernels[1]}" in text
    separable = found["separable"]
    depthwise = separable.table.group_by("family")["depthwise"].flops / separable.flops
    assert f"{100 * depthwise:.0f} % of the separable twin's FLOPs" in text
    took = sum(k.latency_s for k in separable.prediction.kernels if k.family == "depthwise")
    assert took / separable.latency_s > 2 * depthwise


def test_cifar_is_read_from_its_binary_files(twins, tmp_path: Path):
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        record = np.full(3073, 255, np.uint8)
        record[0] = 7
        record[1] = 0  # red of the first pixel
        np.stack([record, record]).tofile(tmp_path / name)
    name, x, y, x_test, y_test = twins.cifar(tmp_path)
    assert (name, x.shape, x_test.shape) == ("CIFAR-10", (10, 3, 32, 32), (2, 3, 32, 32))
    assert y.tolist() == [7] * 10
    assert y_test.tolist() == [7, 7]
    assert x[0, 0, 0, 0] == 0
    assert x[0, 1, 0, 0] == 1


def test_every_fifth_digit_is_held_back(twins):
    _, x, y, x_test, y_test = twins.digits()
    assert (x.shape, x_test.shape) == ((1437, 1, 16, 16), (360, 1, 16, 16))
    assert set(y.tolist()) == set(y_test.tolist()) == set(range(10))
    assert 0 <= float(x.min()) < float(x.max()) <= 1
