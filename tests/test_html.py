"""The HTML page, in a real Chromium: it loads, sorts, switches devices, and needs nothing else."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import costmodel as cm
import costmodel.cli as frame
from costmodel.errors import CostModelError
from costmodel.plot import roofline
from costmodel.report import typeset, units
from costmodel.report.html import DEVICES, render, roofline_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1280,1400",
)  # fmt: skip


class Net(nn.Module):
    """Ops of several families, two of them outside any module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide = nn.Conv2d(16, 64, 1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.wide(self.deep(self.stem(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def report() -> cm.Report:
    return cm.analyze(Net(), "1x3x64x64", hw="pixel8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver on this machine")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, report, tmp_path):
    """The page of `report`, open at its file:// address, without a word on the console."""
    return open_page(browser, tmp_path, render(report, ["rtx4090", "rpi4"]))


def open_page(browser: Any, folder: Path, page: str) -> Any:
    path = folder / "page.html"
    path.write_text(page)
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    return browser


def texts(browser: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
    return list(browser.execute_script(script, selector))


def press(browser: Any, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def choose(browser: Any, device: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    Select(browser.find_element(By.ID, "device")).select_by_visible_text(device)


# -- the file ------------------------------------------------------------------------------------


def test_a_page_refers_to_nothing_outside_itself(report):
    page = render(report)
    outside = set(re.findall(r"https?://[^\s\"'`]+", page))
    assert all(address.startswith("http://www.w3.org/") for address in outside), outside
    assert re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "default-src 'none'" in page


def test_a_page_offers_the_usual_devices_after_the_reports_own(report):
    data = data_of(render(report))
    names = [device["roofline"]["hw"].partition(":")[0] for device in data["devices"]]
    assert names[0] == "pixel8"
    assert set(names) == {*DEVICES}


def test_the_roofline_of_a_page_is_the_data_of_the_command(report):
    panel = data_of(render(report, []))["devices"][0]["roofline"]
    wanted = roofline.data(report.target, report.prediction)
    assert [point["name"] for point in panel["points"]] == [p["name"] for p in wanted["points"]]
    assert panel["roofs"]["memory"][0]["bytes_per_s"] == pytest.approx(
        wanted["roofs"]["memory"][0]["bytes_per_s"], rel=1e-4
    )


def test_a_device_that_does_not_exist_is_an_error(report):
    with pytest.raises(CostModelError, match="pixel99"):
        render(report, ["pixel99"])


def test_a_name_cannot_break_out_of_the_page(report):
    page = render(replace(report, target="</script><b id=out>"), [])
    assert "<b id=out>" not in page
    assert data_of(page)["target"] == "</script><b id=out>"


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_several_devices_are_for_pages_only(repository, tmp_path):
    words = ["analyze", str(repository / "examples/conv.py:StandardConv(in_ch=4, out_ch=8)"),
             "--input", "1x4x8x8", "--hw", "rpi4", "--hw", "rtx4090"]  # fmt: skip
    refused = CliRunner().invoke(frame.cli, words)
    assert refused.exit_code == 2
    assert "give one --hw or --format html" in refused.stderr
    path = tmp_path / "out.html"
    done = CliRunner().invoke(frame.cli, [*words, "--format", "html", "-o", str(path)])
    assert done.exit_code == 0, done.stderr
    shown = [device["roofline"]["hw"] for device in data_of(path.read_text())["devices"]]
    assert shown == ["rpi4:cpu", "rtx4090:gpu"]


@pytest.mark.parametrize(
    ("module", "size", "factors", "total"),
    [
        (nn.Conv2d(8, 16, 3, padding=1, groups=4), (2, 8, 6, 5),
         "N C_out H W C_in/g k_h k_w", 2 * 16 * 6 * 5 * 2 * 9),
        (nn.ConvTranspose2d(8, 16, 2, stride=2), (1, 8, 4, 4), "N C_in H W C_out k_h k_w",
         8 * 16 * 16 * 4),
        (nn.Linear(12, 5), (2, 7, 12), "N L C_in C_out", 2 * 7 * 12 * 5),
    ],
)  # fmt: skip
def test_a_formula_gives_the_count_of_its_row(module, size, factors, total):
    table = cm.analyze(module, "x".join(map(str, size))).table
    row = next(row for row in table.rows if row.cost and row.cost.macs)
    assert [name for name, _ in typeset.macs(row)] == factors.split()
    assert row.cost.macs == total
    product = 1
    for _, value in typeset.macs(row):
        product *= value
    assert product == total


# -- in the browser ------------------------------------------------------------------------------


def test_the_page_shows_the_totals_and_the_sentence(opened, report):
    cards = dict(zip(texts(opened, "#cards dt"), texts(opened, "#cards dd"), strict=True))
    assert cards["parameters"] == str(report.params)
    assert cards["MACs"] == "6.554 M"  # 27·16·64² + 9·16·64² + 16·64·64² + 64·10
    assert "bound" in texts(opened, "#advice")[0]
    assert not opened.execute_script("return document.getElementById('warning').offsetHeight")


def test_switching_the_device_changes_what_depends_on_it_and_nothing_else(opened, report):
    macs = 'tr[data-path="stem"] td:nth-child(3)'
    time = 'tr[data-path="stem"] td:nth-child(6)'

    def state() -> list[list[str]]:
        return [texts(opened, s) for s in ("#cards dd", "#advice", time, "#roofline text")]

    before, counts = state(), texts(opened, macs)
    other = texts(opened, "#device option")[1]
    assert other.startswith("rtx4090:gpu")
    choose(opened, other)
    after = state()
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert texts(opened, macs) == counts
    predicted = cm.predict(report.table, "rtx4090").latency_s
    shown, unit = texts(opened, "#cards dd")[0].split()[:2]
    scale = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit[:2].rstrip("8")]
    assert float(shown) * scale == pytest.approx(predicted, rel=1e-3)
    choose(opened, texts(opened, "#device option")[0])
    assert state() == before


def test_columns_sort_both_ways_and_back(opened):
    names = "tr[data-level='1'] td:first-child"
    order = texts(opened, names)
    press(opened, "th[data-key=macs] button")
    assert texts(opened, "th[aria-sort=descending]") == ["MACs ↓"]
    falling = texts(opened, names)
    assert falling[:2] == [n for n in falling if "wide" in n] + [n for n in falling if "stem" in n]
    press(opened, "th[data-key=macs] button")
    rising = texts(opened, names)
    assert "wide" in rising[-1]
    assert "stem" in rising[-2]
    press(opened, "th[data-key=macs] button")
    assert texts(opened, names) == order


def test_the_tree_opens_by_keyboard_and_shows_formulas(opened):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def keys(*pressed: str) -> None:
        ActionChains(opened).send_keys(*pressed).perform()

    assert texts(opened, "tr.op[data-level='2']") == []
    opened.find_element(By.CSS_SELECTOR, 'tr[data-path="deep"] button').send_keys(Keys.ARROW_RIGHT)
    assert len(texts(opened, "tr.op")) == 2  # the depthwise convolution, and the mean of the model
    math = texts(opened, "tr.op math")
    assert "N·Cout·H·W·Cing·kh·kw" in math
    assert any("589,824" in text for text in math)
    keys(Keys.ARROW_UP)
    assert "stem" in opened.switch_to.active_element.text
    keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert opened.switch_to.active_element.text.startswith("▸ 0")
    keys(Keys.ARROW_LEFT)
    assert "stem" in opened.switch_to.active_element.text
    keys(Keys.ARROW_LEFT)
    assert texts(opened, 'tr[data-path="stem.0"]') == []


def test_the_search_finds_ops_in_closed_modules(opened):
    opened.execute_script(
        "const f = document.getElementById('find'); f.value = 'batch_norm';"
        "f.dispatchEvent(new Event('input'))"
    )
    assert len(texts(opened, "tr.op")) == 1
    assert texts(opened, "tr.module td:first-child")[0].startswith("▸ stem")


def test_the_roofline_filters_and_tells(opened):
    count = "return document.querySelectorAll('#roofline .point').length"
    every = opened.execute_script(count)
    press(opened, "input[data-family=depthwise]")
    without = opened.execute_script(count)
    assert without == every - 1
    press(opened, "input[data-family=depthwise]")
    opened.execute_script(
        "const f = document.getElementById('roof-module'); f.value = 'deep';"
        "f.dispatchEvent(new Event('input'))"
    )
    assert opened.execute_script(count) == 1
    opened.execute_script(
        "const s = document.querySelector('#roofline svg'); s.focus();"
        "s.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    )
    said = texts(opened, "#tip")[0]
    assert said.startswith("deep\ndepthwise")
    assert "FLOPs per byte" in said


def test_the_memory_curve_tells_its_peak(opened, report):
    peak = report.peak_activation_bytes
    assert any(f"peak {units.size(peak)} in" in text for text in texts(opened, "#memory text"))


def test_the_page_prints(opened):
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


def test_an_incomplete_count_says_so_first(browser, report, tmp_path):
    rows = tuple(
        replace(row, cost=None, family="unsupported") if row.op.target == "aten.relu" else row
        for row in report.table.rows
    )
    lacking = replace(report, table=replace(report.table, rows=rows), prediction=None)
    opened = open_page(browser, tmp_path, render(lacking, []))
    assert "no cost rule for aten.relu (1 × in stem.2)" in texts(opened, "#warning")[0]
    assert opened.execute_script("return document.getElementById('warning').offsetHeight") > 0
    assert texts(opened, "#cards dd")[1].startswith("≥ ")


def test_a_page_of_a_thousand_ops_is_small_and_quick(browser, tmp_path):
    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())

    report = cm.analyze(nn.Sequential(*(block() for _ in range(334))), "1x16x16x16", hw="rpi4")
    assert len(report.table) >= 1000
    page = render(report)
    assert len(page.encode()) < 5_000_000
    opened = open_page(browser, tmp_path, page)
    done = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
    assert 0 < opened.execute_script(done) < 2000


def test_a_page_of_rooflines_has_nothing_else(browser, report, tmp_path):
    made = cm.predict(report.table, "rtx4090")
    panels = [roofline.data("net", p) for p in (report.prediction, made)]
    opened = open_page(browser, tmp_path, roofline_page(panels))
    assert opened.execute_script("return document.getElementById('tree').offsetHeight") == 0
    assert len(texts(opened, "#device option")) == 2
    assert opened.execute_script("return document.querySelectorAll('.point').length") > 3


def test_a_screenshot_is_not_blank(opened, tmp_path):
    import numpy as np
    from matplotlib.image import imread

    path = tmp_path / "page.png"
    opened.save_screenshot(str(path))
    pixels = np.asarray(imread(path))[..., :3]
    assert len(np.unique((pixels.reshape(-1, 3) * 255).astype(int), axis=0)) > 20
