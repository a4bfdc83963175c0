"""The search example on two stages: each device gets its own network, and both beat MACs."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import costmodel as cm


@pytest.fixture(scope="module")
def search(example):
    module = example("search")
    module.STAGES = 2
    module.CHOICES = {
        name: values[:: len(values) - 1]
        for name, values in module.CHOICES.items()
        if name[-1] in "12e"
    }
    return module


@pytest.fixture(scope="module")
def function(search):
    return cm.cost_function(search.Network, search.CHOICES, "1x3x{size}x{size}")


def test_the_search_space_has_seventeen_choices(example):
    choices = example("search").CHOICES
    assert len(choices) == 17
    assert np.prod([len(values) for values in choices.values()]) == 34_012_224


@pytest.mark.slow
@pytest.mark.parametrize("hw", ["pixel8", "i9-10940x:cpu"])
def test_a_million_networks_of_seventeen_choices_take_seconds(example, hw):
    module = example("search")
    # Two values each keep the tracing short; what a look-up takes does not depend on them.
    choices = {name: values[:: len(values) - 1] for name, values in module.CHOICES.items()}
    on = cm.cost_function(module.Network, choices, "1x3x{size}x{size}", hw=hw)
    assert len(on.space.names) == 17
    rows = on.draw(1_000_000)
    start = time.process_time()
    costs = on(rows)
    assert time.process_time() - start < 10
    assert len(costs.macs) == len(costs.params) == len(costs.latency_s) == 1_000_000
    for i in (0, 999_999):
        values = dict(zip(choices, map(int, rows[i]), strict=True))
        with torch.device("meta"):
            net = module.Network(**values)
        report = cm.analyze(net, "1x3x{size}x{size}".format(**values), hw=hw)
        assert (costs.macs[i], costs.params[i]) == (report.macs, report.params)
        assert costs.latency_s[i] == pytest.approx(report.latency_s, rel=1e-6)


@pytest.mark.parametrize("hw", ["pixel8", "rtx4090"])
def test_latency_guides_better_than_macs_at_equal_latency(search, function, hw):
    on = function.on(hw)
    budget = float(np.quantile(on.latency(on.draw(5000)), 0.5))
    found = search.evolve(on.latency, budget, rounds=15, population=400)
    rival = search.by_macs(on, budget)
    soft = search.gradient(on, budget, steps=120)
    assert on.latency([found])[0] <= budget
    assert on.latency([rival])[0] <= budget
    assert search.quality(found) >= search.quality(rival)
    # The best of all 512 networks, by trying every one.
    every = np.array(np.meshgrid(*search.CHOICES.values())).reshape(len(search.CHOICES), -1).T
    fitting = every[on.latency(every) <= budget]
    assert search.quality(found) == pytest.approx(search.quality(fitting).max())
    assert search.quality(soft) > np.median(search.quality(fitting))
