"""The contracts of a method, put to it on 200 of scikit-learn's digits: `rc check ./mine.py`.

Models are tried as vectors, as images and as two views until they take one; attacks and defenses meet small models of
the house. Networks are as large as the method's `PROFILES["smoke"]` says, trainings a few steps long.
"""

import copy
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch

from robust_cluster import discover
from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.audit import contracts
from robust_cluster.audit.contracts import Broken, Defended
from robust_cluster.data.base import Batch, DataInfo, Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.discover import Kind
from robust_cluster.errors import ConfigError, StoppedError
from robust_cluster.measure.scores import embed
from robust_cluster.models.adopted import Adopted
from robust_cluster.models.base import ClusterModel, Phase
from robust_cluster.nn.precision import precision
from robust_cluster.runs.progress import Progress, Silent
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import methods, own
from robust_cluster.stages.chain import Request, carry_out, check_space, plan
from robust_cluster.stages.context import Context, frozen_surface
from robust_cluster.stages.settings import build

Contract = tuple[str, Callable[[], None]]
LIMIT = 110.0  # seconds after which no further contract is begun
ROWS = 200
LATENT = 6  # dimensions of embeddings
QUICK = {"n_init": 1, "head_steps": 20}  # settings that make a start quick
SCHEDULES: dict[Stage, tuple[str, ...]] = {  # settings that say how long the runs of a stage are
    "cluster": ("model.pretrain", "model.cluster"),
    "attack": ("attack.schedule",),
    "defend": ("defense.schedule",),
}
EPOCHS, STEPS = 3, 4  # of a run that is stopped and resumed
FIRST = ("embeds samples", "soft labels sum to 1", "same answer twice")  # without which the others mean nothing
VICTIMS = ("kmeans", "dec", "convae", "comvc")  # models of the house that attacks and defenses meet


@dataclass(frozen=True)
class Line:
    """What became of one contract; `note`: what is wrong and what to do, or why it has no meaning here."""

    contract: str
    status: Literal["passed", "failed", "not run"]
    note: str = ""
    seconds: float = 0.0


def vectors() -> Dataset:
    """200 digits as vectors of 64 values."""
    return load(DataRef("digits", limit=ROWS), Folders(downloads=False))


def two_views() -> Dataset:
    """200 digits of 16 x 16 pixels in [0, 1], in two views with noise of their own."""
    flat = vectors()
    view = flat.views[0][:]
    images = (view / view.max()).unflatten(1, (1, 8, 8))
    images = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    random = torch.Generator().manual_seed(0)
    noises = [0.1 * torch.randn(images.shape, generator=random) for _ in range(2)]
    views = tuple((images + noise).clamp(0, 1) for noise in noises)
    info = DataInfo("pair", ((1, 16, 16),) * 2, ROWS, 10, (0.0, 1.0), 1.0, "")
    return Dataset(DataRef("pair"), info, views, flat.labels, "scikit-learn")


def first_view(pair: Dataset) -> Dataset:
    """The images of the first of two views."""
    return replace(
        pair,
        ref=DataRef("images"),
        info=replace(pair.info, name="images", shapes=pair.info.shapes[:1]),
        views=pair.views[:1],
    )


def forms() -> Iterator[Dataset]:
    """The digits as vectors, as small images, as two views, as 28 x 28 pixels and as these in a row."""
    yield vectors()
    yield first_view(two_views())
    yield two_views()
    for is_flat in (False, True):
        yield load(DataRef("digits-28", limit=ROWS, flatten=is_flat), Folders(downloads=False))


@dataclass(frozen=True)
class Subject:
    """A model on the data that it takes."""

    name: str
    dataset: Dataset

    @property
    def views(self) -> Any:
        """Those of the data set."""
        return self.dataset.views

    @cached_property
    def batch(self) -> Batch:
        """Samples 20 to 69; of images, whose networks are slow, to 49."""
        index = torch.arange(20, 70 if self.views[0].ndim == 2 else 50)
        return Batch(tuple(view[index] for view in self.views), index)

    def new(self, **settings: Any) -> ClusterModel:
        """An untrained model of seed 0."""
        torch.manual_seed(0)
        values = methods.plain(methods.resolve("models", self.name, "smoke", settings))
        return methods.new_model(self.name, values, self.dataset.info, LATENT)

    @cached_property
    def first(self) -> ClusterModel:
        """A model that is started once."""
        return self.begun()

    def started(self) -> ClusterModel:
        """A copy of it."""
        return copy.deepcopy(self.first)

    def begun(self) -> ClusterModel:
        """An untrained model after the clustering's start() and finish(), with few restarts and head steps."""
        model = self.new(**quick(self.name))
        model.eval()
        model.start("cluster", lambda: embed(model, self.views), seed=0)
        model.finish("cluster", lambda: embed(model, self.views), seed=0)
        return model.train()


def quick(name: str) -> dict[str, int]:
    """The settings of `QUICK` that a model has."""
    return {
        key: value for key, value in QUICK.items() if key in discover.load("models", name).Config.__dataclass_fields__
    }


def subject(name: str) -> Subject:
    """A model on the first form of the data that it takes. Raises: why it takes none of them."""
    cls, refusals = methods.class_of("models", name), []
    for dataset in forms():
        found = Subject(name, dataset)
        try:
            cls.check(methods.resolve("models", name, "smoke", {}), dataset.info)
            model = found.started().eval()
            if not cls.transductive:
                model.labels(embed(model, dataset.views).z)
            return found
        except Exception as error:
            refusals.append(error)
    raise next((error for error in refusals if not isinstance(error, ConfigError)), refusals[0])


def check(path: Path) -> tuple[Kind, str, Iterator[Line]]:
    """The kind and name of the method in a file, and one by one what becomes of its contracts.

    Raises: ConfigError for a file that holds no method.
    """
    kind, name = own.find(path)
    return kind, name, lines(kind, name, path)


def lines(kind: Kind, name: str, path: Path) -> Iterator[Line]:
    """What becomes of each contract of a method; `path`: its file."""
    began = time.monotonic()
    with torch.random.fork_rng(), precision("highest"):
        try:
            for contract, tried in CONTRACTS[kind](name):
                line = judged(contract, tried, path)
                yield line
                if line.status == "failed" and contract in FIRST:
                    yield Line("the others", "not run", f"not run: they mean nothing before {contract!r} is kept")
                    return
                if time.monotonic() - began > LIMIT:
                    why = "two minutes are over; smaller networks in PROFILES['smoke'] would help"
                    yield Line("the others", "not run", f"not run: {why}")
                    return
        except Exception as error:
            yield Line("runs on digits", "failed", sentence(error, path))


def judged(contract: str, tried: Callable[[], None], path: Path) -> Line:
    """What becomes of one contract; a fault in the user's code fails it and no other."""
    began = time.monotonic()
    try:
        tried()
    except Exception as error:
        return Line(contract, "failed", sentence(error, path), time.monotonic() - began)
    return Line(contract, "passed", seconds=time.monotonic() - began)


def sentence(error: Exception, path: Path) -> str:
    """What is wrong, in one line; for what the user's code raises also where in the file."""
    text = " ".join(str(error).split())
    if isinstance(error, Broken | ConfigError):
        return text
    at = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.absolute()
    ]
    where = f", {path.name} line {at[-1]}" if at else ""
    return f"{type(error).__name__}: {text}{where}"


def of_file(kind: Kind, name: str) -> Iterator[Contract]:
    """What a method's file promises."""
    module = discover.load(kind, name)
    config, cls = module.Config, methods.method_class(module)
    values = lambda: build(config, methods.plain(config()), "settings")  # noqa: E731
    yield "settings are frozen and whole", partial(contracts.settings_are_whole, config, values)

    def no_labels() -> None:
        contracts.takes_no_labels(cls)
        contracts.reads_no_labels(module)

    yield "takes no labels", no_labels


def of_model(name: str) -> Iterator[Contract]:
    """What a model promises."""
    cls = methods.class_of("models", name)
    if not issubclass(cls, Adopted):
        yield from of_file("models", name)
    one = subject(name)
    started = one.started
    yield "embeds samples", lambda: contracts.embeds(started(), one.views)
    yield "soft labels sum to 1", lambda: contracts.assigns(started(), one.views)
    yield "same answer twice", lambda: contracts.answers_twice(started(), one.views)
    yield "labels are clusters", lambda: contracts.labels(started(), one.views)
    yield "decodes, or says that it does not", lambda: contracts.decodes(started(), one.views)
    if not cls.transductive:
        yield "one sample as among others", lambda: contracts.answers_one_alone(started(), one.views)
        yield "saved and loaded", lambda: contracts.is_saved(started(), one.new(), one.views)
    yield "one seed, one start", lambda: contracts.begins_alike(one.begun, "after start()")
    if not cls.transductive and getattr(started(), "estimator", None) is None:
        yield "gradients arrive", lambda: contracts.has_gradients(started(), one.batch)
    yield "health is finite", lambda: contracts.is_healthy(started(), one.views)
    config = one.new().config
    if cls.has_pretraining(config):
        owner = Subject(str(cls.pretrained_by), one.dataset)
        shared = {key: value for key, value in methods.plain(config).items() if key in cls.pretrain_fields}
        yield "takes pretrained weights", lambda: contracts.takes_pretrained(one.new(), owner.new(**shared))
    phases: list[Phase] = ["pretrain"] if cls.has_pretraining(config) else []
    for phase in [*phases, "cluster"] if config.cluster.epochs else phases:
        yield f"one seed, the same steps of {phase}", partial(contracts.steps_alike, one.new, one.batch, phase)
        yield f"{phase} sees no row numbers", partial(contracts.ignores_row_numbers, one.new, one.batch, phase)
        yield f"reports the losses of {phase}", partial(reports_its_losses, one, phase)
        yield f"loss of {phase} falls", partial(loss_falls, one, phase)
    if config.cluster.epochs:
        yield "resumes bit for bit", lambda: resumes(Request("cluster", one.dataset.ref, name), one.dataset)


def reports_its_losses(one: Subject, phase: Phase) -> None:
    """The contract of that name, of a new model."""
    contracts.reports_its_losses(one.new(), one.batch, phase)


def loss_falls(one: Subject, phase: Phase) -> None:
    """The contract of that name, of a new model."""
    contracts.loss_falls(one.new(), one.views, one.batch, phase)


def victim(check: Callable[[str, DataInfo], None]) -> Subject:
    """The first model of the house, on data that it takes, for which `check` raises no ConfigError.

    Raises: the first of these where there is none.
    """
    refusals = []
    pair = two_views()
    for name in VICTIMS:
        for dataset in (pair,) if name == "comvc" else (vectors(), first_view(pair)):
            try:
                check(name, dataset.info)
                return Subject(name, dataset)
            except ConfigError as error:
                refusals.append(error)
    raise refusals[0]


def of_attack(name: str) -> Iterator[Contract]:
    """What an attack promises, against the first model that it can attack: k-means, or a network that decodes."""
    yield from of_file("attacks", name)
    cls, config = methods.class_of("attacks", name), methods.resolve("attacks", name, "smoke", {})
    space = methods.attack_space(name, methods.plain(config))

    def can_attack(model: str, info: DataInfo) -> None:
        cls.check_model(methods.class_of("models", model))
        cls.check_data(info, config)
        if space == "latent":
            check_space(methods.method_of("models", model, "smoke", {}), space)

    one = victim(can_attack)
    model = one.started()
    surface = frozen_surface(model, space, embed(model.eval(), one.views))
    new = partial(new_attack, name, surface)
    yield "says what it is", lambda: contracts.attack_is_declared(new())
    yield "stays within its budget", lambda: contracts.stays_within_budget(new(), surface, one.batch)
    yield "moves without gradients too", lambda: contracts.moves_without_gradients(new(), surface, one.batch)
    yield "one seed, one attack", lambda: contracts.attacks_alike(new, surface, one.batch)
    yield (
        "saved and loaded",
        lambda: contracts.attack_is_saved(new(), new(seed=9 if cls.trained else 2), surface, one.batch),
    )
    if cls.trained:
        request = Request("attack", one.dataset.ref, one.name, attack=name)
        yield "resumes bit for bit", lambda: resumes(request, one.dataset)


def new_attack(name: str, surface: Surface, *, seed: int = 2) -> Attack:
    """An untrained attacker; what it takes from another run are the points of PGD on the same model."""
    torch.manual_seed(seed)
    attack = methods.new_attack(name, methods.plain(methods.resolve("attacks", name, "smoke", {})), surface)
    if attack.borrows:
        attack.borrow(new_attack("pgd", surface), surface)
    return attack


def of_defense(name: str) -> Iterator[Contract]:
    """What a defense promises, of the first model that it can train on."""
    yield from of_file("defenses", name)
    cls, config = methods.class_of("defenses", name), methods.resolve("defenses", name, "smoke", {})
    meets = str(cls.meets)

    def can_defend(model: str, info: DataInfo) -> None:
        if not methods.resolve("models", model, "smoke", {}).cluster.epochs:
            raise ConfigError(f"{model} is not trained by descent")
        cls.check(methods.class_of("models", model), info, config)

    one = victim(can_defend)

    def new() -> Defended:
        model = one.new()
        torch.manual_seed(2)
        attack_name = "pgd" if methods.attack_space(meets) == "input" else meets
        # eval(): as the stage builds an attack, which may try out one sample
        surface = Surface(model.eval(), methods.attack_space(attack_name))
        values = methods.plain(methods.resolve("attacks", attack_name, "smoke", {}))
        attack = methods.new_attack(attack_name, values, surface)
        model.train()
        return surface, attack, methods.new_defense(name, methods.plain(config), surface)

    yield "says what it is", lambda: contracts.defense_is_declared(new()[2])
    yield "one seed, the same steps", lambda: contracts.defends_alike(new, one.batch)
    yield "loss falls, the attacker stays", lambda: contracts.defense_learns(one.new(), new(), one.batch)
    yield "keeps the victim's losses", lambda: contracts.keeps_victims_terms(new(), one.batch)
    yield "saved and loaded", lambda: contracts.defense_is_saved(new(), new(), one.batch)
    request = Request("defend", one.dataset.ref, one.name, attack=meets, defense=name)
    yield "resumes bit for bit", lambda: resumes(request, one.dataset)


CONTRACTS: Mapping[Kind, Callable[[str], Iterator[Contract]]] = {
    "models": of_model,
    "attacks": of_attack,
    "defenses": of_defense,
}


class Stopping(Silent):
    """A progress that ends a training after its first epoch, once the state is saved."""

    stops = True


def resumes(request: Request, dataset: Dataset) -> None:
    """A short run that is stopped after an epoch and resumed ends as an uninterrupted one."""
    request = replace(request, latent_dim=LATENT, profile="smoke")
    few = {f"model.{setting}": value for setting, value in quick(request.model).items()}
    epochs = few | {f"{schedule}.epochs": EPOCHS for schedule in SCHEDULES[request.stage]}
    steps = {f"{schedule}.steps_per_epoch": STEPS for schedule in SCHEDULES[request.stage]}
    try:
        specs = plan(replace(request, overrides={**epochs, **steps}), dataset.info)
    except ConfigError:  # a method may not do with so few steps
        specs = plan(replace(request, overrides=epochs), dataset.info)
    with tempfile.TemporaryDirectory() as folder:
        taken_up(specs, dataset, Path(folder), Stopping(), StoppedError)


def taken_up(
    specs: Sequence[RunSpec], dataset: Dataset, folder: Path, progress: Progress, stop: type[BaseException]
) -> dict[str, Any]:
    """What the last of some runs leaves uninterrupted: scores, losses of each epoch, model.

    Raises: Broken where it leaves something else when it is stopped, by a `progress` that makes it raise `stop`, and
    given again.
    """

    def outcome(name: str, *, stopped: bool) -> dict[str, Any]:
        store = RunStore(folder / name)
        context = Context(store, dataset, "smoke", threads=1)
        for spec in specs[:-1]:
            carry_out(spec, context)
        if stopped:
            with suppress(stop):
                carry_out(specs[-1], replace(context, progress=progress))
                raise Broken("the training ended in its first epoch, before it could be stopped")
            with store.own(specs[-1]) as run:
                contracts.hold(run.load_state(), "no state was saved when the training was stopped")
            torch.manual_seed(99)
        record = carry_out(specs[-1], context)
        losses = [line["losses"] for line in store.lines(specs[-1])]
        return {"scores": record["metrics"], "losses": losses, "weights": store.load_model(specs[-1])}

    whole = outcome("whole", stopped=False)
    contracts.resumes_alike(whole, outcome("resumed", stopped=True))
    return whole
