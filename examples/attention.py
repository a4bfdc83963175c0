"""Self-attention and the transformer's encoder layer.

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, sections 3.1 to 3.3. Four
projections cost 4·L·D² MACs, the two attention products 2·L²·D, the feed-forward pair 2·L·D·F.
"""

import torch
import torch.nn.functional as F
from torch import nn


class SelfAttention(nn.Module):
    """x (N, L, D) -> (N, L, D), with `heads` heads of D / heads."""

    def __init__(self, dim=64, heads=4, causal=False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class EncoderLayer(nn.Module):
    """x (N, L, D) -> (N, L, D): attention, then a feed-forward pair, each normalised and added."""

    def __init__(self, dim=64, heads=4, hidden=256):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def model():
    return EncoderLayer()


def example_inputs():
    return (torch.randn(1, 128, 64),)
