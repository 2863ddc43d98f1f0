"""`rc certify`: how far each point may move before the smoothed model can change its cluster."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from robust_cluster.cli.options import EXTRAS, Space, StageOptions, Verb, on_command_line, option
from robust_cluster.errors import ConfigError
from robust_cluster.runs.spec import UNDEFENDED

EXAMPLES = """
rc certify --model convae --data digits --profile smoke --sigma 0.25 --samples 10000
rc certify --model convae --data digits --profile smoke --defense mutual_info --space latent --sigma 1
rc certify --model kmeans --data digits --profile smoke --sweep certify.sigma=0.1,0.25,0.5
"""
SUMMARY = "Certify a trained model: L2 radii in which no attack changes a smoothed label."


@dataclass(frozen=True, kw_only=True)
class CertifyOptions(StageOptions):
    """What `rc certify` takes beside the options of the chain; what is not given is the profile's."""

    sigma: Annotated[float | None, option(help="Noise: share of the value range; latent: embedding units. [0.25]")] = (
        None
    )
    samples: Annotated[int | None, option(help="Draws that bound a label's share. [10000]")] = None
    n0: Annotated[int | None, option(help="Draws before these that choose the label. [100]")] = None
    alpha: Annotated[float | None, option(help="Chance that a point's certificate is wrong. [0.001]")] = None
    space: Annotated[Space | None, option(help="Where noise is added. [input]")] = None
    rows: Annotated[int | None, option(help="Most points, evenly spaced. [1000]")] = None
    defense: Annotated[
        str, option(help="Certify the model after this defense; none: undefended.", offers="defenses")
    ] = UNDEFENDED

    def settings(self) -> dict[str, Any]:
        """Dotted setting -> value, of the flags that are settings of a certificate."""
        names = ("sigma", "samples", "n0", "alpha", "space", "rows")
        return {f"certify.{name}": given for name in names if (given := getattr(self, name)) is not None}


def certify(ctx: typer.Context, options: CertifyOptions) -> None:
    """Plan and run, or show what there is. Raises: ConfigError for options that have nothing to say here."""
    from robust_cluster.cli.session import run_stage  # late: help needs none of it

    if options.defense == UNDEFENDED and (given := {"attack", "mode"} & on_command_line(ctx)):
        raise ConfigError(
            f"--{min(given)} is of a defended model, and no defense was given", hint="--defense mutual_info"
        )
    run_stage("certify", ctx, options)


VERB = Verb(
    "certify",
    SUMMARY,
    EXAMPLES,
    options=CertifyOptions,
    run=certify,
    hidden=EXTRAS - {"attack", "defense", "mode", "sweep", "space", "rows"},
)
