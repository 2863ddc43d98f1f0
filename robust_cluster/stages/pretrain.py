"""Pretraining: the network that several methods start from, trained once and shared."""

from typing import Any

from robust_cluster.measure import training_curve
from robust_cluster.nn.precision import precision, training
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import Run
from robust_cluster.stages.context import Context, record
from robust_cluster.stages.loop import Task, fit, trained_parts


def pretrain(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
    """The record of a pretraining run; its checkpoint is the part that the method hands on."""
    context = context.part(1)
    model = context.new_model(spec)
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
