"""Clustering: from the pretrained network (or from scratch) to a trained model, scored on the clean data."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robust_cluster.data import split
from robust_cluster.data.sparse import SparseView
from robust_cluster.discover import ORACLE
from robust_cluster.errors import OutOfMemory
from robust_cluster.measure import training_curve
from robust_cluster.measure.internal import internal_scores
from robust_cluster.measure.scores import (
    Metrics,
    Watch,
    answers,
    cluster_health,
    embed,
    hard_neighbors,
    in_portions,
    scores,
)
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.centers import CenterModel
from robust_cluster.nn.layers import flat
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.precision import precision, training
from robust_cluster.runs.record import OUT_OF_MEMORY
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import Run
from robust_cluster.stages import weights
from robust_cluster.stages.context import Context, fill, record
from robust_cluster.stages.loop import Task, fit, trained_parts

# figure of the health -> flag
SAW_CLASSES = "oracle that saw the classes"
FLAGS = {"collapsed": "collapsed", "adversarial_inactive": "adversarial term inactive", "adopted": "adopted"}


def cluster(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
    """The record of a clustering run: clean scores, health, how the training ended.

    A fit that would take more memory than there is leaves a record too: no scores, and how much it would take.
    """
    try:
        return clustered(spec, run, context)
    except OutOfMemory as error:
        context = context.part(1)
        metrics = scores(None, np.empty(0, np.int64), context.info.n_clusters)
        sizes = {"needed": error.needed, "available": error.available}
        found = {"metrics": metrics, "health": {}, "flags": [OUT_OF_MEMORY], "memory": sizes}
        return {**record(context, spec, None), **found}


def clustered(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
    """The record of a clustering that ran. Raises: OutOfMemory."""
    whole, context = context, context.part(1)
    model = context.new_model(spec)
    if run.load_state() is None:  # a resumed run has its start behind it
        with precision("highest"):
            begin(model, spec, context)
    with precision(spec.precision):
        watch = Watch(model, context.views)
        schedule = model.schedule("cluster")
        optimizers = model.optimizers("cluster") if schedule.epochs else {}
        curve: Callable[[], Mapping[str, Any]] = training_curve.Curve(model, context.placed) if context.curve else dict
        task = Task(
            title=f"cluster {spec.model}",
            step=training(spec.precision)(lambda batch: model.step(batch, "cluster", optimizers)),
            state={"watch": watch, **trained_parts(model, optimizers), **model.fit.parts},
            after_epoch=lambda epoch, batches: between_epochs(model, spec, context, epoch),
            watch=lambda: {**watch(), **curve()},
            stop_reason=model.stop_reason,
        )
        summary = fit(task, context.batches(schedule, spec), run, context.progress)
    model.eval()
    with precision("highest"):
        model.finish("cluster", lambda: embed(model, context.views), own_seed(spec))
    run.save_model(model.state_dict())
    if model.transductive and model.fit.labels is not None:
        run.save_labels(model.fit.labels.cpu().numpy())
    lines = run.lines() if context.curve else []
    drifts = {"drift": training_curve.columns(at_start(spec, context), lines)} if lines else {}
    description = describe_model(model, context)
    description["metrics"] |= refit_scores(model, context, own_seed(spec)) | training_scores(model, context)
    description["metrics"] |= held_scores(model, whole)
    description["health"]["label_change"] = label_change(run)
    if spec.parent and spec.parent.weights:
        description["flags"].append(weights.FLAG)
    return {**record(context, spec, summary), **description, **drifts, "internal": without_classes(model, context)}


def without_classes(model: ClusterModel, context: Context) -> dict[str, Any]:
    """Scores that need no classes, on the embedding and on the data."""
    with precision("highest"):
        embedding = embed(model, context.views)
        return internal_scores(embedding.z, context.views, answers(model, embedding)[1].cpu().numpy())


def begin(model: ClusterModel, spec: RunSpec, context: Context) -> None:
    """Take the pretrained weights and let the model prepare: centers, head."""
    if spec.parent:
        fill(model.pretrained(), context.store.load_model(spec.parent), spec.parent)
    model.eval()
    model.start("cluster", lambda: embed(model, context.views), own_seed(spec))
    model.train()


def at_start(spec: RunSpec, context: Context) -> training_curve.Figures:
    """The curve's figures of the model before its first step, which begins here a second time."""
    model = context.new_model(spec)
    with precision("highest"):
        begin(model, spec, context)
    return training_curve.Curve(model, context.placed)()


def between_epochs(model: ClusterModel, spec: RunSpec, context: Context, epoch: int) -> None:
    """Let the model do what it does after an epoch."""
    model.eval()
    with precision("highest"):
        model.after_epoch("cluster", epoch, lambda: embed(model, context.views), own_seed(spec))
    model.train()


def own_seed(spec: RunSpec) -> int:
    """The seed of a model's own k-means at the start or the end of its training."""
    return seed_for(spec.seed, "start", spec.model, spec.data.label, spec.latent_dim)


def describe_model(model: ClusterModel, context: Context) -> dict[str, Any]:
    """Clean scores, health and flags of a trained model; float32 products are exact here."""
    model.eval().requires_grad_(False)
    with precision("highest"):
        embedding = embed(model, context.views)
        health = cluster_health(model, embedding)
        predicted = answers(model, embedding)[1].cpu().numpy()
        metrics: Metrics = scores(context.labels, predicted, context.info.n_clusters)
        metrics["reconstruction_error"] = reconstruction_error(model, context) if model.has_decoder() else None
    flags = [flag for name, flag in FLAGS.items() if health.get(name)]
    is_oracle = context.info.name.startswith(ORACLE)
    return {"metrics": metrics, "health": health, "flags": [*flags, *([SAW_CLASSES] if is_oracle else [])]}


def refit_scores(model: ClusterModel, context: Context, seed: int) -> Metrics:
    """ACC_refit, NMI_refit and ARI_refit: scores of `refit_labels`; nothing for methods that are not scored so.

    And "hard_neighbors" of the points that these are fitted to, where the data are no sparse texts.
    """
    if not model.scores_refit:
        return {}
    with precision("highest"):
        z = embed(model, context.views).z
        labels = model.refit_labels(z, seed)
        neighbors = None
        if not isinstance(context.views[0], SparseView):
            points = model.points(z) if isinstance(model, CenterModel) else z
            neighbors = hard_neighbors(points, flat((context.views[0][:],)), context.labels)
    assert labels is not None  # such methods give them
    found = scores(context.labels, labels.cpu().numpy(), context.info.n_clusters)
    return {**{f"{name}_refit": found[name] for name in ("ACC", "NMI", "ARI")}, "hard_neighbors": neighbors}


def training_scores(model: ClusterModel, context: Context) -> Metrics:
    """ACC_training, NMI_training and ARI_training: scores of what the fit gave its rows, where their labels differ."""
    labels = model.fit.labels
    if labels is None or model.transductive:
        return {}
    found = scores(context.labels, labels.cpu().numpy(), context.info.n_clusters)
    return {f"{name}_training": found[name] for name in ("ACC", "NMI", "ARI")}


def label_change(run: Run) -> float | None:
    """The share of samples that changed cluster in the last epoch, None where fewer than two had labels.

    Of all samples where the model counts these, as DEC's family does to stop by it, else of the watched ones.
    """
    lines = run.lines()
    health = lines[-1]["health"] if lines else {}
    change: float | None = health.get("labels_changed", health.get("label_change"))
    return change


def held_scores(model: ClusterModel, whole: Context) -> Metrics:
    """ACC_held, NMI_held and ARI_held: scores of the rows that were kept from the training, matched by themselves."""
    if not split.divides(whole.dataset.ref.split) or model.transductive:
        return {}
    held = whole.part(2)
    with precision("highest"):
        predicted = model.labels(embed(model, held.views).z).cpu().numpy()
    found = scores(held.labels, predicted, held.info.n_clusters)
    return {f"{name}_held": found[name] for name in ("ACC", "NMI", "ARI")}


def reconstruction_error(model: ClusterModel, context: Context) -> float:
    """E ||x - dec(mu)||^2 over the data set, summed over pixels, without sampling."""

    def part(rows: Any) -> Any:
        views = tuple(view[rows] for view in context.views)
        error = squared_error(flat(model.decode(model.encode(views).z)), flat(views))
        return (error.reshape(1) * len(rows),)

    (sums,) = in_portions(context.info.n_samples, part, context.torch_device)
    return float(sums.sum()) / context.info.n_samples
