"""What is made anew from the checkpoints of a finished run: its audit, the images that it misleads, its portrait."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robust_cluster.attacks.base import Attack
from robust_cluster.audit import checks
from robust_cluster.errors import CheckpointError, ConfigError, DataError, MissingResultError
from robust_cluster.measure.images import Images, Ints, Sheet, check_drawable, check_image, pairs
from robust_cluster.measure.images import sheet as misled
from robust_cluster.measure.points import Floats, Points, points_of
from robust_cluster.measure.portraits import Decodings, Portrait
from robust_cluster.measure.portraits import decodings as decoded
from robust_cluster.measure.portraits import portrait as portrayed
from robust_cluster.measure.rows import Rows
from robust_cluster.nn.precision import precision
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages import auditing, bench, methods
from robust_cluster.stages.context import Context, Trial


@dataclass(frozen=True)
class Moves:
    """n embeddings before and under an attack (n, d), their clusters (n,), and their classes (n,) or None."""

    clean: Floats
    moved: Floats
    before: Ints
    after: Ints
    classes: Ints | None


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
    with precision("highest"):
        rows, attacker = scored_again(spec, context)
        return misled(spec, rows, attacker, count)


def pictures(spec: RunSpec, context: Context, count: int) -> tuple[tuple[Images, ...], tuple[Images, ...]]:
    """A few of the images that a finished attack or reattack run was scored on, clean and moved: see `pairs`.

    Raises: as `sheet`.
    """
    check_pixels(spec)
    check_drawable(context.info)
    with precision("highest"):
        return pairs(*scored_again(spec, context), count)


def scored_again(spec: RunSpec, context: Context) -> tuple[Rows, Attack]:
    """The rows that a finished attack or reattack was scored on, and its attacker as it was then.

    Raises: CheckpointError when the model was trained anew since, ConfigError.
    """
    record: dict[str, Any] = context.store.record(spec) or {}
    current = context.parent_checkpoint(spec)
    if record.get("parent_checkpoint", current) != current:
        message = f"{spec.directory} was made from another checkpoint of its parent"
        raise CheckpointError(message, hint=f"the same rc {spec.stage} makes it anew")
    again = trial(spec, context)
    rows = bench.scored(again, again.held)
    # anew, the last before the moves: it seeds the generator that PGD draws its starts from, as in the run
    return rows, again.seen.trained_attack(spec, rows.surface)


def moved_points(spec: RunSpec, context: Context) -> Points:
    """The points that a finished attack or reattack was scored on, clean and moved. Raises: as `sheet`."""
    check_digest(spec, context)
    with precision("highest"):
        return points_of(*scored_again(spec, context))


def moved_embeddings(spec: RunSpec, context: Context) -> Moves:
    """Where a finished attack or reattack takes the embedding of the rows that it was scored on. Raises: as `sheet`."""
    check_digest(spec, context)
    with precision("highest"):
        rows, attacker = scored_again(spec, context)
        after = rows.outcome(rows.moved(attacker))
    return Moves(rows.clean.z.cpu().numpy(), after.z.cpu().numpy(), rows.clean.labels, after.labels, rows.truth)


def check_decodable(spec: RunSpec) -> None:
    """Raises ConfigError for a run whose attack moves no embeddings, or whose model cannot decode them."""
    if methods.attack_space(str(spec.attack), spec.settings.get("attack", {})) != "latent":
        message = f"decodings can only be drawn of attacks on the embedding, {spec.attack} moves the views"
        raise ConfigError(message, hint="an attack or reattack by latent_net or latent_pgd")
    if not methods.class_of("models", spec.model).has_decoder():
        raise ConfigError(f"decodings can only be drawn of a model that decodes, {spec.model} has no decoder")


def decodings(runs: Sequence[tuple[str, RunSpec]], context: Context, count: int) -> Decodings:
    """What the model of finished attacks or reattacks, each with its label, decodes of what they move: see `decoded`.

    The images of vectors are those that the model's setting `image_shape` says, or squares. Raises: as `sheet`.
    """
    first = runs[0][1]
    for _, spec in runs:
        check_decodable(spec)
        if spec.parent != first.parent:
            raise ConfigError(f"decoded is drawn of attacks on one model, those of {first.key} and {spec.key} differ")
    check_digest(first, context)
    model = first.ancestor("cluster").settings.get("model", {})
    shape = tuple(model.get("image_shape") or ())
    check_image(context.info, shape or context.info.shapes[0])
    with precision("highest"):
        return decoded(((label, *scored_again(spec, context)) for label, spec in runs), count, shape)


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
