"""The depthwise-separable convolution of MobileNet.

Howard et al., "MobileNets", 2017, arXiv:1704.04861, section 3.1. A depthwise 3x3 filters each
channel by itself, a pointwise 1x1 then mixes the channels: K·K·C_in + C_in·C_out MACs per pixel
instead of K·K·C_in·C_out, a share of 1/C_out + 1/K².
"""

import torch
from torch import nn


class DepthwiseSeparable(nn.Module):
    """x (N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""

    def __init__(self, in_ch=64, out_ch=128, stride=1, kernel=3):
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_ch, in_ch, kernel, stride, kernel // 2, groups=in_ch, bias=False
        )
        self.norm1 = nn.BatchNorm2d(in_ch)
        self.pointwise = nn.Conv2d(in_ch, out_ch, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_ch)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.norm1(self.depthwise(x)))
        return self.act(self.norm2(self.pointwise(x)))


def model():
    return DepthwiseSeparable()


def example_inputs():
    return (torch.randn(1, 64, 56, 56),)
