"""The weighted triplet loss of JULE (Yang, Parikh and Batra, CVPR 2016), triplets drawn from a batch."""

import torch
from torch import Tensor


def triplet_loss(z: Tensor, labels: Tensor, *, negatives: int, weight: float, margin: float) -> Tensor:
    """mean max(0, weight ||z_a - z_p||^2 - ||z_a - z_n||^2 + margin) over triplets; 0 where there are none.

    a and p are each pair of one label, a before p; beside each stand `negatives` n of other labels, drawn anew, all
    different, or all of them where there are fewer. Shapes: z (n, d), labels (n,).
    """
    # not by products: near ones would lose their digits
    squares = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square()
    is_same = labels.unsqueeze(1) == labels
    first, second = is_same.triu(1).nonzero().unbind(dim=1)
    draws = torch.rand(len(first), len(z), device=z.device).masked_fill_(is_same[first], -1.0)
    found = draws.topk(min(negatives, len(z)), dim=1)
    is_drawn = found.values >= 0
    apart = squares[first.unsqueeze(1), found.indices]
    terms = (weight * squares[first, second].unsqueeze(1) - apart + margin).clamp_min(0)
    return (terms * is_drawn).sum() / is_drawn.sum().clamp_min(1)
