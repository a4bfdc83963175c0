"""Where the rows of a sweep are kept: a Parquet or DuckDB file, and a journal while it runs.

Finished tasks are appended to ``FILE.journal`` at once, a line each, so that a sweep that is cut
off resumes; a line that was cut off is done again. At the end everything goes into the file, which
appears whole, and the journal is removed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.files import write_atomic
from costmodel.sweep.work import COLUMNS, KEY, Row

Key = tuple[str, ...]
_SUFFIXES = (".parquet", ".duckdb")
_TABLE = "sweep"


class Store:
    """The rows of one sweep by key. Raises `CostModelError` for a file of another kind."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix not in _SUFFIXES:
            raise CostModelError(f"{path}: write to a .parquet or a .duckdb file")
        if not self.path.absolute().parent.is_dir():
            raise CostModelError(f"cannot write {path}: no such folder; make it, or choose another")
        self.rows: dict[Key, Row] = {}
        if self.path.exists():
            self._keep(read(self.path))
        self._keep(self._journalled())

    @property
    def journal(self) -> Path:
        """The journal's path."""
        return self.path.with_name(f"{self.path.name}.journal")

    def done(self, key: Key, again: bool) -> bool:
        """Whether a row is there; with ``again`` a failed one does not count."""
        row = self.rows.get(key)
        return row is not None and not (again and row["error"])

    def add(self, rows: Sequence[Row]) -> None:
        """Keep the rows of one task and journal them."""
        self._keep(rows)
        try:
            with self.journal.open("a") as file:
                file.write(json.dumps(list(rows)) + "\n")
        except OSError as error:
            raise CostModelError(f"cannot write {self.journal}: {error.strerror}") from error

    def finish(self) -> None:
        """Write the file, in a fixed order, and remove the journal."""
        rows = [self.rows[key] for key in sorted(self.rows)]
        try:
            payload = _parquet(rows) if self.path.suffix == ".parquet" else _duckdb(rows)
        except ImportError as error:
            raise CostModelError(
                f"writing {self.path} needs {error.name}: pip install 'torch-costmodel[sweep]'; "
                f"the rows are in {self.journal}"
            ) from error
        write_atomic(self.path, payload)
        self.journal.unlink(missing_ok=True)

    def _keep(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows[key_of(row)] = row

    def _journalled(self) -> list[Row]:
        if not self.journal.exists():
            return []
        found: list[Row] = []
        for line in self.journal.read_text(errors="replace").splitlines():
            try:
                found += json.loads(line)
            except json.JSONDecodeError:
                continue
        return found


def key_of(row: Row) -> Key:
    """What tells rows apart."""
    return tuple(str(row[name] or "") for name in KEY)


def read(path: str | Path) -> list[Row]:
    """The rows of a sweep's file. Raises `CostModelError` when it is none."""
    try:
        if Path(path).suffix == ".duckdb":
            rows = _from_duckdb(path)
        else:
            import pyarrow.parquet as pq

            rows = pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise CostModelError(f"{path}: no such file; make one with costmodel sweep") from None
    except ImportError as error:
        raise CostModelError(
            f"reading {path} needs {error.name}: pip install 'torch-costmodel[sweep]'"
        ) from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CostModelError(f"{path} is no file of costmodel sweep: {reason}") from error
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing:
        raise CostModelError(f"{path} is no file of costmodel sweep: no column {missing[0]}")
    return rows


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(_arrow(rows), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _arrow(rows: Sequence[Row]) -> Any:
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema(
        [(name, types[kind]) for name, kind in COLUMNS.items()], metadata={"costmodel": "sweep 1"}
    )
    return pa.Table.from_pylist(list(rows), schema=schema)


def _duckdb(rows: Sequence[Row]) -> bytes:
    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.duckdb"
        with duckdb.connect(str(path)) as connection:
            connection.register("incoming", _arrow(rows))
            connection.execute(f"CREATE TABLE {_TABLE} AS SELECT * FROM incoming")
        return path.read_bytes()


def _from_duckdb(path: str | Path) -> list[Row]:
    import duckdb

    if not Path(path).is_file():
        raise FileNotFoundError(path)
    with duckdb.connect(str(path), read_only=True) as connection:
        cursor = connection.execute(f"SELECT * FROM {_TABLE}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
