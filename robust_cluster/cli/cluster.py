"""`rc cluster`: a clustering model, trained without labels and scored with them."""

import typer

from robust_cluster.cli.options import EXTRAS, StageOptions, Verb

EXAMPLES = """
rc cluster --model graph --data digits --profile smoke
rc cluster --model graph --data digits --profile smoke --seed 0,1 --set model.neighbors=5
rc cluster --model kmeans --data digits --json
"""


def cluster(ctx: typer.Context, options: StageOptions) -> None:
    """Plan and run, or show what there is."""
    from robust_cluster.cli.session import run_stage  # late: help needs none of it

    run_stage("cluster", ctx, options)


VERB = Verb(
    "cluster",
    "Train a clustering model, pretraining it first.",
    EXAMPLES,
    options=StageOptions,
    run=cluster,
    hidden=EXTRAS,
)
