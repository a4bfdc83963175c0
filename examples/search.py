"""Hardware-aware architecture search over inverted residuals, with latency as the cost.

Seventeen choices: width, depth, kernel and expansion of four stages, and the image size. Accuracy
is a stand-in that needs no training: what a network can express grows with the logarithms of its
layers, channels, receptive field and pixels, each with a weight of its own. The costs are real:
`cm.cost_function` knows the exact MACs and the predicted latency of all 34 million networks.

On a phone and on a GPU three searches get the same budget of latency: evolution and gradients
with that latency as the cost, and a search that sees MACs alone, whose results count if they fit.

    python examples/search.py
"""

import sys

import numpy as np
import torch
from torch import nn

STAGES = 4
CHOICES = {
    **{f"width{s}": (16 * s, 24 * s, 32 * s) for s in range(1, STAGES + 1)},
    **{f"depth{s}": (1, 2, 3) for s in range(1, STAGES + 1)},
    **{f"kernel{s}": (3, 5) for s in range(1, STAGES + 1)},
    **{f"expand{s}": (2, 4, 6) for s in range(1, STAGES + 1)},
    "size": (128, 160, 192, 224),
}
# What doubling a choice adds to the stand-in for accuracy.
WEIGHTS = {"size": 2.0, "depth": 1.2, "width": 1.0, "expand": 0.8, "kernel": 0.6}


def conv_bn(in_ch, out_ch, kernel, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_ch),
    )


class InvertedResidual(nn.Module):
    """x (N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""

    def __init__(self, in_ch, out_ch, kernel, stride, expand):
        super().__init__()
        wide = in_ch * expand
        self.expand = conv_bn(in_ch, wide, 1)
        self.depthwise = conv_bn(wide, wide, kernel, stride, groups=wide)
        self.project = conv_bn(wide, out_ch, 1)
        self.act = nn.ReLU6(inplace=True)
        self.skip = stride == 1 and in_ch == out_ch

    def forward(self, x):
        y = self.project(self.act(self.depthwise(self.act(self.expand(x)))))
        return x + y if self.skip else y


class Network(nn.Module):
    """Images (N, 3, H, W) -> logits (N, 1000); each stage halves the image in its first block."""

    def __init__(self, **choices):
        super().__init__()
        ch = 16
        self.stem = nn.Sequential(conv_bn(3, ch, 3, stride=2), nn.ReLU6(inplace=True))
        stages = []
        for s in range(1, STAGES + 1):
            width, depth, kernel, expand = (
                choices[f"{name}{s}"] for name in ("width", "depth", "kernel", "expand")
            )
            blocks = []
            for i in range(depth):
                blocks.append(InvertedResidual(ch, width, kernel, 2 if i == 0 else 1, expand))
                ch = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(conv_bn(ch, 640, 1), nn.ReLU6(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(640, 1000)

    def forward(self, x):
        x = self.pool(self.head(self.stages(self.stem(x))))
        return self.classifier(torch.flatten(x, 1))


def model():
    return Network(**{name: values[0] for name, values in CHOICES.items()})


def example_inputs():
    return (torch.randn(1, 3, 224, 224),)


def quality(rows):
    """The stand-in for accuracy of architectures, one a row: higher is better."""
    columns = np.asarray(rows, float).T
    return sum(
        WEIGHTS[name.rstrip("1234")] * np.log2(column + name.startswith("depth"))
        for name, column in zip(CHOICES, columns, strict=True)
    )


def evolve(cost, budget, aim=quality, rounds=40, population=2000, seed=0):
    """The best network by ``aim`` whose ``cost`` is within ``budget``, by mutation and crossing."""
    chance = np.random.default_rng(seed)
    values = list(CHOICES.values())
    rows = np.column_stack([chance.choice(v, 4 * population) for v in values])
    for _ in range(rounds):
        fitness = np.where(cost(rows) <= budget, aim(rows), -np.inf)
        parents = rows[np.argsort(-fitness, kind="stable")[: population // 4]]
        mothers, fathers = parents[chance.integers(len(parents), size=(2, population))]
        children = np.where(chance.random(mothers.shape) < 0.5, mothers, fathers)
        fresh = np.column_stack([chance.choice(v, population) for v in values])
        children = np.where(chance.random(children.shape) < 0.08, fresh, children)
        rows = np.unique(np.concatenate([parents, children]), axis=0)
    fitness = np.where(cost(rows) <= budget, aim(rows), -np.inf)
    return rows[np.argmax(fitness)]


def by_macs(function, budget):
    """What a search guided by MACs finds: the best for the largest MACs whose result still fits."""
    best, macs = None, function(function.draw(20_000)).macs
    for limit in np.geomspace(macs.min() * 1.05, macs.max(), 25):
        found = evolve(lambda rows: function(rows).macs, limit, rounds=15, population=800)
        if function.latency(found)[0] <= budget and (
            best is None or quality(found) > quality(best)
        ):
            best = found
    return best


def gradient(function, budget, steps=300, seed=0):
    """The same search by gradients: a softmax over each choice, sharpened as it goes."""
    torch.manual_seed(seed)
    sizes = [torch.tensor(v, dtype=torch.float64) for v in CHOICES.values()]
    weights = [WEIGHTS[name.rstrip("1234")] for name in CHOICES]
    logits = [torch.zeros(len(v), dtype=torch.float64, requires_grad=True) for v in sizes]
    optimizer = torch.optim.Adam(logits, lr=0.1)
    for step in range(steps):
        heat = 2.0 * (1 - step / steps) + 0.1
        chosen = [torch.softmax(logit / heat, 0) for logit in logits]
        latency = function.relaxed(chosen)["latency_s"][0]
        worth = sum(
            weight * (chance @ torch.log2(size + name.startswith("depth")))
            for weight, chance, size, name in zip(weights, chosen, sizes, CHOICES, strict=True)
        )
        loss = -worth + 50 * torch.relu(torch.log(latency / budget))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.array([int(v[logit.argmax()]) for v, logit in zip(sizes, logits, strict=True)])


def main(devices=("pixel8", "rtx4090")):
    import costmodel as cm

    def progress(done, left):
        if sys.stderr.isatty():
            print(f"\r{done} networks traced, {left} to go   ", end="", file=sys.stderr)

    first = cm.cost_function(Network, CHOICES, "1x3x{size}x{size}", progress=progress)
    print(f"\n{first.space.size:,} networks from {first.traced} traces", file=sys.stderr)
    functions = {name: first.on(name) for name in devices}
    found = {}
    for name, function in functions.items():
        budget = float(np.quantile(function.latency(function.draw(20_000)), 0.5))
        found[name] = evolve(function.latency, budget)
        rival = by_macs(function, budget)
        soft = gradient(function, budget)
        print(f"\n{name}, at most {budget * 1e3:.3f} ms")
        for label, row in (("by latency", found[name]), ("by gradient", soft), ("by MACs", rival)):
            costs = function([row])
            print(
                f"  {label:12} quality {quality(row):.3f}, {costs.latency_s[0] * 1e3:.3f} ms, "
                f"{costs.macs[0] / 1e6:.0f} M MACs: {' '.join(map(str, row))}"
            )
    one, other = (found[name] for name in devices)
    print(f"\nthe two differ in {int((one != other).sum())} of {len(CHOICES)} choices")
    return found


if __name__ == "__main__":
    main()
