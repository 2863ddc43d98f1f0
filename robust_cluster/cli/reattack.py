"""`rc reattack`: fresh attackers against a defended model."""

import typer

from robust_cluster.cli.options import StageOptions, Verb

EXAMPLES = """
rc reattack --model graph --data digits --profile smoke
rc reattack --model graph --data digits --profile smoke --mode alternating --attack-seeds 0,1,2
"""


def reattack(ctx: typer.Context, options: StageOptions) -> None:
    """Plan and run, or show what there is."""
    from robust_cluster.cli.session import run_stage  # late: help needs none of it

    run_stage("reattack", ctx, options)


VERB = Verb(
    "reattack",
    "Attack a defended model with fresh attackers, defending it first.",
    EXAMPLES,
    options=StageOptions,
    run=reattack,
)
