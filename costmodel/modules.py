"""Which module is running: paths of a model's modules, followed while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.fx import Graph, GraphModule, Node


class ModulePath:
    """The stack of module paths; `here` is the innermost one.

    A module that is registered under several names is called by the name that its caller knows. One
    that the model does not register (made during the call) goes by its caller and its type.
    """

    def __init__(self, model: nn.Module) -> None:
        self.stack: list[str] = [""]
        self.failed_at: str | None = None
        self.types = {path: type(module).__name__ for path, module in model.named_modules()}
        self._paths: dict[int, list[str]] = {}
        self._unregistered: list[nn.Module] = []
        self._programs: dict[int, nn.Module] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            self._paths.setdefault(id(module), []).append(path)

    @property
    def here(self) -> str:
        """The path of the running module; empty for the model itself."""
        return self.stack[-1]

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow every ``nn.Module`` call that happens inside."""
        call, stack = nn.Module.__call__, self.stack

        def followed(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            stack.append(self._path(module))
            try:
                if isinstance(module, GraphModule):
                    module = self._told(module)
                return call(module, *args, **kwargs)
            except Exception:
                if self.failed_at is None:
                    name = type(module).__name__
                    self.failed_at = f"{self.here} ({name})" if self.here else name
                raise
            finally:
                stack.pop()

        nn.Module.__call__ = followed  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = call  # type: ignore[method-assign]

    @contextmanager
    def at(self, path: str) -> Iterator[None]:
        """Run something on behalf of the module at ``path``."""
        self.stack.append(path)
        try:
            yield
        finally:
            self.stack.pop()

    def _told(self, program: GraphModule) -> nn.Module:
        """A program of ``torch.export`` that says before each op whose it was; others as they are.

        Such a program is one flat function; its nodes remember the modules that they came from.
        """
        if id(program) in self._programs:
            return self._programs[id(program)]
        told: nn.Module = program
        owners = {node: _owner(node) for node in program.graph.nodes}
        if any(owners.values()):
            base, stack = self.here, self.stack

            def enter(path: str) -> None:
                stack[-1] = f"{base}.{path}".strip(".")

            graph = Graph()
            names: dict[Node, Node] = {}
            graph.output(graph.graph_copy(program.graph, names))
            graph.set_codegen(program.graph._codegen)
            last: str | None = None
            for node, owner in owners.items():
                if owner is None or node not in names:
                    continue
                path, kind = owner
                self.types[f"{base}.{path}".strip(".")] = kind
                if path != last:
                    with graph.inserting_before(names[node]):
                        graph.call_function(enter, (path,))
                    last = path
            told = GraphModule(program, graph)
        self._programs[id(program)] = told
        return told

    def _path(self, module: nn.Module) -> str:
        known = self._paths.get(id(module))
        if known is None:
            path = f"{self.here}.{type(module).__name__}".lstrip(".")
            self._paths[id(module)] = [path]
            self._unregistered.append(module)
            self.types.setdefault(path, type(module).__name__)
            return path
        return known[0] if len(known) == 1 else _nearest(known, self.here)


def _owner(node: Node) -> tuple[str, str] | None:
    """Path and type of the innermost module that a node of an exported program came from."""
    if node.op != "call_function" or not node.meta.get("nn_module_stack"):
        return None
    path, kind = list(node.meta["nn_module_stack"].values())[-1]
    kind = kind if isinstance(kind, str) else kind.__name__
    return path.removeprefix("L['self']").strip("."), kind.rpartition(".")[2]


def _nearest(paths: Sequence[str], caller: str) -> str:
    """The path that ``caller`` registers itself, else the one deepest below it, else the first."""
    for path in paths:
        if path.rpartition(".")[0] == caller:
            return path
    return next((path for path in paths if path.startswith(f"{caller}.")), paths[0])
