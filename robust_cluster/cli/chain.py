"""The verbs of the chain, each of which runs what is missing before it: pretrain, cluster, attack, defend, reattack."""

from functools import partial

import typer

from robust_cluster.cli.options import BUDGET, EXTRAS, StageOptions, Verb
from robust_cluster.runs.spec import Stage


def run(stage: Stage, ctx: typer.Context, options: StageOptions) -> None:
    """Plan and run a stage, or show what there is."""
    from robust_cluster.cli.session import run_stage  # late: help needs none of it

    run_stage(stage, ctx, options)


def verb(stage: Stage, summary: str, examples: str, *, takes: frozenset[str] = frozenset()) -> Verb:
    """The verb of a stage; `takes`: the options among `EXTRAS` that it offers."""
    return Verb(stage, summary, examples, options=StageOptions, run=partial(run, stage), hidden=EXTRAS - takes)


VERBS = (
    verb(
        "pretrain",
        "Train the network that the clustering starts from.",
        """
        rc pretrain --model convae --data digits --profile smoke
        rc pretrain --model convae --data digits --profile smoke --seed 0,1 --set model.pretrain.epochs=5
        rc pretrain --model convae --data digits --profile smoke --log tensorboard
        """,
    ),
    verb(
        "cluster",
        "Train a clustering model, pretraining it first.",
        """
        rc cluster --model graph --data digits --profile smoke
        rc cluster --model graph --data digits --profile smoke --seed 0,1 --set model.neighbors=5
        rc cluster --model kmeans --data digits --json
        """,
    ),
    verb(
        "attack",
        "Attack a trained model, training it first.",
        """
        rc attack --model graph --data digits --profile smoke
        rc attack --model graph --data digits --profile smoke --sweep attack.gamma=20,40,80
        rc attack --model kmeans --data digits --attack apgd --norm linf --eps 0.2 --target 3
        """,
        takes=BUDGET | {"attack", "attack_seeds", "sweep"},
    ),
    verb(
        "defend",
        "Defend an attacked model, attacking it first.",
        """
        rc defend --model graph --data digits --profile smoke
        rc defend --model graph --data digits --profile smoke --mode alternating
        rc defend --model graph --data digits --profile smoke --mode control
        """,
        takes=frozenset({"attack", "defense", "mode"}),
    ),
    verb(
        "reattack",
        "Attack a defended model with fresh attackers, defending it first.",
        """
        rc reattack --model graph --data digits --profile smoke
        rc reattack --model graph --data digits --profile smoke --mode alternating --attack-seeds 0,1,2
        """,
        takes=EXTRAS,
    ),
)
