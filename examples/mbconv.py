"""EfficientNet: the MBConv block, the B0 network, and compound scaling to B7.

Tan and Le, "EfficientNet", 2019, arXiv:1905.11946, table 1 and equation 3. MBConv is MobileNetV2's
inverted residual with a squeeze-and-excitation gate of a quarter of the block's *input* channels.
B0 at 224x224: 5.3 M parameters, 0.39 G MACs (table 2).
"""

import math

import torch
from torch import nn

# Expansion, kernel, stride, output channels, layers of each stage: table 1.
STAGES = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]
# Width and depth multipliers and input size of B0 to B7, as released with the paper.
FAMILY = [
    (1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 300),
    (1.4, 1.8, 380), (1.6, 2.2, 456), (1.8, 2.6, 528), (2.0, 3.1, 600),
]  # fmt: skip
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15


def round_channels(channels, divisor=8):
    """The nearest multiple of `divisor`, never more than a tenth below `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def conv_bn(in_ch, out_ch, kernel, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_ch),
    )


class Gate(nn.Module):
    """Squeeze-and-excitation over `channels`, through a layer of `narrow`."""

    def __init__(self, channels, narrow):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, narrow, 1)
        self.expand = nn.Conv2d(narrow, channels, 1)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        gate = self.act(self.reduce(self.pool(x)))
        return x * torch.sigmoid(self.expand(gate))


class MBConv(nn.Module):
    """x (N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""

    def __init__(self, in_ch=40, out_ch=40, kernel=5, stride=1, expand=6):
        super().__init__()
        wide = in_ch * expand
        self.skip = stride == 1 and in_ch == out_ch
        self.expand = None if expand == 1 else conv_bn(in_ch, wide, 1)
        self.depthwise = conv_bn(wide, wide, kernel, stride, groups=wide)
        self.gate = Gate(wide, in_ch // 4)
        self.project = conv_bn(wide, out_ch, 1)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        y = x if self.expand is None else self.act(self.expand(x))
        y = self.gate(self.act(self.depthwise(y)))
        y = self.project(y)
        return x + y if self.skip else y


class EfficientNet(nn.Module):
    """Images (N, 3, H, W) -> logits (N, classes)."""

    def __init__(self, width=1.0, depth=1.0, classes=1000):
        super().__init__()
        ch = round_channels(32 * width)
        self.stem = nn.Sequential(conv_bn(3, ch, 3, stride=2), nn.SiLU(inplace=True))
        blocks = []
        for expand, kernel, stride, channels, layers in STAGES:
            out_ch = round_channels(channels * width)
            for i in range(math.ceil(layers * depth)):
                blocks.append(MBConv(ch, out_ch, kernel, stride if i == 0 else 1, expand))
                ch = out_ch
        self.blocks = nn.Sequential(*blocks)
        last = round_channels(1280 * width)
        self.head = nn.Sequential(conv_bn(ch, last, 1), nn.SiLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x):
        x = self.pool(self.head(self.blocks(self.stem(x))))
        return self.classifier(torch.flatten(x, 1))


def released(index=0):
    """B0 to B7 as released, whose multipliers the authors rounded by hand."""
    width, depth, _ = FAMILY[index]
    return EfficientNet(width, depth)


def efficientnet(phi=0):
    """The network at compound coefficient `phi`: depth α^φ, width β^φ, for `resolution(phi)`."""
    return EfficientNet(width=BETA**phi, depth=ALPHA**phi)


def resolution(phi=0):
    """The input size 224·γ^φ at compound coefficient `phi`, to the nearest multiple of 8."""
    return round(224 * GAMMA**phi / 8) * 8


def model():
    return efficientnet()


def example_inputs():
    return (torch.randn(1, 3, 224, 224),)
