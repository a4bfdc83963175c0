"""Many networks on many devices: one file of rows, resumable, here or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.setting import setting
from costmodel.sweep.store import Store, read
from costmodel.sweep.work import COLUMNS, Row, Task, work

#: A network, and its input or "" for its own.
Network = tuple[str, str]
#: Runs tasks somewhere and yields their rows as they are done.
Runner = Callable[[Sequence[Task]], Iterator[list[Row]]]
Progress = Callable[[int, int], None]


def sweep(
    networks: Iterable[Network],
    hw: Sequence[str],
    path: str | Path,
    *,
    dtypes: Sequence[str] = ("",),
    runner: Runner | None = None,
    retry: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> list[Row]:
    """Analyse every network on every device in every dtype, and write ``path``.

    Rows that the file or its journal has are kept; with ``retry`` failed ones are done again. An
    empty dtype is the device's default. Raises `CostModelError` for an unknown device or dtype,
    before anything runs, and when the runner fails; what is done by then is kept.
    """
    settings = [(name, dtype) for name in hw for dtype in dtypes]
    for name, dtype in settings:
        setting(name, dtype=dtype or None)
    store = Store(path)
    tasks = []
    for target, shape in dict.fromkeys(networks):
        wanted = tuple(
            (name, dtype)
            for name, dtype in settings
            if not store.done((target, shape, name, dtype), retry)
        )
        if wanted:
            tasks.append(Task(target, shape, wanted))
    progress(0, len(tasks))
    for done, rows in enumerate((runner or local(1))(tasks), 1):
        store.add(rows)
        progress(done, len(tasks))
    store.finish()
    return list(store.rows.values())


def local(jobs: int) -> Runner:
    """Processes of this machine, by joblib; a single one runs the tasks itself."""

    def run(tasks: Sequence[Task]) -> Iterator[list[Row]]:
        if jobs == 1 or len(tasks) < 2:
            yield from map(work, tasks)
            return
        joblib = _imported("joblib")
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        yield from parallel(joblib.delayed(_alone)(task) for task in tasks)

    return run


def cluster(scheduler: str, timeout: float = 10.0) -> Runner:
    """The workers of a Dask cluster. A task whose worker dies runs again on another.

    Raises `CostModelError` when no scheduler answers at the address.
    """

    def run(tasks: Sequence[Task]) -> Iterator[list[Row]]:
        if not tasks:
            return
        distributed = _imported("distributed")
        with _connected(distributed.Client, scheduler, timeout) as client:
            futures = client.map(_alone, tasks, pure=False, retries=2)
            for future in distributed.as_completed(futures):
                yield _result(future)

    return run


def _alone(task: Task) -> list[Row]:
    """`work` in a process of its own, which must not take all cores for itself."""
    import torch

    torch.set_num_threads(1)
    return work(task)


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise CostModelError(
            f"this needs {error.name}: pip install 'torch-costmodel[sweep]'"
        ) from error


def _connected(client: Any, scheduler: str, timeout: float) -> Any:
    import logging

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        return client(scheduler, timeout=timeout)
    except (OSError, ValueError, TimeoutError) as error:
        raise CostModelError(
            f"no Dask scheduler answers at {scheduler}; start one with dask scheduler, and give "
            "its address, as in tcp://127.0.0.1:8786"
        ) from error


def _result(future: Any) -> list[Row]:
    try:
        rows: list[Row] = future.result()
    except Exception as error:
        raise CostModelError(
            f"a task failed on the cluster: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}; what is done is kept, so run again to go on"
        ) from error
    return rows


__all__ = ["COLUMNS", "Row", "Store", "Task", "cluster", "local", "read", "sweep"]
