"""Every command of the worked exercise prints what the page says it prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from costmodel.cli import cli

PAGE = Path(__file__).resolve().parents[1] / "examples" / "homework.md"
BLOCKS = re.findall(r"```console\n\$ (.*)\n((?:.*\n)*?)```", PAGE.read_text())


def test_every_block_is_found() -> None:
    assert len(BLOCKS) == PAGE.read_text().count("```") // 2 == 4


@pytest.mark.parametrize(("command", "printed"), BLOCKS, ids=range(len(BLOCKS)))
def test_block(
    command: str, printed: str, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.chdir(repository)
    program, *words = shlex.split(command)
    assert program == "costmodel"
    result = CliRunner().invoke(cli, words, prog_name="costmodel")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == printed
