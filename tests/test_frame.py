"""The package and its command: lazy imports, exit statuses, one line for every error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import IO

import click
import pytest
from click.testing import CliRunner, Result

import costmodel
import costmodel.cli as frame
from costmodel.errors import CostModelError

PACKAGE = Path(costmodel.cli.__file__).resolve().parents[1]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch):
    """Give the group one command, ``act``, that does what it is told: ``raising(exception)``."""

    def install(outcome: BaseException | int | None) -> None:
        @click.command()
        @click.option("--width", type=int)
        @click.pass_context
        def act(ctx: click.Context, width: int | None) -> None:
            if isinstance(outcome, BaseException):
                raise outcome
            click.echo("done")
            if outcome:
                ctx.exit(outcome)

        module = ModuleType("costmodel.cli.act")
        module.act = act  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(frame, "COMMANDS", {"act": "Does what it is told."})
        monkeypatch.setattr(frame, "find_spec", lambda name: name in sys.modules)

    return install


def run(*words: str) -> Result:
    return CliRunner().invoke(frame.cli, words)


def python(
    *words: str, stdout: IO[str] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter of the tests on ``words``."""
    return subprocess.run(
        [sys.executable, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60
    )


# -- what the command imports ---------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"], []])
def test_help_imports_no_torch_and_no_command(words):
    code = (
        "import sys, costmodel.cli as c\n"
        "try: c.cli.main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'sympy', 'numpy', 'matplotlib', 'networkx', 'pydantic', 'rich'}\n"
        "loaded = [m for m in sys.modules if m in heavy or m.startswith('costmodel.cli.')]\n"
        "sys.exit(f'imported {loaded}' if loaded else 0)"
    )
    done = python("-c", code, *words)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_lists_the_commands_that_are_there_and_only_those(raising):
    raising(None)
    listed = run("--help").stdout
    assert re.search(r"^  act +Does what it is told\.$", listed, re.MULTILINE)
    frame.COMMANDS["ghost"] = "Has no module."
    assert "ghost" not in run("--help").stdout
    assert run("ghost").exit_code == 2


def test_every_command_of_the_table_is_a_click_command_where_its_module_exists():
    with click.Context(frame.cli) as ctx:
        for name in frame.cli.list_commands(ctx):
            command = frame.cli.get_command(ctx, name)
            assert isinstance(command, click.Command), name
            assert command.name == name


def test_a_help_line_fits_on_eighty_columns():
    assert max(len(line) for line in frame.COMMANDS.values()) <= 80 - len("  roofline  ")


# -- how a run ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "status"), [(None, 0), (1, 1)])
def test_the_status_of_a_command_is_the_status_of_the_run(raising, outcome, status):
    raising(outcome)
    done = run("act")
    assert (done.exit_code, done.stdout, done.stderr) == (status, "done\n", "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CostModelError("model.py: no model;\n name one"), "model.py: no model; name one"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "a.csv: No such file or dir"),
        (OSError(28, "No space left on device"), "cannot write the output: No space left on d"),
        (MemoryError(), "out of memory; try a smaller --batch or --input"),
        (KeyError("conv"), "internal error, KeyError: 'conv'; --debug shows where"),
    ],
)
def test_an_error_is_one_line_and_status_2(raising, error, line):
    raising(error)
    done = run("act")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"costmodel: error: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["atc"], "no command 'atc'; did you mean 'act'? (try costmodel --help)"),
        (["--wat"], "No such option '--wat' (try costmodel --help)"),
        (["act", "--width", "x"], "Invalid value for '--width': 'x' is not a valid integer"),
        (["act", "more"], "Got unexpected extra argument (more) (try costmodel act --help)"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(raising, words, line):
    raising(None)
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"costmodel: error: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--debug", "act"], ["act", "--debug"]])
def test_debug_lets_the_exception_through(raising, words):
    raising(CostModelError("model.py: no model"))
    done = run(*words)
    assert isinstance(done.exception, CostModelError)


def test_an_interrupt_is_one_line_and_status_130(raising):
    raising(KeyboardInterrupt())
    done = run("act")
    assert (done.exit_code, done.stderr) == (130, "costmodel: interrupted\n")


def process(body: str, **streams: IO[str]) -> subprocess.CompletedProcess[str]:
    """Run a real process whose command ``act`` does what ``body`` says."""
    code = (
        "import os, signal, sys, types, click, costmodel.cli as frame\n"
        "module = sys.modules['costmodel.cli.act'] = types.ModuleType('costmodel.cli.act')\n"
        f"module.act = click.Command('act', callback=lambda: {body})\n"
        "frame.COMMANDS, frame.find_spec = {'act': ''}, lambda name: True\n"
        "frame.cli.main(['act'])"
    )
    return python("-c", code, **streams)


def test_an_interrupt_signal_ends_a_real_process_so_too():
    # A process started in the background inherits an ignored SIGINT.
    listen = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    done = process(f"({listen}, os.kill(os.getpid(), signal.SIGINT))")
    assert (done.returncode, done.stderr) == (130, "costmodel: interrupted\n")


@pytest.mark.parametrize("write", ["print('a')", "click.echo('a')", "print('a' * 100_000)"])
def test_a_closed_pipe_is_quiet(write):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = process(write, stdout=closed)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("write", ["print('a')", "click.echo('a')", "print('a' * 100_000)"])
def test_a_full_disk_is_one_line(write):
    with Path("/dev/full").open("w") as full:
        done = process(write, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "costmodel: error: cannot write the output: No space left on device\n"


# -- what is shipped ------------------------------------------------------------------------------


def test_the_version_is_the_distribution_s(repository):
    declared = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"costmodel {declared}\n")


def test_the_suite_meets_the_built_wheel_when_it_says_so(repository):
    if not os.environ.get("COSTMODEL_TEST_WHEEL"):
        pytest.skip("not a run against the wheel; `make test` makes one")
    assert "site-packages" in PACKAGE.parts
    shipped = {path.name for path in PACKAGE.parent.iterdir()}
    assert not shipped & {"tests", "examples", "benchmarks", "specs", "cli.py"}


def test_the_package_has_its_type_marker_and_every_data_file(repository):
    source = repository / "costmodel"
    wanted = {
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    missing = sorted(str(path) for path in wanted if not (PACKAGE / path).is_file())
    assert Path("py.typed") in wanted
    assert missing == []


def test_the_constraints_pin_every_requirement(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    pins = {}
    for line in (repository / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[name.lower().replace("_", "-")] = version
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    names = {re.match(r"[\w-]+", item)[0].lower().replace("_", "-") for item in wanted}
    assert names - set(pins) == {"torch-costmodel"}
    assert (pins["torch"], pins["torchvision"]) == ("2.13.0", "0.28.0")


def test_the_checkout_s_shim_is_the_command(repository):
    done = python(str(repository / "cli.py"), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: costmodel ")
