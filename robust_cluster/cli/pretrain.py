"""`rc pretrain`: the networks that every method starts from."""

import typer

from robust_cluster.cli.options import EXTRAS, StageOptions, Verb

EXAMPLES = """
rc pretrain --model convae --data digits --profile smoke
rc pretrain --model convae --data digits --profile smoke --seed 0,1 --set model.pretrain.epochs=5
"""


def pretrain(ctx: typer.Context, options: StageOptions) -> None:
    """Plan and run, or show what there is."""
    from robust_cluster.cli.session import run_stage  # late: help needs none of it

    run_stage("pretrain", ctx, options)


VERB = Verb(
    "pretrain",
    "Train the network that the clustering starts from.",
    EXAMPLES,
    options=StageOptions,
    run=pretrain,
    hidden=EXTRAS,
)
