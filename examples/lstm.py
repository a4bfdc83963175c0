"""An LSTM that classifies a sequence of tokens.

Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, with the forget
gate of Gers et al., 2000. Four gates see the input and the state: 4·H·(I + H) MACs per step, layer
and direction.
"""

import torch
from torch import nn


class SequenceClassifier(nn.Module):
    """Token ids (N, T) -> logits (N, classes)."""

    def __init__(
        self, vocab=10_000, embed=128, hidden=256, layers=2, bidirectional=True, classes=2
    ):
        super().__init__()
        self.embed = nn.Embedding(vocab, embed)
        self.lstm = nn.LSTM(embed, hidden, layers, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), classes)

    def forward(self, tokens):
        states, _ = self.lstm(self.embed(tokens))
        return self.head(states.mean(dim=1))


def model():
    return SequenceClassifier()


def example_inputs():
    return (torch.randint(0, 10_000, (1, 64)),)
