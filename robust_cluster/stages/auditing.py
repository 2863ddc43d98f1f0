"""What an audit is given of a finished attack, and where its findings go: the record of the run."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.audit import checks
from robust_cluster.audit.base import Certificate, Evidence, When
from robust_cluster.data import split
from robust_cluster.data.base import Labels
from robust_cluster.errors import ConfigError
from robust_cluster.measure.rows import Rows, unit
from robust_cluster.measure.scores import Metrics, Predicted, attacked_scores, batch_of, embed, labeled, spaced
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages import methods
from robust_cluster.stages.context import Context, Trial

SHARED = ("space", "norm", "views", "view_eps", "bn", "target")  # settings that other attacks take from the audited


def findings(
    trial: Trial, record: Mapping[str, Any], which: When, rows: int = checks.FULL_ROWS
) -> list[dict[str, Any]]:
    """The 27 findings on an attack as JSON has them; "quick" runs those that every attack is run with."""
    progress = trial.seen.progress
    title = f"audit {trial.spec.model} under {trial.attack_spec.attack}"
    if which == "full":
        progress.start(title, len(checks.CHECKS), 0, unit="check")
    try:
        known = evidence(trial, record, rows)
        if which == "full":
            known = replace(known, **other_runs(trial, known))
        found = checks.run(known, which, (lambda check: progress.epoch(check.id, {})) if which == "full" else None)
    finally:
        progress.stop()
    return [asdict(finding) for finding in found]


def evidence(trial: Trial, record: Mapping[str, Any], rows: int) -> Evidence:
    """What the checks may look at: the attack on at most `rows` evenly spaced of its scored samples."""
    spec, held = trial.spec, trial.held
    surface = replace(trial.surface, memory=None)  # what there is, is of the samples that the attack learned on
    settings = trial.attack_spec.settings["attack"]
    scored, target = spaced(held.info.n_samples, settings.get("rows", held.info.n_samples)), settings.get("target")
    with torch.no_grad():
        clean = surface.model.labels(embed(surface.model, held.views).z).cpu().numpy()
    scored = scored if target is None else scored[torch.from_numpy(clean[scored.numpy()] != target)]
    places = labeled(spaced(len(scored), rows), None if held.labels is None else held.labels[scored.numpy()])
    index = scored[places]
    batch = batch_of(held.views, index.to(held.torch_device))
    labels = None if held.labels is None else held.labels[index.numpy()]
    return Evidence(
        surface=surface,
        attacker=trial.attacker,
        build=lambda changes: trial.seen.new_attack(trial.attack_spec, surface, **changes),
        batch=batch,
        clean_labels=clean[index.numpy()],
        record=record,
        labels=labels,
        score=partial(score, held.info.n_clusters),
        clean_scores=clean_scores(trial, surface),
        others=partial(other_attack, trial, surface),
        build_shuffled=lambda changes: shuffled(trial.seen).new_attack(trial.attack_spec, surface, **changes),
        scored=len(scored),
        places=places.numpy(),
        defense=next((run.defense for run in spec.lineage() if run.defense), None),
        seed=seed_for(spec.seed, "audit", spec.key),
    )


def other_runs(trial: Trial, known: Evidence) -> dict[str, Any]:
    """What the full audit knows of other runs: the model before its defense, certificates, other seeds."""
    found = {"certificate": certificate(trial, known.batch.index.cpu().numpy()), "seeds": tuple(seeds(trial))}
    if trial.spec.stage != "reattack":
        return found
    twin = replace(trial.spec, stage="attack", parent=trial.spec.ancestor("cluster"))
    return {**found, "undefended": trial.undefended, "twin": trial.seen.store.record(twin)}


def score(n_clusters: int, truth: Labels | None, clean: Predicted, moved: Predicted) -> Metrics:
    """The stage's own scores of moved labels."""
    return {**attacked_scores(truth, clean, moved, n_clusters), "flip": flip_rate(clean, moved)}


def clean_scores(trial: Trial, surface: Surface) -> dict[str, tuple[float | None, float | None]]:
    """ACC and NMI of the trained model in the record of its training, and as the attack's own path finds them.

    No scores where they cannot agree: a model scored on other samples, or labels by statistics of the batch.
    """
    held, parent = trial.held, trial.spec.parent
    recorded = held.store.record(parent) if parent else None
    if recorded is None or surface.bn != "eval" or held.info.n_samples != scored_samples(trial, recorded):
        return {}
    again = Rows(surface, held.placed).clean_scores()
    suffix = "_held" if is_scored_apart(trial, recorded) else ""
    return {name: (recorded["metrics"].get(f"{name}{suffix}"), again[name]) for name in ("ACC", "NMI")}


def is_scored_apart(trial: Trial, recorded: Mapping[str, Any]) -> bool:
    """Whether the trained model has scores of its own for the rows that were kept from its training."""
    return recorded["spec"]["stage"] == "cluster" and split.divides(trial.held.dataset.ref.split)


def scored_samples(trial: Trial, recorded: Mapping[str, Any]) -> int | None:
    """On how many of the samples that can be attacked the trained model was scored; None where it was on others.

    A defense is scored as the attack that it meets, which may be on fewer rows than there are.
    """
    if is_scored_apart(trial, recorded):
        return trial.held.info.n_samples if trial.seen is trial.held else None  # else an attacker learned from others
    found: int = recorded["metrics"].get("samples") or recorded["data"]["n_samples"]
    return found


def other_attack(trial: Trial, surface: Surface, name: str, changes: Mapping[str, Any]) -> Attack:
    """Another attack at the same budget and batch norm. Raises: ConfigError where it has no such settings."""
    settings = trial.attack_spec.settings["attack"]
    config = methods.resolve("attacks", name, trial.seen.profile, {})
    known = methods.plain(config)
    budget = trial.attacker.budget
    own = {key: settings[key] for key in SHARED if key in settings and key in known}
    if "eps" in known and budget.norm is not None:
        own |= {"norm": budget.norm, "eps": budget.eps / unit(trial.surface), "space": surface.space}
    refused = [key for key in (*own, *changes) if key not in known]
    if refused:
        raise ConfigError(f"{name} has no setting {refused[0]}")
    torch.manual_seed(seed_for(trial.spec.seed, "audit", name, trial.spec.key))
    return methods.new_attack(name, {**known, **own, **changes}, surface)


def shuffled(context: Context) -> Context:
    """The context with the labels of its samples in another order: no attack may care."""
    labels = context.labels
    if labels is None:
        return context
    order = np.random.default_rng(seed_for(0, "shuffled labels", context.dataset.ref.label)).permutation(len(labels))
    return replace(context, dataset=replace(context.dataset, labels=labels[order]))


def seeds(trial: Trial) -> Iterator[tuple[int, int]]:
    """Model seed and attack seed of every finished run that differs from this one in nothing else."""

    def cell(spec: RunSpec) -> str:
        plain = replace(spec, seed=0, attack_seed=None, parent=None)
        return plain.key + "".join(replace(run, seed=0, parent=None).key for run in list(spec.lineage())[1:])

    own = cell(trial.spec)
    for record in trial.seen.store.records(trial.spec.stage):
        spec = RunSpec.from_json(record["spec"])
        if spec.model == trial.spec.model and cell(spec) == own:
            yield spec.seed, spec.attack_seed or 0


def certificate(trial: Trial, index: Predicted) -> Certificate | None:
    """What a finished certificate of the same model in the same space says of the rows `index` (m,).

    None where the attack holds rows back, for a certificate numbers those of the whole half, and where labels miss.
    """
    spec, held = trial.spec, trial.held
    if held is not trial.seen or (held.labels is not None and held.labels.min() < 0):
        return None
    for record in held.store.records("certify"):
        run, found, listed = RunSpec.from_json(record["spec"]), record.get("certified"), record.get("samples")
        is_same = run.parent is not None and spec.parent is not None and run.parent.key == spec.parent.key
        if not (is_same and found and listed and found["space"] == trial.surface.space):
            continue
        rows = spaced(held.info.n_samples, listed["rows"]).numpy()
        places = {row: place for place, row in enumerate(rows.tolist())}
        if not all(row in places for row in index.tolist()):
            continue
        chosen = [places[row] for row in index.tolist()]
        smoothed = [-1 if c == "-" else int(c, 36) for c in listed["smoothed"]]
        scale = unit(trial.surface)
        return Certificate(
            labels=np.array(smoothed, np.int64)[chosen],
            radius=scale * np.array(listed["radius"], np.float64)[chosen],
            sigma=scale * found["sigma"],
            alpha=found["alpha"],
            n=found["n"],
        )
    return None
