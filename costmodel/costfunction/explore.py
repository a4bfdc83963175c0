"""Which choices shape which piece of the network, and every piece that they can make.

Starting from a few architectures, each choice is changed on its own; a piece that changes depends
on it. Then architectures are traced until every piece has been seen under every combination of the
choices that it depends on. Two architectures that agree in those choices and yet differ in the
piece reveal a dependence that was missed, which is then tracked down.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import networkx as nx

from costmodel.costfunction.pieces import Piece, cut
from costmodel.costfunction.space import Code, Space
from costmodel.errors import CostModelError

#: Combinations of choices that one piece may depend on, and networks that may be traced.
MOST_COMBINATIONS, MOST_TRACES = 20_000, 20_000
#: Architectures tried at random, that must hold no surprise.
_TRIALS = 12

Progress = Callable[[int, int], None]


@dataclass
class Survey:
    """What was seen: per traced architecture the number of each piece, 0 where it is absent."""

    space: Space
    progress: Progress = lambda _done, _left: None
    pieces: dict[str, list[Piece | None]] = field(default_factory=dict)
    depends: dict[str, set[int]] = field(default_factory=dict)
    seen: dict[Code, dict[str, int]] = field(default_factory=dict)
    entries: dict[str, dict[Code, tuple[int, Code]]] = field(default_factory=dict)
    order: nx.DiGraph[str] = field(default_factory=nx.DiGraph)
    _numbers: dict[str, dict[object, int]] = field(default_factory=dict)

    def look(self, code: Code) -> dict[str, int]:
        """The pieces of an architecture, traced once; what it teaches is noted."""
        if code in self.seen:
            return self.seen[code]
        if len(self.seen) >= MOST_TRACES:
            raise CostModelError(
                f"{self.space.text}: the pieces of the network depend on too many choices at once "
                f"({MOST_TRACES:,} networks traced); give stages modules of their own"
            )
        found = cut(self.space.table(code))
        nx.add_path(self.order, found)
        for name, piece in found.items():
            if name not in self.pieces:
                self._new(name)
            known = self._numbers[name]
            if piece.signature not in known:
                known[piece.signature] = len(self.pieces[name])
                self.pieces[name].append(piece)
        numbers = {name: self._numbers[name][piece.signature] for name, piece in found.items()}
        self.seen[code] = numbers
        for name in list(self.pieces):
            self._note(name, code)
        self.progress(len(self.seen), self.missing)
        return numbers

    @property
    def missing(self) -> int:
        """The least number of networks still to trace."""
        return max((self._combinations(n) - len(e) for n, e in self.entries.items()), default=0)

    def depend(self, name: str, choices: set[int]) -> None:
        """Note that a piece depends on ``choices`` too.

        Raises `CostModelError` when there would be too many combinations to trace.
        """
        if choices <= self.depends[name]:
            return
        self.depends[name] |= choices
        if self._combinations(name) > MOST_COMBINATIONS:
            on = ", ".join(self.space.names[i] for i in sorted(self.depends[name]))
            raise CostModelError(
                f"{self.space.text}: the cost at {name} depends on {on} together, "
                f"{self._combinations(name):,} combinations; give each stage a module of its own, "
                "so that layers keep their names when another stage grows"
            )
        self.entries[name] = {}
        for code in list(self.seen):
            self._note(name, code)

    def key(self, name: str, code: Code) -> Code:
        """The part of ``code`` that the piece depends on."""
        return tuple(code[i] for i in sorted(self.depends[name]))

    def open(self, name: str) -> list[Code]:
        """Combinations under which the piece has not been seen."""
        ranges = [range(len(self.space.values[i])) for i in sorted(self.depends[name])]
        known = self.entries[name]
        return [combo for combo in itertools.product(*ranges) if combo not in known]

    def _new(self, name: str) -> None:
        self.pieces[name], self.depends[name] = [None], set()
        self._numbers[name], self.entries[name] = {}, {}
        for code in list(self.seen):
            self._note(name, code)

    def _note(self, name: str, code: Code) -> None:
        number = self.seen[code].get(name, 0)
        known, witness = self.entries[name].setdefault(self.key(name, code), (number, code))
        if known != number:
            self._track(name, witness, code)

    def _track(self, name: str, one: Code, other: Code) -> None:
        """Find choices that make the piece differ, on a walk from one architecture to the other."""
        here = one
        for i, position in enumerate(other):
            step = (*here[:i], position, *here[i + 1 :])
            if step != here:
                before, after = self.look(here).get(name, 0), self.look(step).get(name, 0)
                here = step
                if before != after:
                    self.depend(name, {i})

    def _combinations(self, name: str) -> int:
        return math.prod(len(self.space.values[i]) for i in self.depends[name])


def explore(space: Space, progress: Progress | None = None) -> Survey:
    """Trace as many networks of ``space`` as it takes to know all of them.

    Raises `CostModelError` with the reason when that would be too many.
    """
    survey = Survey(space) if progress is None else Survey(space, progress)
    chance = random.Random(7)
    last = tuple(len(values) - 1 for values in space.values)
    for base in (last, space.draw(chance)):
        _vary(survey, base)
    while True:
        _fill(survey, chance)
        trials = [space.draw(chance) for _ in range(_TRIALS)]
        for code in trials:
            survey.look(code)
        if not survey.missing:
            return survey


def _vary(survey: Survey, base: Code) -> None:
    """Change one choice at a time."""
    pieces = survey.look(base)
    for i, values in enumerate(survey.space.values):
        for position in range(len(values)):
            other = survey.look((*base[:i], position, *base[i + 1 :]))
            for name in {*pieces, *other}:
                if pieces.get(name, 0) != other.get(name, 0):
                    survey.depend(name, {i})


def _fill(survey: Survey, chance: random.Random) -> None:
    """Trace architectures, each of which shows as many pieces in a new combination as it can."""
    while survey.missing:
        waiting = {name: survey.open(name) for name in survey.pieces}
        names = sorted(waiting, key=lambda name: -len(waiting[name]))
        for _ in range(max(1, len(waiting[names[0]]) // 2)):
            chosen: dict[int, int] = {}
            for name in names:
                combo = _fitting(waiting[name], sorted(survey.depends[name]), chosen, chance)
                if combo is not None:
                    chosen.update(zip(sorted(survey.depends[name]), combo, strict=False))
            free = survey.space.draw(chance)
            survey.look(tuple(chosen.get(i, free[i]) for i in range(len(free))))
            for name in names:
                known = survey.entries[name]
                waiting[name] = [c for c in waiting[name] if c not in known]
            if not waiting[names[0]]:
                break


def _fitting(
    combos: list[Code], choices: list[int], chosen: dict[int, int], chance: random.Random
) -> Code | None:
    """A combination that agrees with what is chosen already."""
    fixed = [(k, chosen[i]) for k, i in enumerate(choices) if i in chosen]
    fitting = [c for c in combos if len(c) == len(choices) and all(c[k] == v for k, v in fixed)]
    return chance.choice(fitting) if fitting else None
