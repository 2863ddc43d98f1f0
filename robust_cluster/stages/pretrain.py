"""Pretraining: the network that several methods start from, trained once and shared, or weights that a user brings."""

from typing import Any

from robust_cluster.errors import ConfigError
from robust_cluster.measure import training_curve
from robust_cluster.models.base import ClusterModel
from robust_cluster.nn.precision import precision, training
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import Run
from robust_cluster.stages import weights
from robust_cluster.stages.context import Context, record
from robust_cluster.stages.loop import Summary, Task, fit, trained_parts


def pretrain(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
    """The record of a pretraining run; its checkpoint is the part that the method hands on."""
    context = context.part(1)
    model = context.new_model(spec)
    if spec.weights:
        return brought(spec, run, context, model)
    optimizers = model.optimizers("pretrain")
    batches = context.batches(model.schedule("pretrain"), spec)
    task = Task(
        title=f"pretrain {spec.model}",
        step=training(spec.precision)(lambda batch: model.step(batch, "pretrain", optimizers)),
        state=trained_parts(model, optimizers),
        watch=training_curve.pretraining_scores(
            model, context.placed, seed_for(spec.seed, "drift", spec.model, spec.data.label)
        )
        if context.curve
        else dict,
    )
    with precision(spec.precision):
        summary = fit(task, batches, run, context.progress)
    run.save_model(model.pretrained().state_dict())
    drifts = {"drift": training_curve.pretraining_columns(run.lines())} if context.curve else {}
    return {**record(context, spec, summary), "metrics": {}, "health": {}, "flags": [], **drifts}


def brought(spec: RunSpec, run: Run, context: Context, model: ClusterModel) -> dict[str, Any]:
    """The record of a pretraining that takes its weights from the user's file. Raises: ConfigError."""
    if context.weights is None or context.weights.sha256 != spec.weights:
        raise ConfigError(f"{spec.directory} takes the weights of a file", hint="--weights FILE")
    for note in weights.fill(model.pretrained(), context.weights, spec.model):
        context.progress.note(note)
    run.save_model(model.pretrained().state_dict())
    summary = Summary(epochs=0, steps=0, samples=0, stop_reason="weights", seconds=0.0, loss=None, losses={})
    source = {"file": str(context.weights.path.absolute()), "sha256": spec.weights}
    found = {"metrics": {}, "health": {}, "flags": [weights.FLAG], "weights": source}
    return {**record(context, spec, summary), **found}
