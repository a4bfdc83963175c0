"""The rows of a summary: counts and predicted time of each module, op or family."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from costmodel.prediction import KernelTime
from costmodel.table import By, Totals

if TYPE_CHECKING:
    from costmodel.report.findings import Findings

#: A module tree is opened as deep as it stays within this many lines.
TREE_LINES = 20
#: The line of the ops that the model runs outside its modules.
ITSELF = "(itself)"


@dataclass(frozen=True, slots=True)
class Group:
    """One line: ``path`` in full, ``level`` in the tree, and what it costs.

    ``share`` is the fraction of the latency, or of the MACs where nothing was predicted.
    ``complete`` is false where an op in it has no rule, so that its counts are lower bounds.
    """

    path: str
    level: int
    totals: Totals
    share: float
    latency_s: float | None = None
    bound: str | None = None
    complete: bool = True

    @property
    def name(self) -> str:
        """The last part of a module's path, all of any other name."""
        if not self.level:
            return self.path
        return self.path.rpartition(".")[2] or ITSELF


def groups(report: Findings, by: By, depth: int | None = None) -> list[Group]:
    """Summary lines: modules as a tree in order of first use, ops and families by share."""
    if by == "module":
        return _tree(report, default_depth(report) if depth is None else depth)
    times = _times(report, by)
    incomplete = {
        row.family if by == "family" else row.op.target
        for row in report.table.rows
        if row.cost is None
    }
    totals = report.table.group_by(by)
    lines = [
        _group(
            report, name, 0, totals.get(name, Totals()), times.get(name, ()), name not in incomplete
        )
        for name in dict.fromkeys([*totals, *times])
    ]
    return sorted(lines, key=lambda line: (-line.share, -line.totals.bytes))


def largest(lines: Iterable[Group], share: float = 0.8) -> list[Group]:
    """The fewest lines, largest first, whose shares add up to ``share`` of the whole."""
    chosen: list[Group] = []
    covered = 0.0
    for line in sorted(lines, key=lambda line: -line.share):
        if covered >= share or line.share == 0:
            break
        chosen.append(line)
        covered += line.share
    return chosen


def default_depth(report: Findings) -> int:
    """The deepest level at which the whole tree takes at most `TREE_LINES` lines; at least 1."""
    paths = list(report.table.group_by("module"))
    deepest, depth = _deepest(paths), 1
    while depth < deepest and len(_prefixes(paths, depth + 1)) <= TREE_LINES:
        depth += 1
    return depth


def _tree(report: Findings, depth: int) -> list[Group]:
    table = report.table
    paths = list(table.group_by("module"))
    depth = min(depth, _deepest(paths))
    at_level = [table.group_by("module", level) for level in range(1, depth + 1)]
    kernels: dict[str, list[KernelTime]] = defaultdict(list)
    for kernel in _kernels(report):
        for node in _nodes(kernel.module, depth):
            kernels[node].append(kernel)
    unknown = {
        node for row in table.rows if row.cost is None for node in _nodes(row.op.module, depth)
    }
    lines = []
    for path in [*_prefixes(paths, depth), ""]:
        level = path.count(".") + 1
        totals = at_level[level - 1].get(path, Totals()) if at_level else table.total
        if totals.flops or totals.bytes or totals.params or totals.buffers or path in unknown:
            lines.append(_group(report, path, level, totals, kernels[path], path not in unknown))
    return lines


def _nodes(path: str, depth: int) -> list[str]:
    """The path's node at each level down to ``depth``; for the model itself, that alone."""
    parts = path.split(".")[:depth]
    return [".".join(parts[: n + 1]) for n in range(len(parts))] or [""]


def _deepest(paths: Iterable[str]) -> int:
    return max((path.count(".") + 1 for path in paths if path), default=0)


def _prefixes(paths: Iterable[str], depth: int) -> list[str]:
    """Every node of the module tree down to ``depth``, parents before children."""
    children: dict[str, dict[str, None]] = defaultdict(dict)
    for path in paths:
        parent = ""
        for part in path.split(".")[:depth] if path else ():
            node = f"{parent}.{part}".lstrip(".")
            children[parent].setdefault(node)
            parent = node
    found: list[str] = []

    def visit(node: str) -> None:
        for child in children.get(node, ()):
            found.append(child)
            visit(child)

    visit("")
    return found


def _kernels(report: Findings) -> tuple[KernelTime, ...]:
    return report.prediction.kernels if report.prediction else ()


def _times(report: Findings, by: By) -> dict[str, list[KernelTime]]:
    """Kernels by family, or by the op that does most of their work."""
    key: Callable[[KernelTime], str] = lambda kernel: kernel.family  # noqa: E731
    if by == "op":
        rows = {row.op.name: row for row in report.table.rows}

        def key(kernel: KernelTime) -> str:
            # Part of an op may be a kernel of its own, as the bias of a convolution is.
            names = (n if n in rows else n.rpartition(".")[0] for n in kernel.ops)
            known = [rows[name] for name in names if name in rows]
            if not known:
                return kernel.family
            main = max(known, key=lambda row: row.cost.flops if row.cost else 0)
            return main.op.target

    found: dict[str, list[KernelTime]] = defaultdict(list)
    for kernel in _kernels(report):
        found[key(kernel)].append(kernel)
    return found


def _group(
    report: Findings,
    path: str,
    level: int,
    totals: Totals,
    kernels: Iterable[KernelTime],
    complete: bool,
) -> Group:
    if report.prediction is None:
        share = totals.macs / report.macs if report.macs else 0.0
        return Group(path, level, totals, float(share), complete=complete)
    by_bound: dict[str, float] = defaultdict(float)
    for kernel in kernels:
        by_bound[kernel.bound] += kernel.latency_s
    latency = sum(by_bound.values())
    whole = sum(kernel.latency_s for kernel in report.prediction.kernels)
    bound = max(by_bound, key=lambda name: by_bound[name]) if latency else None
    return Group(path, level, totals, latency / whole if whole else 0.0, latency, bound, complete)
