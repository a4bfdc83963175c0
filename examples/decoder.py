"""A decoder-only language model, with its embedding tied to its head or not.

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2), section 2.3;
tied embeddings from Press and Wolf, 2016, arXiv:1608.05859. With layers=12, hidden=768, heads=12
and the 50,257-token vocabulary it is GPT-2 small: 124,439,808 parameters.
"""

import torch
import torch.nn.functional as F
from torch import nn


class DecoderLayer(nn.Module):
    """x (N, L, D) -> (N, L, D), each position seeing itself and those before it."""

    def __init__(self, hidden=256, heads=4):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, 4 * hidden)
        self.down = nn.Linear(4 * hidden, hidden)

    def forward(self, x):
        b, n, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, n, d))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Decoder(nn.Module):
    """Token ids (N, L) -> logits (N, L, vocab), L at most `sequence`."""

    def __init__(self, layers=4, hidden=256, heads=4, sequence=1024, vocab=32_000, tied=True):
        super().__init__()
        self.tokens = nn.Embedding(vocab, hidden)
        self.positions = nn.Embedding(sequence, hidden)
        self.layers = nn.Sequential(*(DecoderLayer(hidden, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, vocab, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens):
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(positions)
        return self.head(self.norm(self.layers(x)))


def model():
    return Decoder()


def example_inputs():
    return (torch.randint(0, 32_000, (1, 128)),)
