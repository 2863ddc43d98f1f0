"""What a finished run's model says of samples: their labels, soft labels and embedding."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import one_hot

from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.nn.precision import precision
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages import methods
from robust_cluster.stages.context import Context

Numbers = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Prediction:
    """One row a sample: `ids` (n,), `labels` (n,) in 0..K-1, `soft_labels` (n, K), `embedding` (n, d).

    `id_name`: "row", a number in the file that counts from 0, or the id column of the table.
    """

    id_name: str
    ids: Numbers
    labels: Numbers
    soft_labels: Numbers
    embedding: Numbers


def model_of(spec: RunSpec) -> RunSpec:
    """The run whose model is asked: a clustering or defense, or what an attack or certificate is of.

    Raises: ConfigError for a pretraining, which has no clusters.
    """
    for one in spec.lineage():
        if one.stage in ("cluster", "defend"):
            return one
    raise ConfigError(f"{spec.directory} has no clusters yet", hint="a run of rc cluster")


def is_transductive(spec: RunSpec) -> bool:
    """Whether the model of a run labels only the rows that it was fitted on."""
    return bool(methods.class_of("models", model_of(spec).model).transductive)


def predict(spec: RunSpec, context: Context) -> Prediction:
    """What the model of a run says of the samples of a context; a transductive one what it gave its own rows.

    Raises: CheckpointError, ConfigError.
    """
    spec = model_of(spec)
    with precision("highest"):
        if is_transductive(spec):
            labels = torch.from_numpy(context.store.labels(spec))
            soft_labels = one_hot(labels, context.info.n_clusters).float()
            z = embed(context.new_model(spec).eval(), context.views).z
        else:
            model = context.trained_model(spec).eval().requires_grad_(False)
            z = embed(model, context.views).z
            soft_labels, labels = model.assign(z), model.labels(z)
    dataset = context.dataset
    return Prediction(
        dataset.ref.id_column or "row",
        np.arange(len(labels)) if dataset.ids is None else dataset.ids,
        labels.cpu().numpy(),
        soft_labels.cpu().numpy(),
        (z if z.layout == torch.strided else z.to_dense()).cpu().numpy(),
    )
