"""A method that labels only the rows it was fitted on: clustered and scored, and refused everywhere else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering

from robust_cluster import discover
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError
from robust_cluster.metrics.accuracy import accuracy
from robust_cluster.metrics.nmi import nmi
from robust_cluster.runs.spec import DataRef, Stage
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import methods
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context

# agglomerative clustering (Ward 1963) in the fewest lines; its labels depend on no seed
WARD = '''
from dataclasses import dataclass

import torch
from sklearn.cluster import AgglomerativeClustering

from robust_cluster.models.shallow.base import Shallow, ShallowConfig


@dataclass(frozen=True)
class Config(ShallowConfig):
    """It has no settings of its own."""


class Ward(Shallow):
    """Labels of the rows that it was fitted on."""

    transductive = True
    scores_refit = True

    def refit_labels(self, z, seed):
        return torch.as_tensor(AgglomerativeClustering(self.info.n_clusters).fit_predict(z.numpy()))

    def start(self, phase, embed, seed):
        self.fit.labels = self.refit_labels(embed().z, seed)
'''


@pytest.fixture(autouse=True)
def _ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method `ward`, in a file of its own."""
    (tmp_path / "ward_for_tests.py").write_text(WARD)
    monkeypatch.syspath_prepend(tmp_path)
    found = discover.modules
    own = {"ward": "ward_for_tests"}
    monkeypatch.setattr(discover, "modules", lambda kind: found(kind) | (own if kind == "models" else {}))


def clustered(dataset: Dataset, store: RunStore) -> dict[str, Any]:
    specs = plan(Request("cluster", dataset.ref, "ward", profile="smoke"), dataset.info)
    return execute(specs, Context(store, dataset, "smoke", device="cpu", threads=1))[-1]


def test_its_record_has_the_scores_of_the_labels_that_the_fit_gave(few_digits: Dataset, store: RunStore) -> None:
    record = clustered(few_digits, store)
    labels = AgglomerativeClustering(10).fit_predict(few_digits.views[0].numpy())
    metrics, health = record["metrics"], record["health"]
    assert metrics["ACC"] == accuracy(few_digits.labels, labels)
    assert metrics["NMI"] == nmi(few_digits.labels, labels)
    assert (metrics["ACC_refit"], metrics["NMI_refit"]) == (metrics["ACC"], metrics["NMI"])
    assert not [name for name in metrics if name.endswith(("_held", "_training"))]
    assert health["cluster_sizes"] == np.bincount(labels, minlength=10).tolist()
    assert (health["mean_entropy"], health["label_change"]) == (0, None)
    assert (metrics["reconstruction_error"], record["flags"]) == (0, [])


def test_rows_that_were_kept_from_the_fit_have_no_scores(store: RunStore) -> None:
    halves = load(DataRef("digits", limit=300, split="halves"), Folders())
    record = clustered(halves, store)
    assert record["data"]["n_samples"] == 150
    assert not [name for name in record["metrics"] if name.endswith("_held")]


@pytest.mark.parametrize("stage", ["attack", "defend", "reattack", "certify"])
def test_what_needs_labels_of_new_points_is_refused_before_anything_runs(stage: Stage, few_digits: Dataset) -> None:
    for defense in ("mutual_info", "none") if stage == "certify" else ("mutual_info",):
        request = Request(stage, few_digits.ref, "ward", attack="pgd", defense=defense, profile="smoke")
        with pytest.raises(ConfigError, match=r"Ward labels only the data that it was fitted on, .* no certificate"):
            plan(request, few_digits.info)


def test_it_has_no_soft_labels(few_digits: Dataset) -> None:
    model = methods.new_model("ward", {}, few_digits.info, 6)
    with pytest.raises(ConfigError, match="Ward labels only the data that it was fitted on"):
        model.assign(few_digits.views[0])
