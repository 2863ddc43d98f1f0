"""Our ensemble beside torchattacks and foolbox, on victims that hide nothing and on victims that mask.

`make bench-peers` makes an environment with both libraries; this runs there:
`.venv-peers/bin/python -m pytest -m slow tests/attacks/test_peers.py`
"""

import pytest
from torch import Tensor

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.budget import Norm
from tests import bench_peers

OURS = ("apgd", "ensemble")


@pytest.fixture(scope="module")
def gallery() -> dict[str, tuple[Surface, Tensor]]:
    for name in ("torchattacks", "foolbox"):
        pytest.importorskip(
            name, reason=f"{name} is not installed here: make bench-peers makes .venv-peers, which has it"
        )
    return bench_peers.victims()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("victim", ["dec", "convae", "NoGradient", "LabelAlone", "OthersGradient"])
def test_no_attack_of_theirs_flips_more_than_the_ensemble_by_over_one_sample_in_two_hundred(
    victim: str, norm: Norm, gallery: dict[str, tuple[Surface, Tensor]]
) -> None:
    surface, x = gallery[victim]
    clean = x[:200]
    found = {
        name: bench_peers.flips(surface, clean, attack(surface, clean), norm)
        for name, attack in bench_peers.attacks(norm, queries=1000).items()
    }
    theirs = [count for name, count in found.items() if name not in OURS]
    assert len(theirs) == 4
    assert 0 < found["ensemble"] < 200, "the radius tells attacks apart"
    assert found["ensemble"] >= max(theirs) - 1, found
