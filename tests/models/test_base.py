"""Schedules, drawn embeddings and the one descent step that methods share."""

import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig, Schedule, adam, descend


class Bare(ClusterModel):
    """A model of what is abstract, and nothing else."""

    def encode(self, views: Views) -> Embedding:
        return Embedding(views[0], views)

    def assign(self, z: torch.Tensor) -> torch.Tensor:
        return z.softmax(dim=1)


@pytest.fixture
def bare() -> Bare:
    return Bare(ModelConfig(), DataInfo("toy", ((2,),), 4, 2, None, 1.0, ""), 2)


def test_a_batch_is_never_more_than_a_fifth_of_the_data_and_never_empty() -> None:
    schedule = Schedule(batch_size=256)
    assert [schedule.batch(n) for n in (10_000, 1000, 4)] == [256, 200, 1]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": -1}, "epochs must be >= 0, got -1"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be >= 1, got 0"),
        ({"lr": 0.0}, "lr must be > 0, got 0.0"),
        ({"window": -1}, "window must be >= 0, got -1"),
    ],
)
def test_a_schedule_that_cannot_train_is_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Schedule(**values)  # type: ignore[arg-type]


def test_a_draw_has_the_posteriors_mean_and_variance() -> None:
    torch.manual_seed(0)
    z, log_var = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    shape = (50_000, 2)
    drawn = Embedding(z.expand(shape), (), log_var.expand(shape)).draw()
    torch.testing.assert_close(drawn.mean(dim=0), z[0], atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(dim=0), log_var[0].exp(), rtol=0.03, atol=0)


def test_without_a_posterior_the_draw_is_the_embedding_itself() -> None:
    z = torch.randn(3, 2)
    assert Embedding(z, (z,)).draw() is z


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
        "from robust_cluster.models.base import adam, descend\n"
        "from robust_cluster.stages import chain\n"
        "weight = torch.nn.Parameter(torch.ones(2))\n"
        "descend({'a': weight.sum()}, adam([weight], 0.1))\n"
        "loaded = {'torch._dynamo', 'sklearn', 'pandas', 'scipy.stats', 'scipy.optimize'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) == (0, "")


def test_what_a_model_does_not_have_is_said_in_a_sentence(bare: Bare) -> None:
    with pytest.raises(ConfigError, match="Bare has no decoder"):
        bare.decode(torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="Bare is not trained by gradient descent"):
        bare.losses(None, "cluster")  # type: ignore[arg-type]


def test_labels_are_the_argmax_of_the_soft_labels(bare: Bare) -> None:
    assert bare.labels(torch.tensor([[0.0, 1.0], [3.0, 1.0]])).tolist() == [1, 0]
