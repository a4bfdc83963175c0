"""Which module is running: paths of a model's modules, followed while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


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

    def _path(self, module: nn.Module) -> str:
        known = self._paths.get(id(module))
        if known is None:
            path = f"{self.here}.{type(module).__name__}".lstrip(".")
            self._paths[id(module)] = [path]
            self._unregistered.append(module)
            self.types.setdefault(path, type(module).__name__)
            return path
        return known[0] if len(known) == 1 else _nearest(known, self.here)


def _nearest(paths: Sequence[str], caller: str) -> str:
    """The path that ``caller`` registers itself, else the one deepest below it, else the first."""
    for path in paths:
        if path.rpartition(".")[0] == caller:
            return path
    return next((path for path in paths if path.startswith(f"{caller}.")), paths[0])
