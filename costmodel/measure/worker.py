"""A process that measures, so that a runtime that crashes takes no row with it.

Requests and answers are lines of JSON over pipes; whatever else the process prints goes to a file,
whose last line explains a crash. It is replaced by a fresh one when it dies.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from costmodel.errors import CostModelError
from costmodel.measure import host, per_op
from costmodel.measure import job as work
from costmodel.measure.allocator import keep_freed_memory
from costmodel.measure.denormals import flushed
from costmodel.measure.job import Job

QUESTIONS: dict[str, Callable[[Job], Any]] = {
    "describe": work.describe,
    "perform": work.perform,
    "profile": per_op.profile,
}
#: ``-P`` and an appended path: no module of the current folder may hide a library.
_START = "import sys; sys.path.append({!r}); from costmodel.measure.worker import serve; serve({})"


class Worker:
    """Measures in a process of its own, with its threads pinned; a context manager."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def ask(self, question: str, job: Job) -> Any:
        """The answer of the function of that name in `QUESTIONS`.

        Raises `CostModelError` with the function's own line, or with how the process died.
        """
        process = self._process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"question": question, "job": asdict(job)}
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            why = self._death()
            self.close()
            raise CostModelError(f"{job.execution} {why} at {job.target}; its row is left out")
        answer = json.loads(line)
        if "error" in answer:
            raise CostModelError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process and everything that it started, whatever they are doing."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()
            self._process.wait()
        if self._log is not None:
            self._log.close()
        self._process = self._log = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).resolve().parents[2])
        count = str(self._threads)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _START.format(root, count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            env={**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count},
            start_new_session=True,  # an interrupt is for us, who then close it
        )  # fmt: skip

    def _death(self) -> str:
        assert self._process is not None
        assert self._log is not None
        status = self._process.wait()
        if status < 0:
            with suppress(ValueError):
                return f"crashed with {signal.Signals(-status).name}"
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        return f"ended with status {status}" + (f" ({said[-1][:200]})" if said else "")


def serve(threads: int) -> None:
    """Answer requests until there are no more; what runs here prints into the log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    host.pin(threads)  # before any library counts the cores
    keep_freed_memory()
    for line in sys.stdin:
        request = json.loads(line)
        fields = request["job"] | {"inputs": tuple(request["job"]["inputs"])}
        job = Job(**fields)
        try:
            with flushed():
                answer = {"result": QUESTIONS[request["question"]](job)}
        except (Exception, SystemExit) as error:
            answer = {"error": _words(error, job)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _follow(parent: int) -> None:
    """End with the parent, however it ended: nobody waits for what is under way here."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def _words(error: BaseException, job: Job) -> str:
    if isinstance(error, CostModelError):
        return str(error)
    said = " ".join(str(error).split())[:300] or "no message"
    return f"{job.target}: {type(error).__name__}: {said}"
