"""Every block of the README and of the documentation runs, and prints what they say it prints.

``bash`` blocks run line by line, ``python`` blocks of one page share their names. A ``text`` block
right after a block is what that block prints, to the letter.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import costmodel.cli as frame

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *(
    str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "docs").rglob("*.md"))
)]  # fmt: skip
#: Lines that set the machine up, which whoever runs the tests has done.
SET_UP = ("make", ".", "git", "pip", "python3", "cd")
SHELL = set("|<>;&$`*")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and where it is."""

    language: str
    text: str
    page: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    text = (REPOSITORY / page).read_text()
    return [
        Block(found[1], found[2], page, text.count("\n", 0, found.start()) + 1)
        for found in FENCE.finditer(text)
    ]


def commands(text: str) -> Iterator[str]:
    """The commands of a ``bash`` block without comments and set-up."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] not in SET_UP:
            yield line


def run(command: str, folder: Path) -> str:
    """The output of one command, in this process where it is a plain call of costmodel."""
    words = shlex.split(command, comments=True)
    if words[0] == "costmodel" and not SHELL & set(re.sub(r"'[^']*'|\"[^\"]*\"", "", command)):
        done = CliRunner().invoke(frame.cli, words[1:])
        assert done.exit_code == 0, f"{command}: {done.stderr or done.exception}"
        return done.stdout
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert shell.returncode == 0, f"{command}: {shell.stderr}"
    return shell.stdout


def execute(block: Block, names: dict[str, Any]) -> str:
    """The output of one ``python`` block."""
    stream = io.StringIO()
    # As many empty lines in front as the page has, so that a traceback points into it.
    code = compile("\n" * block.line + block.text, block.page, "exec")
    with contextlib.redirect_stdout(stream):
        exec(code, names)  # noqa: S102 - the page is ours
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch):
    for folder in ("examples", "data", "specs"):
        if (REPOSITORY / folder).is_dir():
            (tmp_path / folder).symlink_to(REPOSITORY / folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = None
    for block in blocks(page):
        match block.language:
            case "bash":
                printed = "".join(run(command, tmp_path) for command in commands(block.text))
            case "python":
                printed = execute(block, names)
            case "text" if printed is not None:
                assert printed == block.text, f"{page}:{block.line}"
                printed = None
            case _:
                printed = None


def test_the_readme_has_blocks_of_each_kind():
    assert {"bash", "python", "text"} <= {block.language for block in blocks("README.md")}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("make demo\n", []),
        ("# nothing\n\n", []),
        (". .venv/bin/activate\ncostmodel hw list\n", ["costmodel hw list"]),
        ("costmodel hw \\\n  list  # all\n", ["costmodel hw    list  # all"]),
    ],
)
def test_set_up_and_comments_are_not_run(text, wanted):
    assert list(commands(text)) == wanted


def test_a_block_that_fails_is_seen(tmp_path):
    with pytest.raises(AssertionError, match=r"nothing\.py: there is no such file"):
        run("costmodel analyze nothing.py", tmp_path)
    with pytest.raises(AssertionError, match="false"):
        run("false | cat", tmp_path)
    with pytest.raises(ZeroDivisionError):
        execute(Block("python", "1 / 0", "page.md", 3), {})


def test_readme_quotes_the_accuracy_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    quote = importlib.import_module("quote")
    readme = (REPOSITORY / "README.md").read_text()
    assert quote.quoted(readme, (REPOSITORY / "benchmarks" / "accuracy.md").read_text()) == readme
    assert all(f"| {label} |" in readme for label in quote.QUOTED)
