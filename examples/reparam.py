"""A re-parameterised block: several branches to train, one convolution to run.

Ding et al., "RepVGG", 2021, arXiv:2101.03697, section 3.3; Vasu et al., "MobileOne", 2022,
arXiv:2206.04040, section 3. Batch norm in eval mode is affine and convolution is linear, so a sum
of convolution + batch norm branches is one convolution with bias: the same output, less work.
"""

import torch
import torch.nn.functional as F
from torch import nn


def fold(weight, norm):
    """The kernel and bias of a convolution with `weight` followed by `norm` in eval mode."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


class ReparamBlock(nn.Module):
    """x (N, C_in, H, W) -> (N, C_out, H/stride, W/stride).

    Trains `copies` branches of the full kernel, one 1x1 branch beside a larger kernel and, where
    the shapes allow it, a branch of batch norm alone. `reparameterize()` leaves one convolution.
    The defaults are RepVGG's block.
    """

    def __init__(self, in_ch=64, out_ch=64, kernel=3, stride=1, groups=1, copies=1):
        super().__init__()
        self.shape = (in_ch, out_ch, kernel, stride, kernel // 2, 1, groups)
        kernels = [kernel] * copies + ([1] if kernel > 1 else [])
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_ch, out_ch, k, stride, k // 2, groups=groups, bias=False),
                nn.BatchNorm2d(out_ch),
            )
            for k in kernels
        )
        self.skip = nn.BatchNorm2d(out_ch) if stride == 1 and in_ch == out_ch else None
        self.folded = None
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        if self.folded is not None:
            return self.act(self.folded(x))
        y = sum(branch(x) for branch in self.branches)
        return self.act(y if self.skip is None else y + self.skip(x))

    @torch.no_grad()
    def reparameterize(self):
        """Replace the branches by the one convolution that they amount to, and return self."""
        if self.folded is not None:
            return self
        self.folded = nn.Conv2d(*self.shape).to(self.branches[0][0].weight)
        out_ch, per_group, size, _ = self.folded.weight.shape
        parts = []
        for conv, norm in self.branches:
            border = (size - conv.weight.shape[-1]) // 2
            parts.append(fold(F.pad(conv.weight, [border] * 4), norm))
        if self.skip is not None:
            identity = torch.zeros_like(self.folded.weight)
            channel = torch.arange(out_ch)
            identity[channel, channel % per_group, size // 2, size // 2] = 1
            parts.append(fold(identity, self.skip))
        self.folded.weight.copy_(sum(weight for weight, _ in parts))
        self.folded.bias.copy_(sum(bias for _, bias in parts))
        del self.branches, self.skip
        return self


def mobileone_block(in_ch=64, out_ch=128, stride=1, copies=4):
    """MobileOne's unit: a depthwise 3x3 and a pointwise 1x1, each over-parameterised."""
    return nn.Sequential(
        ReparamBlock(in_ch, in_ch, 3, stride, groups=in_ch, copies=copies),
        ReparamBlock(in_ch, out_ch, 1, copies=copies),
    )


def folded(in_ch=64, out_ch=64, kernel=3, stride=1, groups=1, copies=1):
    """The block as it is deployed."""
    return ReparamBlock(in_ch, out_ch, kernel, stride, groups, copies).eval().reparameterize()


def model():
    return ReparamBlock()


def example_inputs():
    return (torch.randn(1, 64, 56, 56),)
