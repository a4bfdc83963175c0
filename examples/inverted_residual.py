"""MobileNetV2: the inverted residual with a linear bottleneck, and the network made of it.

Sandler et al., "MobileNetV2", 2018, arXiv:1801.04381, tables 1 and 2. The block widens by `expand`,
filters there depthwise, and projects back without activation; the skip joins the narrow ends.
At width 1 and 224x224: 3.4 M parameters and 300 M MACs (table 4).
"""

import torch
from torch import nn

# Expansion t, output channels c, repeats n, stride s of the first: table 2.
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def conv_bn(in_ch, out_ch, kernel, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_ch),
    )


class InvertedResidual(nn.Module):
    """x (N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""

    def __init__(self, in_ch=24, out_ch=24, stride=1, expand=6):
        super().__init__()
        wide = in_ch * expand
        self.skip = stride == 1 and in_ch == out_ch
        self.expand = None if expand == 1 else conv_bn(in_ch, wide, 1)
        self.depthwise = conv_bn(wide, wide, 3, stride, groups=wide)
        self.project = conv_bn(wide, out_ch, 1)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x):
        y = x if self.expand is None else self.act(self.expand(x))
        y = self.project(self.act(self.depthwise(y)))
        return x + y if self.skip else y


def round_channels(channels, divisor=8):
    """The nearest multiple of `divisor`, never more than a tenth below `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class MobileNetV2(nn.Module):
    """Images (N, 3, H, W) -> logits (N, classes)."""

    def __init__(self, width=1.0, classes=1000):
        super().__init__()
        ch = round_channels(32 * width)
        self.stem = nn.Sequential(conv_bn(3, ch, 3, stride=2), nn.ReLU6(inplace=True))
        blocks = []
        for expand, channels, repeats, stride in STAGES:
            out_ch = round_channels(channels * width)
            for i in range(repeats):
                blocks.append(InvertedResidual(ch, out_ch, stride if i == 0 else 1, expand))
                ch = out_ch
        self.blocks = nn.Sequential(*blocks)
        last = round_channels(1280 * max(1.0, width))
        self.head = nn.Sequential(conv_bn(ch, last, 1), nn.ReLU6(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x):
        x = self.pool(self.head(self.blocks(self.stem(x))))
        return self.classifier(torch.flatten(x, 1))


def model():
    return MobileNetV2()


def example_inputs():
    return (torch.randn(1, 3, 224, 224),)
