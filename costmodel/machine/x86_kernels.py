"""Kernels on an x86 CPU: what their products, loops, copies and starts take, put together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from costmodel.machine.features import Features
from costmodel.machine.parts import Parts
from costmodel.machine.x86_arithmetic import copy_seconds, lookup_seconds, operation_seconds
from costmodel.machine.x86_choices import (
    PRODUCTS,
    Machine,
    biased,
    choices_of,
    products_of,
    team_of,
)
from costmodel.machine.x86_traffic import (
    Sizes,
    footprint_of,
    levels_of,
    line_seconds,
    shared_seconds,
    traffic,
)

#: Ops that set up more than a loop: statistics, or a call into a library.
_PREPARED = ("batch_norm", "normalization", "softmax")


def evaluate(
    run: Features, machine: Machine, constants: Mapping[str, float], footprint: Sizes | None = None
) -> Parts:
    """The parts of every kernel's time.

    ``footprint``: bytes of weights and of work of the run that each kernel belongs to, where those
    are several.
    """
    choices = choices_of(run, machine)
    compute = operation_seconds(run, machine, constants, choices)
    compute += copy_seconds(run, machine, constants, choices)
    called = np.isin(run.family, _PREPARED) & (not machine.generated)
    prepared = called | (np.isin(run.kind, PRODUCTS) & ~choices.library)
    team, idle = team_of(run, machine)
    compute *= idle
    compute += lookup_seconds(run, machine)
    compute += run.remapped * constants.get("remap_cycles", 0.0) / machine.clock
    # Threads that are awake wake others. Microbenchmarks know teams of two; as much again for each
    # further thread would keep 64 of them for half a millisecond.
    overhead = 1e-6 * (
        constants["issue_us"] * np.where(choices.own, run.groups, run.dispatches)
        + constants["block_us"] * choices.own * (products_of(run) - run.groups) / machine.threads
        + constants["product_us"] * prepared
        + constants["convolution_us"] * choices.library
        + constants["fork_us"] * np.log2(team) * (1 + biased(run, machine))
    )
    sizes = footprint_of(run) if footprint is None else footprint
    touched = traffic(run, machine, constants, choices, sizes, idle)
    levels = levels_of(machine, constants)
    near = shared_seconds(run, machine, levels) + line_seconds(run, machine, constants)
    hidden = 1.0 - constants["exposed"]
    return Parts(compute, overhead, near, touched, levels, hidden).without(run.inside)
