"""The documentation builds strictly, misses no command, and shows figures that exist.

That every block of every page runs and prints what it says is in ``test_readme.py``.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import costmodel as cm
import costmodel.cli as frame

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as ``make docs`` builds it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_strictly_with_every_page(site):
    for page in PAGES:
        name = page.relative_to(DOCS).with_suffix("")
        built = site / (name.parent if name.name == "index" else name) / "index.html"
        assert built.is_file(), page


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    loaded = re.compile(
        r'<(?:script|img)[^>]+src="(https?:[^"]+)"|rel="stylesheet" href="(https?:[^"]+)"'
    )
    for page in site.rglob("*.html"):
        assert loaded.findall(page.read_text()) == [], page


@pytest.mark.slow
def test_the_reference_shows_signatures_and_docstrings(site):
    text = (site / "reference" / "index.html").read_text()
    for name in ("analyze", "cost_function", "CostTable.group_by", "Prediction"):
        assert 'id="costmodel.' in text
        assert name.rpartition(".")[2] in text
    assert "Trace a model, cost every op" in text


def test_every_page_is_in_the_navigation():
    text = (REPOSITORY / "mkdocs.yml").read_text()
    for page in PAGES:
        assert f": {page.relative_to(DOCS)}" in text, page


def test_every_command_is_documented():
    page = (DOCS / "commands.md").read_text()
    for name in frame.cli.list_commands(None):
        assert f"`costmodel {name}" in page, name


def test_every_public_function_is_in_the_reference():
    page = (DOCS / "reference.md").read_text()
    for name in ("analyze", "trace", "cost", "predict", "formula", "cost_function", "Report",
                 "CostTable", "CostModelError"):  # fmt: skip
        assert name in cm.__all__
        assert re.search(rf"^::: costmodel\.[\w.]+\.{name}$", page, re.MULTILINE), name


def test_every_figure_that_is_shown_is_there_and_every_one_there_is_drawn_by_the_script():
    shown = {
        Path(os.path.normpath(page.parent / target))
        for page in [*PAGES, REPOSITORY / "README.md"]
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    }
    there = set((DOCS / "figures").iterdir())
    assert {path for path in shown if not path.is_file()} == set()
    tree = ast.parse((DOCS / "figures.py").read_text())
    tables = {
        ast.literal_eval(key)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if key is not None
    }
    assert {path.stem for path in there} == tables


def test_a_picture_has_words_for_who_cannot_see_it():
    for page in PAGES:
        for words in re.findall(r"!\[([^\]]*)\]", page.read_text()):
            assert len(words.split()) > 4, (page, words)


def test_a_broken_link_breaks_the_build(tmp_path):
    """The strictness is seen to act: a page with a dead link does not build."""
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("figures"))
    (tmp_path / "docs" / "index.md").write_text("[nowhere](nowhere.md)\n")
    for page in (tmp_path / "docs").rglob("*.md"):
        if page.name != "index.md":
            page.unlink()
    settings = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())
    settings.update(nav=["index.md"], plugins=[], markdown_extensions=[], theme={"name": "mkdocs"})
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "nowhere.md" in done.stdout + done.stderr
