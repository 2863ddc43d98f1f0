"""`rc attack`: how many labels of a trained model change under small moves."""

import typer

from robust_cluster.cli.options import BUDGET, EXTRAS, StageOptions, Verb

EXAMPLES = """
rc attack --model graph --data digits --profile smoke
rc attack --model graph --data digits --profile smoke --sweep attack.gamma=20,40,80
"""


def attack(ctx: typer.Context, options: StageOptions) -> None:
    """Plan and run, or show what there is."""
    from robust_cluster.cli.session import run_stage  # late: help needs none of it

    run_stage("attack", ctx, options)


VERB = Verb(
    "attack",
    "Attack a trained model, training it first.",
    EXAMPLES,
    options=StageOptions,
    run=attack,
    hidden=EXTRAS - BUDGET - {"attack", "attack_seeds", "sweep"},
)
