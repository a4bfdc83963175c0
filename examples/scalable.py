"""A family of one's own with multipliers of depth and width, for `costmodel scale`.

A plain residual network of dense 3x3 convolutions: nothing in it but stem and classifier breaks the
rule that MACs grow with depth, width squared and resolution squared.

    costmodel scale examples/scalable.py:Plain
"""

import math

import torch
from torch import nn

STAGES = [(32, 1), (64, 2), (128, 2), (256, 1)]


class Residual(nn.Module):
    """x (N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""

    def __init__(self, in_ch=64, out_ch=64, stride=1):
        super().__init__()
        self.filter = nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_ch)
        self.act = nn.ReLU(inplace=True)
        self.skip = stride == 1 and in_ch == out_ch

    def forward(self, x):
        y = self.act(self.norm(self.filter(x)))
        return x + y if self.skip else y


class Plain(nn.Module):
    """Images (N, 3, H, W) -> logits (N, classes); multiplies layers by depth, channels by width."""

    def __init__(self, depth=1.0, width=1.0, classes=1000):
        super().__init__()
        ch = 8 * round(32 * width / 8)
        self.stem = nn.Conv2d(3, ch, 3, 2, 1)
        stages = []
        for channels, layers in STAGES:
            out_ch = 8 * round(channels * width / 8)
            count = math.ceil(layers * depth)
            blocks = [Residual(ch if i == 0 else out_ch, out_ch, 2 if i == 0 else 1)
                      for i in range(count)]  # fmt: skip
            stages.append(nn.Sequential(*blocks))
            ch = out_ch
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(ch, classes)

    def forward(self, x):
        return self.classifier(torch.flatten(self.pool(self.stages(self.stem(x))), 1))


def model():
    return Plain()


def example_inputs():
    return (torch.randn(1, 3, 224, 224),)
