"""The standard convolution with every argument it has: the yardstick of all cheaper ones.

It filters space and mixes channels in one step, at K·K·C_in·C_out/groups MACs per output pixel.
`groups` turns it by degrees from dense (1) to depthwise (as many groups as channels).
"""

import torch
from torch import nn


class StandardConv(nn.Module):
    """x (N, C_in, H, W) -> (N, C_out, H', W')."""

    def __init__(
        self,
        in_ch=64,
        out_ch=128,
        kernel=3,
        stride=1,
        padding=None,
        dilation=1,
        groups=1,
        bias=True,
    ):
        super().__init__()
        if padding is None:
            padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(
            in_ch, out_ch, kernel, stride, padding, dilation, groups=groups, bias=bias
        )

    def forward(self, x):
        return self.conv(x)


def model():
    return StandardConv()


def example_inputs():
    return (torch.randn(1, 64, 56, 56),)
