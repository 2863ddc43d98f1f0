"""Drawn embeddings, and what a model says of what it does not have."""

import pytest
import torch

from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig


class Bare(ClusterModel):
    """A model of what is abstract, and nothing else."""

    def encode(self, views: Views) -> Embedding:
        return Embedding(views[0], views)

    def assign(self, z: torch.Tensor) -> torch.Tensor:
        return z.softmax(dim=1)


@pytest.fixture
def bare() -> Bare:
    return Bare(ModelConfig(), DataInfo("toy", ((2,),), 4, 2, None, 1.0, ""), 2)


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


def test_what_a_model_does_not_have_is_said_in_a_sentence(bare: Bare) -> None:
    with pytest.raises(ConfigError, match="Bare has no decoder"):
        bare.decode(torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="Bare is not trained by gradient descent"):
        bare.losses(None, "cluster")  # type: ignore[arg-type]


def test_labels_are_the_argmax_of_the_soft_labels(bare: Bare) -> None:
    assert bare.labels(torch.tensor([[0.0, 1.0], [3.0, 1.0]])).tolist() == [1, 0]


def test_answers_are_labels_and_log_assign_from_one_assign_unless_a_method_has_its_own(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    z, asked = torch.tensor([[0.0, 1.0], [300.0, 1.0]]), []
    expected = (bare.labels(z), bare.log_assign(z))
    monkeypatch.setattr(Bare, "assign", lambda self, z: asked.append(1) or z.softmax(dim=1))
    assert all(found.equal(known) for found, known in zip(bare.answers(z), expected, strict=True))
    assert len(asked) == 1
    for name, own in (("labels", torch.tensor([7, 7])), ("log_assign", torch.zeros(2, 2))):
        with monkeypatch.context() as patch:
            patch.setattr(Bare, name, lambda self, z, own=own: own)
            labels, log_y = bare.answers(z)
            assert labels.equal(own if name == "labels" else expected[0])
            assert log_y.equal(own if name == "log_assign" else expected[1])
