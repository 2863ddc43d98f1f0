"""KINGDRA's buckets against the definition, pair by pair."""

import pytest
import torch

from robust_cluster.nn import agreement
from robust_cluster.nn.agreement import buckets


def looped(labels: list[list[int]], sure: list[bool], n_clusters: int, low: int, high: int) -> list[int]:
    n, found = len(labels), [-1] * len(labels)
    left = set(range(n))

    def alike(i: int, j: int) -> int:
        return sum(a == b for a, b in zip(labels[i], labels[j], strict=True))

    for k in range(n_clusters):
        strong = {
            i: [j for j in sorted(left) if sure[i] and sure[j] and alike(i, j) > high] for i in sorted(left) if sure[i]
        }
        if not strong or not max(map(len, strong.values())):
            break
        members = max(strong.values(), key=len)
        for j in members:
            found[j] = k
        left -= {i for i in left if any(alike(i, j) > low for j in members)}
    return found


@pytest.mark.parametrize(("low", "high"), [(1, 2), (0, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("rows", [1000, 7])
def test_buckets_are_those_of_the_definition(low: int, high: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "ROWS", rows)
    torch.manual_seed(low + high)
    labels, sure = torch.randint(3, (60, 3)), torch.rand(60) > 0.2
    expected = looped(labels.tolist(), sure.tolist(), 4, low, high)
    assert buckets(labels, sure, 4, low=low, high=high).tolist() == expected


def test_models_that_number_alike_clusters_differently_agree() -> None:
    """Rows 0-2 and 3-4; row 5 is with the first for one model and is left out, row 6 is unsure."""
    labels = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]])
    sure = torch.tensor([True] * 6 + [False])
    assert buckets(labels, sure, 2, low=0, high=2).tolist() == [0, 0, 0, 1, 1, -1, -1]
