"""`robust_cluster.evaluate`: a model from elsewhere, attacked in one call."""

import copy
import doctest
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

import robust_cluster
from robust_cluster import evaluate, evaluation
from robust_cluster.errors import ConfigError, DataError

BLOBS = torch.cat([torch.randn(30, 2, generator=torch.Generator().manual_seed(0)) * 0.05 + corner for corner in (0, 1)])
CLASSES = np.repeat([3, 7], 30)
QUICK: dict[str, Any] = {"profile": "smoke", "rows": 60}


class Nearest(nn.Module):
    """Squared distances to two corners, as logits: where x_0 + x_1 = 1, the two are even."""

    def __init__(self, scale: float = 5.0) -> None:
        super().__init__()
        self.corners = nn.Parameter(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return -self.scale * torch.cdist(x, self.corners).square()


def truth(eps: float) -> float:
    """The share that can cross x_0 + x_1 = 1 within eps a value: the sum moves by 2 eps at most."""
    return float(((BLOBS.sum(dim=1) - 1).abs() < 2 * eps).float().mean())


def test_the_example_of_the_module_runs() -> None:
    assert doctest.testmod(evaluation).failed == 0


def test_the_flips_are_those_that_geometry_allows() -> None:
    radii = [0.1, 0.45, 0.5, 0.6]
    found = evaluate(Nearest(), BLOBS, CLASSES, eps=radii, settings={"steps": 20}, **QUICK)
    assert [line["eps"] for line in found.radii] == radii
    assert [line["flip"] for line in found.radii] == pytest.approx([truth(eps) for eps in radii])
    assert found.flips == truth(0.6) == 1.0
    assert found.radii[0]["flip"] == 0.0
    assert (found.scores["ACC"], found.scores["ACC*"]) == (1.0, pytest.approx(0.5, abs=0.5))
    assert found.content["threat"]["eps_data"] == 0.6
    assert [one["name"] for one in found.audit if one["status"] == "fail"] == []
    assert "<td>0.6</td><td>100.0</td>" in found._repr_html_()


def test_an_attack_aimed_at_a_cluster_counts_the_samples_of_the_other() -> None:
    found = evaluate(Nearest(), BLOBS, attack="apgd", eps=0.5, target=1, **QUICK)
    outside = BLOBS.sum(dim=1) < 1
    assert found.scores["samples"] == int(outside.sum()) == 30
    within = (1 - BLOBS[outside].sum(dim=1) < 2 * 0.5).float().mean()
    assert found.scores["reached"] == found.flips == pytest.approx(float(within))


def test_soft_labels_and_logits_are_told_apart_and_give_the_same() -> None:
    class Soft(Nearest):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(dim=1)

    first, second = (evaluate(one, BLOBS, eps=0.5, settings={"steps": 20}, **QUICK) for one in (Soft(), Nearest()))
    assert first.flips == second.flips == truth(0.5)
    assert first.scores["ACC"] is None


def test_the_model_stays_as_it_was() -> None:
    model = Nearest().train()
    before = copy.deepcopy(model.state_dict())
    evaluate(model, BLOBS, eps=0.1, **QUICK)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_estimator_that_gives_labels_alone_is_asked_for_them() -> None:
    estimator = KMeans(2, n_init=1, random_state=0).fit(BLOBS.numpy())
    found = evaluate(estimator, BLOBS, CLASSES, eps=0.6, settings={"queries": 50}, **QUICK)
    assert found.scores["ACC"] == 1.0
    assert found.flips == 1.0, "square and the surrogate find what gradients cannot"
    assert found.content["threat"]["queries"] > 0


class Odd(nn.Module):
    """A model that gives whatever a function makes of the number of samples."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda x: torch.ones(len(x), 3, 2), r"the model must give \(n, K\), got torch.Size\(\[2, 3, 2\]\)"),
        (lambda x: torch.full((len(x), 2), float("nan")), "the model gives NaN or infinite values"),
        (lambda x: torch.full((len(x), 2), 0.4), "shares that do not sum to 1: the first sums to 0.8"),
        (lambda x: torch.randn(len(x), 2), r"another label when it is asked again \(dropout or noise"),
        (lambda x: x @ torch.ones(3, 2), "mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_a_model_that_is_none_is_refused_in_one_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        evaluate(Odd(make), BLOBS, eps=0.1, **QUICK)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must give \(60, 5\) for 60 samples and 5 clusters, got \(60, 2\)"):
        evaluate(Nearest(), BLOBS, n_clusters=5, eps=0.1, **QUICK)
    with pytest.raises(DataError, match="NaN"):
        evaluate(Nearest(), torch.full((4, 2), float("nan")), eps=0.1, **QUICK)

    class Labels:
        def predict(self, x: Any) -> Any:
            return np.zeros(len(x), int)

    with pytest.raises(ConfigError, match=r"does not say how many clusters it has \(n_clusters=K\)"):
        evaluate(Labels(), BLOBS, eps=0.1, **QUICK)


def test_images_have_their_radius_in_pixels() -> None:
    images = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))

    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mean = 8 * (x.flatten(1).mean(dim=1) - 0.5)
            return torch.stack([mean, -mean], dim=1)

    found = evaluate(Bright(), images, eps=8 / 255, profile="smoke", settings={"steps": 20})
    near = ((images.flatten(1).mean(dim=1) - 0.5).abs() < 8 / 255).float().mean()
    assert found.content["threat"]["eps_pixels"] == 8 / 255
    assert 0 <= found.flips <= float(near), "the box stops some pixels"


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, robust_cluster; robust_cluster.evaluate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert robust_cluster.Record is evaluation.Record
