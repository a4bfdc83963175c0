"""Squeeze-and-excitation, and SE-ResNet-50.

Hu et al., "Squeeze-and-Excitation Networks", 2017, arXiv:1709.01507, figure 3 and table 1. Each
channel is averaged to one number, two small layers turn those into a gate per channel: 2·C²/r MACs,
whatever the size of the map, and far below 1 % of the backbone. 28,088,024 parameters.
"""

import torch
from torch import nn

WIDTHS = (64, 128, 256, 512)
REPEATS = (3, 4, 6, 3)
EXPANSION = 4


class SqueezeExcitation(nn.Module):
    """x (N, C, H, W) -> the same shape, each channel scaled by its gate in [0, 1]."""

    def __init__(self, channels=256, reduction=16):
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, channels // reduction, 1)
        self.expand = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x):
        gate = torch.relu(self.reduce(self.squeeze(x)))
        return x * torch.sigmoid(self.expand(gate))


def conv_bn(in_ch, out_ch, kernel, stride=1):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out_ch)
    )


class SEBottleneck(nn.Module):
    """x (N, C_in, H, W) -> (N, 4·width, H/stride, W/stride): ResNet's bottleneck, gated."""

    def __init__(self, in_ch=256, width=64, stride=1, reduction=16):
        super().__init__()
        out_ch = width * EXPANSION
        self.reduce = conv_bn(in_ch, width, 1)
        self.spatial = conv_bn(width, width, 3, stride)
        self.expand = conv_bn(width, out_ch, 1)
        self.gate = SqueezeExcitation(out_ch, reduction) if reduction else nn.Identity()
        same = stride == 1 and in_ch == out_ch
        self.shortcut = nn.Identity() if same else conv_bn(in_ch, out_ch, 1, stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.act(self.reduce(x))
        y = self.gate(self.expand(self.act(self.spatial(y))))
        return self.act(y + self.shortcut(x))


class SEResNet50(nn.Module):
    """Images (N, 3, H, W) -> logits (N, classes). `reduction=None` is ResNet-50 without gates."""

    def __init__(self, reduction=16, classes=1000):
        super().__init__()
        ch = 64
        self.stem = nn.Sequential(
            conv_bn(3, ch, 7, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        blocks = []
        for width, repeats in zip(WIDTHS, REPEATS, strict=True):
            for i in range(repeats):
                stride = 2 if i == 0 and width > 64 else 1
                blocks.append(SEBottleneck(ch, width, stride, reduction))
                ch = width * EXPANSION
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(ch, classes)

    def forward(self, x):
        x = self.pool(self.blocks(self.stem(x)))
        return self.classifier(torch.flatten(x, 1))


def model():
    return SEResNet50()


def example_inputs():
    return (torch.randn(1, 3, 224, 224),)
