"""Clusters that an ensemble agrees on: KINGDRA's graph of samples and the buckets that it takes from it."""

import torch
from torch import Tensor

ROWS = 1000  # whose agreement with all others is held at once


def agreement(some: Tensor, labels: Tensor) -> Tensor:
    """In how many models each of some rows has the label of each row, (m, n). Shapes: some (m, M), labels (n, M)."""
    return sum(((some[:, j, None] == labels[:, j]).to(torch.int16) for j in range(labels.shape[1])), torch.zeros(()))


def buckets(labels: Tensor, is_sure: Tensor, n_clusters: int, *, low: int, high: int) -> Tensor:
    """The bucket (n,) of every row, -1 for those without one; at most `n_clusters` of them.

    Two rows have a strong link where more than `high` models label them alike and all models are sure of both, a weak
    one where more than `low` do. The row of the most strong links and those that it links to are the first bucket; the
    rows with a weak link to any of them are left out; the same again with what is left. Source: KINGDRA (Gupta et al.,
    ICLR 2020). Shapes: labels (n, M) of the models, each with numbers of its own; is_sure (n,).
    """
    found = torch.full((len(labels),), -1, device=labels.device)
    is_left = torch.ones_like(is_sure)
    for k in range(n_clusters):
        rows = (is_left & is_sure).nonzero()[:, 0]
        if not len(rows):
            break
        inner = labels[rows]
        links = torch.cat([(agreement(part, inner) > high).sum(dim=1) for part in inner.split(ROWS)])
        seed = inner[links.argmax()][None]
        members = rows[(agreement(seed, inner) > high)[0]]
        if not len(members):  # `high` asks for more than all models
            break
        found[members] = k
        near = torch.zeros_like(is_left)
        for part in labels[members].unique(dim=0).split(ROWS):
            near |= (agreement(part, labels) > low).any(dim=0)
        is_left &= ~near
    return found
