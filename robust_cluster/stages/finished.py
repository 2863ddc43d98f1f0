"""What is made anew from the checkpoints of a finished run: its audit, the images that it misleads, its portrait."""

from typing import Any

from robust_cluster.attacks.base import Attack
from robust_cluster.audit import checks
from robust_cluster.errors import CheckpointError, ConfigError, DataError, MissingResultError
from robust_cluster.measure.images import Sheet, check_drawable
from robust_cluster.measure.images import sheet as misled
from robust_cluster.measure.points import Points, points_of
from robust_cluster.measure.portraits import Portrait
from robust_cluster.measure.portraits import portrait as portrayed
from robust_cluster.measure.rows import Rows
from robust_cluster.nn.precision import precision
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages import auditing, bench, methods
from robust_cluster.stages.context import Context, Trial


def trial(spec: RunSpec, context: Context) -> Trial:
    """A finished attack or reattack as it was when it was scored. Raises: ConfigError, CheckpointError."""
    if spec.parent is None:
        raise ConfigError("an attack needs a trained model before it")
    context = context.part(2)
    seen, held = bench.parts(spec, context)
    surface = bench.attacked_surface(context.trained_model(spec.parent), spec, seen)
    return Trial(context.trained_attack(spec, surface), surface, spec, seen, held)


def audit(spec: RunSpec, context: Context, *, rows: int = checks.FULL_ROWS) -> list[dict[str, Any]]:
    """All 27 findings on a finished attack or reattack, on at most `rows` samples; its record has them from then on.

    Raises: MissingResultError for a run that is not finished, ConfigError, CheckpointError.
    """
    finished = context.store.record(spec)
    if finished is None:
        hint = f"the same rc {spec.stage} resumes it"
        raise MissingResultError(f"The run {spec.directory} is not finished", hint=hint)
    with context.store.own(spec, notify=context.progress.note) as run:  # first: its hour of work needs it at the end
        with precision("highest"):
            found = auditing.findings(trial(spec, context), finished, "full", rows)
        run.amend({"audit": found})
    return found


def check_pixels(spec: RunSpec) -> None:
    """Raises ConfigError for a run whose attack moves no pixels."""
    if methods.attack_space(str(spec.attack), spec.settings.get("attack", {})) != "input":
        message = f"images can only be drawn of attacks on the views, {spec.attack} moves embeddings"
        raise ConfigError(message, hint="an attack or reattack by view_gan or pgd")


def sheet(spec: RunSpec, context: Context, count: int) -> Sheet:
    """The first `count` samples that a finished attack or reattack run misleads, of those that it was scored on.

    Raises: DataError, ShapeError, CheckpointError and ConfigError when the data, the checkpoints or the attack are not
    what the run had, or no images.
    """
    check_pixels(spec)
    check_digest(spec, context)
    check_drawable(context.info)
    check_parent(spec, context)
    with precision("highest"):
        rows, attacker, _ = scored_again(spec, context)
        return misled(spec, rows, attacker, count)


def moved_points(spec: RunSpec, context: Context) -> Points:
    """The points that a finished attack or reattack was scored on, clean and moved.

    Raises: DataError and CheckpointError when the data or the checkpoints are not what the run had.
    """
    check_digest(spec, context)
    check_parent(spec, context)
    with precision("highest"):
        rows, attacker, held = scored_again(spec, context)
        return points_of(rows, attacker, held.dataset)


def scored_again(spec: RunSpec, context: Context) -> tuple[Rows, Attack, Context]:
    """The rows that an attack was scored on, the attacker, and the context of the rows."""
    again = trial(spec, context)
    rows = bench.scored(again, again.held)
    # anew, the last before the moves: it seeds the generator that PGD draws its starts from, as in the run
    return rows, again.seen.trained_attack(spec, rows.surface), again.held


def check_parent(spec: RunSpec, context: Context) -> None:
    """Raises CheckpointError when the run before was made anew since."""
    record: dict[str, Any] = context.store.record(spec) or {}
    current = context.parent_checkpoint(spec)
    if record.get("parent_checkpoint", current) != current:
        message = f"{spec.directory} was made from another checkpoint of its parent"
        raise CheckpointError(message, hint=f"the same rc {spec.stage} makes it anew")


def portrait(spec: RunSpec, context: Context) -> Portrait:
    """The model that a finished clustering left, with its data embedded.

    Raises: CheckpointError, DataError when the data are not those of the run.
    """
    check_digest(spec, context)
    context = context.part(1)
    return portrayed(context.trained_model(spec).eval().requires_grad_(False), context.placed)


def check_digest(spec: RunSpec, context: Context) -> None:
    """Raises DataError for data that are not the run's."""
    info = context.info
    if info.sha256 != spec.data_sha256:
        digests = f"their SHA-256 begins {info.sha256[:12]}, that of the run's data {spec.data_sha256[:12]}"
        raise DataError(f"{info.name} is not the data that the run had: {digests}", hint="--data FILE")
