"""`rc defend`: train an attacked model on, against its attacker."""

import typer

from robust_cluster.cli.options import EXTRAS, StageOptions, Verb

EXAMPLES = """
rc defend --model graph --data digits --profile smoke
rc defend --model graph --data digits --profile smoke --mode alternating
rc defend --model graph --data digits --profile smoke --mode control
"""


def defend(ctx: typer.Context, options: StageOptions) -> None:
    """Plan and run, or show what there is."""
    from robust_cluster.cli.session import run_stage  # late: help needs none of it

    run_stage("defend", ctx, options)


VERB = Verb(
    "defend",
    "Defend an attacked model, attacking it first.",
    EXAMPLES,
    options=StageOptions,
    run=defend,
    hidden=EXTRAS - {"attack", "defense", "mode"},
)
