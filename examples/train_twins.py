"""Train a network of depthwise-separable blocks and its twin of standard convolutions.

Both see the same data in the same order until the learning rate has run out. What the separable
twin saves in FLOPs and what it saves on the clock are two numbers; train_twins.md says why.

    python examples/train_twins.py                           # scikit-learn's digits, minutes
    python examples/train_twins.py --page examples/train_twins.md      # renew the page's numbers
    python examples/train_twins.py --cifar cifar-10-batches-bin --epochs 60

The CIFAR-10 folder is the "binary version" of https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import argparse
import re
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import costmodel as cm

#: Output channels and stride of each block.
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1)]
STEM = 32
KINDS = ("standard", "separable")


def conv_bn(in_ch, out_ch, kernel, stride=1, groups=1):
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_ch),
        nn.ReLU(inplace=True),
    )


class Twin(nn.Module):
    """Images (N, in_ch, H, W) -> logits (N, classes); the kinds differ in their blocks alone."""

    def __init__(self, kind="separable", in_ch=1, classes=10):
        super().__init__()
        layers, ch = [conv_bn(in_ch, STEM, 3)], STEM
        for out_ch, stride in BLOCKS:
            if kind == "separable":
                layers += [conv_bn(ch, ch, 3, stride, groups=ch), conv_bn(ch, out_ch, 1)]
            else:
                layers.append(conv_bn(ch, out_ch, 3, stride))
            ch = out_ch
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(ch, classes)

    def forward(self, x):
        return self.classifier(self.layers(x).mean((2, 3)))


def digits():
    """scikit-learn's 1,797 digits, 8x8 enlarged to 16x16; every fifth one is for testing."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    x = F.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False)
    y = torch.tensor(found.target)
    held = torch.arange(len(y)) % 5 == 0
    return "scikit-learn's digits", x[~held], y[~held], x[held], y[held]


def cifar(folder):
    """CIFAR-10 from its binary files: records of a label and 3x32x32 bytes."""

    def read(names):
        data = np.concatenate([np.fromfile(Path(folder) / name, np.uint8) for name in names])
        data = data.reshape(-1, 3073)
        x = torch.from_numpy(data[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255)
        return x, torch.from_numpy(data[:, 0].astype(np.int64))

    x, y = read([f"data_batch_{i}.bin" for i in range(1, 6)])
    return "CIFAR-10", x, y, *read(["test_batch.bin"])


def train(kind, data, epochs, batch, seed):
    """Train one twin; returns seconds an epoch (median), the share of its cores' time that
    the run got, the last epoch's loss, and the accuracy."""
    _, x, y, x_test, y_test = data
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    x, x_test = (x - mean) / std, (x_test - mean) / std
    torch.manual_seed(seed)
    net = Twin(kind, x.shape[1])
    steps = len(x) // batch
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * steps)
    seconds, busy, total = [], 0.0, 0.0
    for _ in range(epochs):
        order = torch.randperm(len(x))
        net.train()
        total = 0.0
        begin, used = time.perf_counter(), time.process_time()
        for picked in order[: steps * batch].view(steps, batch):
            loss = F.cross_entropy(net(x[picked]), y[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds.append(time.perf_counter() - begin)
        busy += time.process_time() - used
    net.eval()
    with torch.inference_mode():
        right = sum(
            (net(a).argmax(1) == b).sum().item()
            for a, b in zip(x_test.split(500), y_test.split(500), strict=True)
        )
    share = busy / sum(seconds) / torch.get_num_threads()
    return statistics.median(seconds), share, total / steps, right / len(y_test)


def table(data, *, epochs, batch, hw, threads, seed):
    """Lines that set the twins side by side."""
    name, x, y, _, y_test = data
    shape = "x".join(map(str, x.shape[1:]))
    steps = len(x) // batch
    rows = {}
    for kind in KINDS:
        infer = cm.analyze(Twin(kind, x.shape[1]), f"1x{shape}")
        step = cm.analyze(
            Twin(kind, x.shape[1]), f"{batch}x{shape}", hw, mode="train",
            execution="eager", threads=threads,
        )  # fmt: skip
        took, got, loss, accuracy = train(kind, data, epochs, batch, seed)
        rows[kind] = {
            "params": infer.params, "macs": infer.macs, "flops": step.flops,
            "predicted": step.latency_s * steps, "measured": took, "got": got, "loss": loss,
            "accuracy": accuracy, "bound": step.prediction.bound,
            "basis": step.prediction.validated,
        }  # fmt: skip
    a, b = (rows[kind] for kind in KINDS)
    ratio = {key: a[key] / b[key] for key in ("params", "macs", "flops", "predicted", "measured")}

    def line(title, key, form):
        end = f"{ratio[key]:9.2f}" if key in ratio else ""
        return f"{title:28}{form.format(a[key]):>16}{form.format(b[key]):>15}{end}"

    def bound(part):
        share = [f"{100 * rows[kind]['bound'][part]:.0f} %" for kind in KINDS]
        return f"{'  predicted bound: ' + part:28}{share[0]:>16}{share[1]:>15}"

    images = f"{len(y)} images to train on, {len(y_test)} to test, {shape}"
    gains = [f"{ratio[key]:.1f}" for key in ("flops", "predicted", "measured")]
    return [
        f"{name}: {images}; {epochs} epochs, batch {batch}",
        f"{'':28}{KINDS[0]:>16}{KINDS[1]:>15}    ratio",
        line("parameters", "params", "{:,}"),
        line("MACs an image", "macs", "{:,}"),
        line("FLOPs a training step", "flops", "{:,}"),
        line(f"predicted s an epoch, {hw}", "predicted", "{:.2f}"),
        line("measured s an epoch", "measured", "{:.2f}"),
        line("  of its cores' time it got", "got", "{:.0%}"),
        *map(bound, ("compute", "memory", "overhead")),
        line("last epoch's training loss", "loss", "{:.4f}"),
        line("test accuracy", "accuracy", "{:.4f}"),
        f"prediction: {a['basis']}",
        "speed-up in FLOPs {}, predicted {}, on the clock {}".format(*gains),
    ]


def main(words=None):
    """Run the comparison, print it, and with --page put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hw", default="host", help="profile of the machine that trains")
    parser.add_argument("--threads", type=int, help="CPU threads; else one a core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cifar", metavar="FOLDER", help="cifar-10-batches-bin")
    parser.add_argument("--page", metavar="FILE.md", help="replace the numbers in this page")
    asked = parser.parse_args(words)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    data = cifar(asked.cifar) if asked.cifar else digits()
    lines = table(
        data, epochs=asked.epochs, batch=asked.batch, hw=asked.hw, threads=asked.threads,
        seed=asked.seed,
    )  # fmt: skip
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if asked.page:
        page = Path(asked.page).read_text()
        block = r"(\$ python examples/train_twins\.py\n).*?(?=```)"
        Path(asked.page).write_text(
            re.sub(block, lambda found: found[1] + text, page, count=1, flags=re.DOTALL)
        )


if __name__ == "__main__":
    main()
