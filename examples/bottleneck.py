"""ResNet's bottleneck: narrow, filter, widen, with a skip around it; and ResNet-50.

He et al., "Deep Residual Learning", 2015, arXiv:1512.03385, figure 5 and table 1. The stride is on
the 3x3 convolution, as in every current implementation. 25,557,032 parameters.
"""

import torch
from torch import nn

WIDTHS = (64, 128, 256, 512)
REPEATS = (3, 4, 6, 3)
EXPANSION = 4


def conv_bn(in_ch, out_ch, kernel, stride=1):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out_ch)
    )


class Bottleneck(nn.Module):
    """x (N, C_in, H, W) -> (N, 4·width, H/stride, W/stride)."""

    def __init__(self, in_ch=256, width=64, stride=1):
        super().__init__()
        out_ch = width * EXPANSION
        self.reduce = conv_bn(in_ch, width, 1)
        self.spatial = conv_bn(width, width, 3, stride)
        self.expand = conv_bn(width, out_ch, 1)
        same = stride == 1 and in_ch == out_ch
        self.shortcut = nn.Identity() if same else conv_bn(in_ch, out_ch, 1, stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.act(self.reduce(x))
        y = self.expand(self.act(self.spatial(y)))
        return self.act(y + self.shortcut(x))


class ResNet(nn.Module):
    """Images (N, 3, H, W) -> logits (N, classes)."""

    def __init__(self, repeats=REPEATS, classes=1000):
        super().__init__()
        ch = 64
        self.stem = nn.Sequential(
            conv_bn(3, ch, 7, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        stages = []
        for stage, (width, count) in enumerate(zip(WIDTHS, repeats, strict=True)):
            blocks = []
            for i in range(count):
                blocks.append(Bottleneck(ch, width, 2 if stage and i == 0 else 1))
                ch = width * EXPANSION
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(ch, classes)

    def forward(self, x):
        x = self.pool(self.stages(self.stem(x)))
        return self.classifier(torch.flatten(x, 1))


def model():
    return ResNet()


def example_inputs():
    return (torch.randn(1, 3, 224, 224),)
