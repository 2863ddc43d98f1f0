"""The one descent step that methods share, and Adam."""

import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from robust_cluster.nn.optim import adam, descend


def test_descend_steps_down_the_sum_of_the_terms_and_reports_each() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    terms = descend({"a": weight[0] * 2, "b": weight.sum()}, optimizer)
    assert terms == {"a": 2.0, "b": 2.0}
    torch.testing.assert_close(weight.detach(), torch.tensor([1 - 0.1 * 3, 1 - 0.1 * 1]))


def test_adam_has_the_published_constants() -> None:
    (group,) = adam([nn.Parameter(torch.zeros(1))], 1e-3).param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 1e-8, 0)


def test_adam_without_the_compiler_takes_the_steps_of_pytorchs_adam() -> None:
    torch.manual_seed(0)
    start, x = torch.randn(5, 3), torch.randn(3)
    found = []
    for kind in (adam, partial(torch.optim.Adam, fused=True)):
        weight = nn.Parameter(start.clone())
        optimizer = kind([weight], lr=1e-2)
        for _ in range(5):
            descend({"a": (weight @ x).square().sum()}, optimizer)
        optimizer.load_state_dict(optimizer.state_dict())
        assert weight.requires_grad
        found.append(weight.detach())
    assert torch.equal(*found)
    assert not torch.equal(found[0], start)


@pytest.mark.slow
def test_a_run_does_not_import_what_only_scores_and_compilers_need() -> None:
    """They would double the time from a command to its first step."""
    code = (
        "import sys, torch\n"
        "from robust_cluster.nn.optim import adam, descend\n"
        "from robust_cluster.stages import chain\n"
        "weight = torch.nn.Parameter(torch.ones(2))\n"
        "descend({'a': weight.sum()}, adam([weight], 0.1))\n"
        "loaded = {'torch._dynamo', 'sklearn', 'pandas', 'scipy.stats', 'scipy.optimize'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) == (0, "")
