"""ShuffleNet: grouped 1x1 convolutions, and a shuffle that lets the groups talk.

Zhang et al., "ShuffleNet", 2017, arXiv:1707.01083, figure 2 and table 1. Grouping divides the cost
of a pointwise convolution by g; the shuffle between two of them moves bytes and computes nothing.
"""

import torch
from torch import nn

# Output channels of stage 2 for each number of groups (table 1); stages 3 and 4 double them.
STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
REPEATS = (4, 8, 4)


def channel_shuffle(x, groups):
    """Interleave the channels of `groups` groups: shape kept, no arithmetic."""
    b, c, h, w = x.shape
    x = x.view(b, groups, c // groups, h, w)
    x = x.transpose(1, 2).contiguous()
    return x.view(b, c, h, w)


def conv_bn(in_ch, out_ch, kernel, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_ch),
    )


class ChannelShuffle(nn.Module):
    def __init__(self, groups=4):
        super().__init__()
        self.groups = groups

    def forward(self, x):
        return channel_shuffle(x, self.groups)


class ShuffleUnit(nn.Module):
    """x (N, C_in, H, W) -> (N, C_out, H/stride, W/stride).

    At stride 1 the shortcut is added; at stride 2 it is average-pooled and concatenated, so the
    branch makes only the C_out - C_in channels that are new. `first_groups` is 1 in the very
    first unit, whose input is too narrow to be grouped (section 3.2).
    """

    def __init__(self, in_ch=240, out_ch=240, stride=1, groups=3, first_groups=None):
        super().__init__()
        branch = out_ch - in_ch if stride == 2 else out_ch
        narrow = out_ch // 4
        self.squeeze = conv_bn(in_ch, narrow, 1, groups=first_groups or groups)
        self.shuffle = ChannelShuffle(groups)
        self.depthwise = conv_bn(narrow, narrow, 3, stride, groups=narrow)
        self.expand = conv_bn(narrow, branch, 1, groups=groups)
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else None
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.shuffle(self.act(self.squeeze(x)))
        y = self.expand(self.depthwise(y))
        if self.pool is None:
            return self.act(x + y)
        return self.act(torch.cat([self.pool(x), y], dim=1))


class ShuffleNet(nn.Module):
    """Images (N, 3, H, W) -> logits (N, classes)."""

    def __init__(self, groups=3, classes=1000):
        super().__init__()
        ch = 24
        self.stem = nn.Sequential(conv_bn(3, ch, 3, stride=2), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        units = []
        out_ch = STAGE2[groups]
        for repeats in REPEATS:
            for i in range(repeats):
                first_groups = None if units else 1
                units.append(ShuffleUnit(ch, out_ch, 2 if i == 0 else 1, groups, first_groups))
                ch = out_ch
            out_ch = 2 * ch
        self.units = nn.Sequential(*units)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(ch, classes)

    def forward(self, x):
        x = self.global_pool(self.units(self.pool(self.stem(x))))
        return self.classifier(torch.flatten(x, 1))


def model():
    return ShuffleNet()


def example_inputs():
    return (torch.randn(1, 3, 224, 224),)
