"""MobileNetV1: a strided stem and thirteen depthwise-separable blocks.

Howard et al., "MobileNets", 2017, arXiv:1704.04861, table 1; `width` is the paper's multiplier α.
At width 1 and 224x224: 4.2 M parameters and 569 M MACs (table 8).
"""

import torch
from torch import nn

# Output channels and stride of each separable block.
BLOCKS = [
    (64, 1),
    (128, 2), (128, 1),
    (256, 2), (256, 1),
    (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
]  # fmt: skip


def conv_bn(in_ch, out_ch, kernel, stride=1, groups=1):
    """Convolution, batch norm, ReLU; the bias is batch norm's."""
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_ch),
        nn.ReLU(inplace=True),
    )


class MobileNetV1(nn.Module):
    """Images (N, 3, H, W) -> logits (N, classes)."""

    def __init__(self, width=1.0, classes=1000):
        super().__init__()
        ch = int(32 * width)
        self.stem = conv_bn(3, ch, 3, stride=2)
        blocks = []
        for channels, stride in BLOCKS:
            out_ch = int(channels * width)
            blocks.append(
                nn.Sequential(conv_bn(ch, ch, 3, stride, groups=ch), conv_bn(ch, out_ch, 1))
            )
            ch = out_ch
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(ch, classes)

    def forward(self, x):
        x = self.pool(self.blocks(self.stem(x)))
        return self.classifier(torch.flatten(x, 1))


def model():
    return MobileNetV1()


def example_inputs():
    return (torch.randn(1, 3, 224, 224),)
