"""What every stage needs besides its spec, and the parts of a record that every stage writes."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from robust_cluster.attacks.base import Attack, Space, Surface
from robust_cluster.data import prepare
from robust_cluster.data.base import DataInfo, Dataset, Labels, Stored
from robust_cluster.discover import Kind
from robust_cluster.errors import CheckpointError, ConfigError, MissingResultError
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.layers import BatchNormMode
from robust_cluster.nn.precision import precision, training
from robust_cluster.runs.environment import describe, matmul_error
from robust_cluster.runs.progress import Progress, Silent
from robust_cluster.runs.seeds import generator, seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import device as devices
from robust_cluster.stages import methods, own
from robust_cluster.stages.loop import Batches, Summary, Task, run_epoch
from robust_cluster.stages.weights import Weights

Log = Literal["tensorboard"]


@dataclass
class Context:
    """Where the runs are, the data in memory, the device, and who is told of the progress.

    `profile` and `overrides` (dotted setting -> value, as the user gave them) are labels for the record. `curve`: log
    ACC and NMI after each epoch of a pretraining, and gradient cosines too of a clustering; it changes no number.
    `log`: where else a run's log goes.
    `weights`: what a pretraining takes in place of training, where its spec says so.
    """

    store: RunStore
    dataset: Dataset
    profile: str = "paper"
    device: str = "auto"
    threads: int | None = None
    progress: Progress = field(default_factory=Silent)
    force: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    curve: bool = False
    log: Log | None = None
    weights: Weights | None = None

    def __post_init__(self) -> None:
        self.torch_device = devices.choose(self.device)
        if self.threads:
            torch.set_num_threads(self.threads)
        self.views: Stored = devices.place(self.dataset.views, self.torch_device)

    @property
    def info(self) -> DataInfo:
        """What a model may know of the data."""
        return self.dataset.info

    @property
    def labels(self) -> Labels | None:
        """For scores, which measure/ has; nothing trains, stops or chooses by them."""
        return self.dataset.labels

    @property
    def placed(self) -> Dataset:
        """The data set with its views on the device: what measure/ is given."""
        return replace(self.dataset, views=self.views)

    def part(self, which: Literal[1, 2]) -> "Context":
        """This context on what models train on (1) or on what is attacked (2); itself for data that are not split."""
        part = prepare.part(self.dataset, which)
        return self if part is self.dataset else replace(self, dataset=part)

    def rows(self, rows: npt.NDArray[np.int64]) -> "Context":
        """This context on some of its rows."""
        return replace(self, dataset=prepare.take(self.dataset, rows))

    def batches(self, schedule: Schedule, spec: RunSpec) -> Batches:
        """Batches whose order belongs to this run."""
        return Batches(self.views, schedule, generator(seed_for(spec.seed, "batches", spec.key)))

    def parent_checkpoint(self, spec: RunSpec) -> str | None:
        """SHA-256 of the checkpoint that a run starts from, None for a run without a parent."""
        return self.store.recorded_checkpoint(spec.parent)

    def new_model(self, spec: RunSpec) -> ClusterModel:
        """An untrained model of the spec's lineage, initialized from its own seed, on the device."""
        owner = next(s for s in spec.lineage() if "model" in s.settings)
        torch.manual_seed(seed_for(owner.seed, "init", owner.model, owner.data.label, owner.latent_dim))
        model = methods.new_model(owner.model, owner.settings["model"], self.info, owner.latent_dim)
        devices.place_model(model, self.torch_device)
        return model

    def trained_model(self, spec: RunSpec) -> ClusterModel:
        """The model that a finished cluster or defend run left. Raises: CheckpointError."""
        model = self.new_model(spec)
        fill(model, self.store.load_model(spec), spec)
        return model

    def new_attack(self, spec: RunSpec, surface: Surface, **changes: Any) -> Attack:
        """An untrained attacker of an attack or reattack run; its seed has the parent in it: a re-attack is fresh.

        `changes`: settings that differ from the run's, e.g. another eps. What it transfers from another run is loaded.
        """
        parent = spec.parent.key if spec.parent else ""
        settings = {**spec.settings["attack"], **changes}
        source = self.source(settings["source"]) if settings.get("source") else None
        torch.manual_seed(seed_for(spec.attack_seed or 0, "attack", str(spec.attack), parent, spec.seed))
        attack = methods.new_attack(str(spec.attack), settings, surface)
        if source is not None:
            attack.borrow(*source)
        return attack

    def learned_attack(self, spec: RunSpec, surface: Surface, **changes: Any) -> Attack:
        """A new attacker as of `new_attack`, trained on the surface where it is one that learns; nothing is saved."""
        attacker = self.new_attack(spec, surface, **changes)
        if attacker.trained:
            task = Task("attacker", lambda batch: attacker.step(surface, batch), {})
            batches = self.batches(attacker.schedule, spec)
            for epoch in range(1, attacker.schedule.epochs + 1):
                run_epoch(task, batches, epoch)
                attacker.after_epoch(epoch)
        return attacker

    def source(self, key: str) -> tuple[Attack, Surface]:
        """The attacker that the run `key` left, and the surface of the model that it attacked.

        Raises: MissingResultError when there is no such finished attack among the runs, ConfigError for other data.
        """
        spec = self.store.find(key)
        if spec is None or spec.parent is None or not spec.attack or self.store.record(spec) is None:
            raise MissingResultError(f"There is no finished attack run with the key {key!r}", hint="rc ls runs")
        if spec.data_sha256 != self.info.sha256:
            raise ConfigError(f"{spec.directory} attacked other data than {self.info.name}: nothing can be transferred")
        space = methods.attack_space(spec.attack, spec.settings["attack"])
        bn = spec.settings["attack"].get("bn", "eval")
        surface = frozen_surface(self.trained_model(spec.parent), space, None, bn)
        return self.trained_attack(spec, surface), surface

    def trained_attack(self, spec: RunSpec, surface: Surface) -> Attack:
        """The attacker that a finished attack run left. Raises: CheckpointError."""
        attack = self.new_attack(spec, surface)
        saved = self.store.load_model(spec)
        for name, part in attack.state().items():
            if isinstance(part, nn.Module):
                fill(part, saved[name], spec)
        return attack


@dataclass(frozen=True)
class Trial:
    """An attacker against a frozen model: it learns on `seen` and is scored on `held`, by default the same rows.

    `surface.memory`, where there is one, is that of `seen`.
    """

    attacker: Attack
    surface: Surface
    spec: RunSpec
    seen: Context
    held: Context

    @property
    def undefended(self) -> Surface:
        """The same surface of the model before its defense, for a re-attack."""
        model = self.seen.trained_model(self.spec.ancestor("cluster"))
        return frozen_surface(model, self.surface.space, None, self.surface.bn)

    @property
    def attack_spec(self) -> RunSpec:
        """The run that the attacker is of: this one, or that before a defense."""
        return next(spec for spec in self.spec.lineage() if spec.attack)


class Asked:
    """How often an attacker has asked its victim, as a part of the state that it resumes with."""

    def __init__(self, attacker: Attack) -> None:
        self.attacker = attacker

    def state_dict(self) -> dict[str, int]:
        """The count so far."""
        return {"queries": self.attacker.queries}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from that count."""
        self.attacker.queries = state["queries"]


def fill(module: nn.Module, state: Mapping[str, Any], spec: RunSpec) -> None:
    """Load a checkpoint. Raises: CheckpointError when it is of another network."""
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint of {spec.directory} is of another network: {error}") from error


def record(context: Context, spec: RunSpec, summary: Summary | None) -> dict[str, Any]:
    """The parts of a record that every stage writes: data, training, environment, profile, the parent's checkpoint."""
    info = context.info
    with precision(spec.precision), training(spec.precision):
        error = matmul_error(str(context.torch_device))
    return {
        "profile": context.profile,
        "overrides": dict(context.overrides),
        **_own_files(spec),
        "parent_checkpoint": context.parent_checkpoint(spec),
        "data": {
            "name": info.name,
            "n_samples": info.n_samples,
            "n_clusters": info.n_clusters,
            "shapes": [list(shape) for shape in info.shapes],
            "scale": info.scale,
            "columns": info.columns and asdict(info.columns),
            "column_names": context.dataset.columns and list(context.dataset.columns),
            "sha256": info.sha256,
            "labels": context.labels is not None,
            "source": context.dataset.source,
        },
        "training": {**summary.to_json(), "total_seconds": total_seconds(context, spec, summary)} if summary else None,
        "environment": describe(str(context.torch_device), context.threads)
        | {"matmul": {"precision": spec.precision, "relative_error": error}},
    }


def _own_files(spec: RunSpec) -> dict[str, Any]:
    """The user's own files that a run's methods are in, by which a later command finds them again."""
    kinds: tuple[tuple[Kind, str], ...] = (("models", "model"), ("attacks", "attack"), ("defenses", "defense"))
    named = [(kind, getattr(one, field)) for one in spec.lineage() for kind, field in kinds]
    members = [member for one in spec.lineage() for member in one.settings.get("attack", {}).get("members", ())]
    named += [("attacks", member.partition(":")[0]) for member in members]
    found = own.files_of(*named)
    return {"own_files": found} if found else {}


def total_seconds(context: Context, spec: RunSpec, summary: Summary) -> float | None:
    """Seconds of training of a run and of all before it; None where one of these has no record of its own."""
    before = [(context.store.record(one) or {}).get("training") for one in list(spec.lineage())[1:]]
    return None if None in before else summary.seconds + sum(float(one["seconds"]) for one in before if one)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the bytes of every parameter and buffer: equal before and after an attack, or the attack cheated."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def frozen_surface(model: ClusterModel, space: Space, memory: Embedding | None, bn: BatchNormMode = "eval") -> Surface:
    """A surface on a model that no longer trains: eval mode, no gradients to its parameters."""
    model.eval().requires_grad_(False)
    return Surface(model, space, memory, bn)
