"""The campaign that timed single convolutions: its order, and the drift that it lets one see."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.machine.constants import values_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def drift(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("scipy")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("convolutions")
    for name in ("convolutions", "fit_constants"):
        sys.modules.pop(name, None)


def test_the_campaign_is_in_one_order_of_small_convolutions(drift: Any) -> None:
    order = drift.campaign(300)
    assert sorted(order.values()) == list(range(300))
    assert all(18 * c_in * c_out * size**2 <= 1e9 for _, c_in, c_out, size in order)
    assert list(order) == list(drift.campaign(400))[:300]


def test_the_campaign_holds_every_published_row(drift: Any, shared_data: Path) -> None:
    order = drift.campaign()
    for path in sorted((shared_data / "kernels").glob("conv-*.csv")):
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert all(
            tuple(int(row[n]) for n in ("batch", "c_in", "c_out", "size")) in order for row in rows
        )


def test_a_known_drift_is_found_beside_the_constants(drift: Any, tmp_path: Path) -> None:
    file = tmp_path / "conv-t4.csv"
    lines = [f"{b},{i},{o},3,{s},1,1,1.0" for b, i, o, s in list(drift.campaign())[::100]]
    file.write_text("batch,c_in,c_out,kernel,size,stride,padding,latency_ms\n" + "\n".join(lines))
    (device,) = drift.devices_of(drift.load([str(file)], drift.BLOCK, 1))
    assert device.position.tolist() == list(range(0, 5000, 100))

    host = drift.Host(50e-6, 80e-9)
    truth = {**values_of(drift.BLOCK), "simt_efficiency": 0.7}
    busy = device.seconds({**truth, **drift.UNISSUED})
    measured = replace(device, measured=busy + host.late(device.position))
    assert np.allclose(measured.error(truth, host), 0)
    constants, hosts = drift.fit([measured], values_of(drift.BLOCK), ("simt_efficiency",))
    assert constants["simt_efficiency"] == pytest.approx(0.7, rel=0.02)
    assert hosts["t4"].each == pytest.approx(80e-9, rel=0.1)
