"""Compound scaling: exact counts of B0 to B7, exponents, and constants that do not double."""

from __future__ import annotations

import csv
import json

import pytest
from click.testing import CliRunner

import costmodel.cli as frame
from costmodel import CostModelError
from costmodel.scaling import Constants, Family, builder_of, released, scale, scale_released
from costmodel.scaling.family import shape
from costmodel.scaling.polynomial import fit
from costmodel.scaling.search import search
from costmodel.scaling.text import search_report

MILLIONS = (385.8, 686.8, 993.6, 1827.1, 4393.8, 10266, 19068, 37746)
PAPER = Constants(1.2, 1.1, 1.15)


def run(*words):
    return CliRunner().invoke(frame.cli, ["scale", *map(str, words)])


@pytest.fixture(scope="module")
def plain(repository):
    return Family(f"{repository}/examples/scalable.py:Plain")


@pytest.fixture(scope="module")
def efficientnet():
    return scale_released("efficientnet")


def test_b0_to_b7_are_exact(efficientnet):
    assert [row.phi for row in efficientnet.rows] == list(range(8))
    for row, millions in zip(efficientnet.rows, MILLIONS, strict=True):
        assert row.macs / 1e6 == pytest.approx(millions, abs=0.06 if millions < 5000 else 0.6)
    first, second = efficientnet.rows[:2]
    assert second.ratio == pytest.approx(1.780, abs=5e-4)
    assert second.ratio == second.macs / first.macs
    # 1.1 · 1.0² · (240/224)²
    assert second.coefficient_ratio == pytest.approx(1.1 * (240 / 224) ** 2, rel=1e-12)
    assert "rounded up" in efficientnet.why


def test_the_depthwise_share_falls(efficientnet):
    shares = [row.depthwise_share for row in efficientnet.rows]
    assert shares == sorted(shares, reverse=True)
    assert 0.04 < shares[-1] < 0.06 < 0.08 < shares[0] < 0.10


def test_released_figures_are_the_published_ones(repository):
    with (repository / "specs" / "published" / "efficientnet.csv").open() as file:
        rows = list(csv.DictReader(file))
    members = released()["efficientnet"]["members"]
    assert len(rows) == len(members) == 8
    for row, member in zip(rows, members, strict=True):
        assert float(row["width"]) == member["width"]
        assert float(row["depth"]) == member["depth"]
        assert int(row["resolution"]) == member["resolution"]
        assert float(row["top1"]) == member["top1"]
        assert row["source"]


def test_published_counts_agree_with_ours(repository, efficientnet):
    with (repository / "specs" / "published" / "efficientnet.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, ours in zip(rows, efficientnet.rows, strict=True):
        assert ours.params / 1e6 == pytest.approx(float(row["params_m"]), rel=0.03)
        # The paper rounds to two digits and calls MACs FLOPs.
        assert ours.macs / 1e9 == pytest.approx(float(row["gmacs"]), rel=0.05)


def test_resnet_grows_in_depth_alone():
    found = scale_released("resnet")
    assert found.constants is None
    assert [row.macs for row in found.rows] == [4089184256, 7801405440, 11513626624]
    assert [row.coefficient_ratio for row in found.rows] == [1.0, 33 / 16, 50 / 16]
    # A constant part of stem, transitions and classifier: growth in depth is affine.
    one, two, three = (row.macs for row in found.rows)
    assert (two - one) / (33 - 16) == (three - two) / (50 - 33)


def test_exponents_of_a_family_of_ones_own(plain):
    found = scale(plain, PAPER, range(2))
    total = found.total
    assert [total.degree(i) for i in range(3)] == [1, 2, 2]
    parts = found.polynomials
    assert parts["stem"].exponent(0) == 0
    assert parts["stem"].exponent(1) == 1
    assert parts["dense"].exponent(1) == 2
    assert parts["dense"].exponent(2) == 2
    assert parts["classifier"].exponent(2) == 0
    # By hand: stem 3·9·32 on 112², stages of layers·9·C², the first layer of each from C_in.
    dense = sum(
        9 * side**2 * (a * c + (n - 1) * c * c)
        for side, a, c, n in ((56, 32, 32, 1), (28, 32, 64, 2), (14, 64, 128, 2), (7, 128, 256, 1))
    )
    assert found.rows[0].macs == 27 * 32 * 112**2 + dense + 256 * 1000


def test_exponents_of_mbconv_deviate_where_they_must(repository):
    found = scale(Family(f"{repository}/examples/mbconv.py:EfficientNet"), PAPER, range(1))
    parts = found.polynomials
    assert parts["depthwise"].exponent(1) == 1
    assert parts["squeeze-and-excitation"].exponent(2) == 0
    assert parts["dense"].exponent(1) == 2
    local = found.total.exponent
    assert 1.8 < local(1) < 1.95
    assert 1.95 < local(2) < 2.0


def test_wrong_constants_fail_with_the_factor(repository):
    assert PAPER.factor == pytest.approx(1.9203, abs=5e-5)
    assert PAPER.doubles
    wrong = Constants(1.3, 1.2, 1.2)
    assert wrong.factor == pytest.approx(2.69568)
    assert not wrong.doubles
    target = f"{repository}/examples/scalable.py:Plain"
    result = run(target, "--alpha", 1.3, "--beta", 1.2, "--gamma", 1.2, "--phi", 1)
    assert result.exit_code == 1
    assert "2.6957, NOT close to 2" in result.output


def test_the_json_is_the_contract(repository, tmp_path):
    file = tmp_path / "scale.json"
    target = f"{repository}/examples/scalable.py:Plain"
    picture = tmp_path / "scale.png"
    result = run(
        target, "--phi", 2, "--hw", "rtx4090", "--format", "json", "-o", file, "--plot", picture
    )
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["schema"] == 1
    assert found["nominal_factor"] == 1.9203
    assert found["exponents"].keys() == {"depth", "width", "resolution"}
    row = found["rows"][1]
    assert row.keys() >= {
        "phi", "target", "resolution", "macs", "params", "ratio", "two_to_phi",
        "coefficient_ratio", "depthwise_share", "latency_s",
    }  # fmt: skip
    assert row["two_to_phi"] == 2.0
    assert row["resolution"] == shape(224, 1.15) == 256
    assert row["latency_s"].keys() == {"rtx4090"}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_search_finds_constants_for_macs_and_for_a_device(plain, monkeypatch):
    from costmodel.scaling import search as module

    monkeypatch.setattr(module, "DEPTHS", (1.0, 2.0))
    monkeypatch.setattr(module, "WIDTHS", (1.0, 1.25))
    monkeypatch.setattr(module, "RESOLUTIONS", (1.0, 1.15, 1.4))
    found = search(plain, ("rtx4090",))
    assert found.trials
    assert all(1.5 <= t.constants.factor <= 3 for t in found.trials)
    best = found.doubling(None, 1)[0]
    assert all(abs(best.macs - 2) <= abs(t.macs - 2) for t in found.trials)
    device = found.doubling("rtx4090", 1)[0]
    assert all(
        abs(device.latency["rtx4090"] - 2) <= abs(t.latency["rtx4090"] - 2) for t in found.trials
    )
    page = search_report(found)
    assert "latency on rtx4090" in page
    assert f"{best.macs:.3f}" in page
    # A deeper network at equal width and size takes longer, whatever the device.
    deep = next(t for t in found.trials if t.constants == Constants(2.0, 1.0, 1.0))
    assert deep.latency["rtx4090"] > 1


def test_counts_that_are_no_polynomial_are_said_so():
    with pytest.raises(CostModelError, match="no polynomial in depth, width and resolution"):
        fit(lambda point: {"dense": 2 ** point[0] * point[1]})
    assert fit(lambda p: {"dense": 3 * p[0] * p[1] ** 2 * p[2] ** 2 + p[1]})["dense"].total == 4


def test_the_builder_of_a_released_family_makes_its_members(efficientnet):
    family = builder_of("efficientnet")
    assert family.member(1.1, 1.0).endswith("('efficientnet_b0', depth_multiplier=1.1, "
                                            "channel_multiplier=1)")  # fmt: skip
    b1 = family.table(1.1, 1.0, 240)
    assert int(b1.total.macs) == efficientnet.rows[1].macs
    assert int(b1.total.params) == efficientnet.rows[1].params


def test_a_released_family_can_be_searched(monkeypatch):
    from costmodel.scaling import search as module

    monkeypatch.setattr(module, "DEPTHS", (1.0, 1.2))
    monkeypatch.setattr(module, "WIDTHS", (1.1,))
    monkeypatch.setattr(module, "RESOLUTIONS", (1.15, 1.3))
    known = released()["efficientnet"]
    monkeypatch.setitem(known, "members", known["members"][:2])
    devices = ("pixel8", "rpi4", "rtx4090")
    words = [word for name in devices for word in ("--hw", name)]
    result = run("--family", "efficientnet", "--search", *words, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["rows"]) == 2
    assert found["search"]["latency"].keys() == set(devices)
    assert found["search"]["macs"][0]["macs"] == pytest.approx(2, abs=0.4)


def test_constants_given_beside_a_family_are_checked():
    """1.3 · 1.2² · 1.2² = 2.695680; EfficientNet's own, 1.2 · 1.1² · 1.15² = 1.92027."""
    wrong = run("--family", "resnet", "--alpha", "1.3", "--beta", "1.2", "--gamma", "1.2")
    assert "2.6957, NOT close to 2" in wrong.output
    assert wrong.exit_code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give a TARGET"),
        (("--family", "vgg"), "no family 'vgg'; there are efficientnet, resnet"),
        (("{examples}/bottleneck.py:ResNet",), "has no argument 'depth' to scale"),
        (("{examples}/scalable.py:Plain", "--alpha", "0.5"), "must be at least 1"),
        (("--family", "resnet", "--search"), "give a TARGET"),
        (("--family", "resnet", "--hw", "pixle8"), "pixle8"),
        (("{examples}/scalable.py:Plain", "--phi", "1", "--plot", "x.bmp"), "x.bmp"),
    ],
)
def test_bad_input_is_one_line(repository, words, said):
    result = run(*(word.format(examples=repository / "examples") for word in words))
    assert isinstance(result.exception, (CostModelError, SystemExit))
    assert said in (str(result.exception) + result.output)
