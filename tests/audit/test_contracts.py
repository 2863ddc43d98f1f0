"""Each contract says in a sentence how a method breaks it; a method that keeps it hears nothing."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.attacks.budget import Budget
from robust_cluster.audit import contracts
from robust_cluster.audit.contracts import Broken
from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.optim import adam, descend

INFO = DataInfo("toy", ((4,),), 12, 3, None, 1.0, "")
VIEWS = (torch.randn(12, 4, generator=torch.Generator().manual_seed(0)),)
BATCH = Batch(VIEWS, torch.arange(12))
LABELS = torch.arange(12) % 3
Tried = Callable[[Any], None]  # a contract that is put to a class


class Toy(ClusterModel):
    """A linear encoder and a softmax, trained to reconstruct and to be sure."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(), INFO, 2)
        self.encoder, self.decoder, self.head = nn.Linear(4, 2), nn.Linear(2, 4), nn.Linear(2, 3)

    def encode(self, views: Views) -> Embedding:
        z = self.encoder(views[0])
        return Embedding(z, (z,))

    def assign(self, z: Tensor) -> Tensor:
        return F.softmax(3 * self.head(z), dim=1)

    def decode(self, z: Tensor) -> Views:
        return (self.decoder(z),)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        z = self.encoder(batch.views[0])
        sure = -self.assign(z).max(dim=1).values.log().mean()
        return {"reconstruction": F.mse_loss(self.decoder(z), batch.views[0]), "sure": sure}

    def step(self, batch: Batch, phase: Phase, optimizers: Any) -> dict[str, float]:
        return descend(self.losses(batch, phase), optimizers["model"])

    def optimizers(self, phase: Phase) -> Any:
        return {"model": adam(self.parameters(), 0.02)}


def encoding(change: Callable[[Any, Tensor], Embedding | Tensor]) -> type[Toy]:
    """A toy whose encoder's output is changed."""

    class Changed(Toy):
        def encode(self, views: Views) -> Embedding:
            found = change(self, super().encode(views).z)
            return found if isinstance(found, Embedding) else Embedding(found, (found,))

    return Changed


def assigning(change: Callable[[Any, Tensor], Tensor]) -> type[Toy]:
    """A toy whose soft labels are changed."""

    class Changed(Toy):
        def assign(self, z: Tensor) -> Tensor:
            return change(self, super().assign(z))

    return Changed


def losing(change: Callable[[Any, Batch, Losses], Losses]) -> type[Toy]:
    """A toy whose losses are changed."""

    class Changed(Toy):
        def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
            return change(self, batch, super().losses(batch, phase))

    return Changed


def made(kind: type[Toy]) -> Toy:
    torch.manual_seed(0)
    return kind()


class Labeled(Toy):
    def labels(self, z: Tensor) -> Tensor:
        return super().labels(z).int()


class Numbered(Toy):
    def labels(self, z: Tensor) -> Tensor:
        return super().labels(z) + 3


class Smaller(Toy):
    def decode(self, z: Tensor) -> Views:
        return (z,)


class Mute(Toy):
    def decode(self, z: Tensor) -> Views:
        raise ConfigError("no")


class Forgetful(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.start = torch.rand(4)  # type: ignore[method-assign,assignment]

    def encode(self, views: Views) -> Embedding:
        return super().encode((views[0] + self.start,))  # type: ignore[operator]


class Unkept(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.factor = np.random.default_rng().random()

    def assign(self, z: Tensor) -> Tensor:
        return (self.factor * super().assign(z)).softmax(dim=1)


class Unseeded(Toy):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.head.bias, np.random.default_rng().random())


class Silent(Toy):
    def step(self, batch: Batch, phase: Phase, optimizers: Any) -> dict[str, float]:
        super().step(batch, phase, optimizers)
        return {name: term.item() for name, term in self.losses(batch, phase).items()}


class Renamed(Toy):
    def step(self, batch: Batch, phase: Phase, optimizers: Any) -> dict[str, float]:
        return {"loss": sum(super().step(batch, phase, optimizers).values())}


class Idle(Toy):
    def optimizers(self, phase: Phase) -> Any:
        return {"model": adam([nn.Parameter(torch.zeros(1))], 0.02)}


class Ill(Toy):
    def health(self, embedding: Embedding) -> dict[str, float]:
        return {"spread": float("nan")}


class Other(Toy):
    pretrained_by: ClassVar[str | None] = "toy"

    def pretrained(self) -> nn.Module:
        return self.encoder


M = contracts


def views(contract: Callable[[Any, Views], None]) -> Tried:
    return lambda kind: contract(made(kind), VIEWS)


def batch(contract: Callable[..., None], *phase: str) -> Tried:
    return lambda kind: contract(made(kind), BATCH, *phase)


def again(contract: Callable[[Any, Any, Views], None]) -> Tried:
    return lambda kind: contract(made(kind), kind(), VIEWS)


def falls(kind: Any) -> None:
    contracts.loss_falls(made(kind), VIEWS, BATCH, "cluster")


CASES: list[tuple[type[Toy], Tried, str]] = [
    (encoding(lambda m, z: z[0]), views(M.embeds), "encode must give z (12, d) of float32 for 12"),
    (encoding(lambda m, z: z.double()), views(M.embeds), "got (12, 2) of torch.float64"),
    (encoding(lambda m, z: Embedding(z, (z[:3],))), views(M.embeds), "per_view must have 12 rows"),
    (encoding(lambda m, z: Embedding(z, (z,), z[:, :1])), views(M.embeds), "shape of z, (12, 2)"),
    (encoding(lambda m, z: z.log()), views(M.embeds), "encode gives NaN or infinite values for "),
    (assigning(lambda m, y: y[:, :2]), views(M.assigns), "must give (12, 3) for 12 samples"),
    (assigning(lambda m, y: y / 0), views(M.assigns), "assign gives NaN or infinite values for 12"),
    (assigning(lambda m, y: y - 0.5), views(M.assigns), "soft labels must be >= 0, the least is -0."),
    (assigning(lambda m, y: 2 * y), views(M.assigns), "each row of assign must sum to 1, one sums to 2"),
    (Labeled, views(M.labels), "labels must give (12,) of int64, got (12,) of torch.int32"),
    (Numbered, views(M.labels), "labels must be in 0 to 2, got 3 to 5"),
    (assigning(lambda m, y: 0 * y + torch.tensor([1.0, 0, 0])), views(M.labels), "all samples are in one"),
    (encoding(lambda m, z: F.dropout(z)), views(M.answers_twice), "encode gives another z when it is asked"),
    (assigning(lambda m, y: F.dropout(y)), views(M.answers_twice), "assign gives other soft labels when"),
    (Smaller, views(M.decodes), "decode must give views of shape (12, 4), got (12, 2)"),
    (Mute, views(M.decodes), "decode must say that there is no decoder, it says no"),
    (encoding(lambda m, z: z - z.mean(dim=0)), views(M.answers_one_alone), "alone has another z than among"),
    (assigning(lambda m, y: y / y.sum(dim=0)), views(M.answers_one_alone), "alone has other soft labels"),
    (Forgetful, again(M.is_saved), "a saved and loaded model gives another z: what is learned must"),
    (Unkept, again(M.is_saved), "gives other soft labels"),
    (
        Unseeded,
        lambda k: M.begins_alike(lambda: made(k), "here"),
        "two models of one seed differ here in head.bias: draw",
    ),
    (
        losing(lambda m, b, t: t | {"drawn": t["sure"] * np.random.default_rng().random()}),
        lambda k: M.steps_alike(lambda: made(k), BATCH, "cluster"),
        "two models of one seed have other losses after the same steps",
    ),
    (
        losing(lambda m, b, t: t | {"taught": F.cross_entropy(m.head(m.encoder(b.views[0])), LABELS[b.index])}),
        lambda k: M.ignores_row_numbers(lambda: made(k), BATCH, "cluster"),
        "its losses change with the row numbers of the same samples, as those of a method that looks labels up by row",
    ),
    (
        losing(lambda m, b, t: t | {"log": (0 * t["sure"]).log()}),
        falls,
        "the loss term log is NaN or infinite in step 1",
    ),
    (Idle, falls, "the loss of cluster does not fall in 20 steps on one batch"),
    (Silent, batch(M.reports_its_losses, "cluster"), "step reports other values than losses gives of reconstruction"),
    (Renamed, batch(M.reports_its_losses, "cluster"), "step reports loss, losses gives reconstruction, sure"),
    (assigning(lambda m, y: y.detach()), batch(M.has_gradients), "no gradient reaches the embedding: encode and"),
    (encoding(lambda m, z: z.detach()), batch(M.has_gradients), "no gradient reaches view"),
    (
        assigning(lambda m, y: y.round() + 0 * y),
        batch(M.has_gradients),
        "the gradient at the embedding is 0 everywhere",
    ),
    (assigning(lambda m, y: y * (y - y).sqrt()), batch(M.has_gradients), "the gradient at the embedding is NaN"),
    (
        Other,
        lambda k: M.takes_pretrained(made(k), made(Toy)),
        "pretrained() is another network than that of toy, which",
    ),
    (Ill, views(M.is_healthy), "health must give finite floats, spread is none"),
]


@pytest.mark.parametrize(("kind", "tried", "said"), CASES)
def test_a_model_that_breaks_a_contract_hears_which_and_one_that_keeps_it_nothing(
    kind: type[Toy], tried: Tried, said: str
) -> None:
    with pytest.raises(Broken, match=re.escape(said)):
        tried(kind)
    tried(Toy)


@dataclass(frozen=True)
class Settings:
    """Of an attack."""

    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=0))


class Push(Attack):
    """Every value is moved by eps, in the direction in which the likeliest label falls."""

    space = "input"
    config = Settings()

    def __init__(self) -> None:
        self.budget = Budget("linf", 0.1)
        self.drawn = torch.rand(())

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        with torch.enable_grad():
            point = tuple(view.clone().requires_grad_() for view in surface.point(batch))
            best = surface.soft_labels(point).max(dim=1).values.sum()
            found = torch.autograd.grad(best, point)
        return tuple(view.detach() - 0.1 * slope.sign() for view, slope in zip(point, found, strict=True))


class Far(Push):
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        return tuple(view + 0.5 for view in surface.point(batch))


class Still(Push):
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        return surface.point(batch)


class Lost(Push):
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        return (surface.point(batch)[0] / 0,)


class Meddler(Push):
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        with torch.no_grad():
            surface.model.get_parameter("head.bias").add_(1)
        return super().perturb(surface, batch)


class Leaver(Push):
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        for parameter in surface.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return super().perturb(surface, batch)


class Off(Push):
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        return tuple(view + (0.05 if torch.is_grad_enabled() else 0.1) for view in surface.point(batch))


class Random(Push):
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        return (surface.point(batch)[0] + 0.1 * np.random.default_rng().random(),)


class Hidden(Push):
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        return (surface.point(batch)[0] + 0.1 * self.drawn,)


class Boastful(Push):
    trained = True


class Nowhere(Push):
    space = "pixels"  # type: ignore[assignment]


def surface() -> Surface:
    return Surface(made(Toy).eval().requires_grad_(False), "input")


def moves(contract: Callable[[Any, Surface, Batch], None]) -> Tried:
    return lambda kind: contract(kind(), surface(), BATCH)


ATTACKS: list[tuple[type[Push], Tried, str]] = [
    (Far, moves(M.stays_within_budget), "a moved point is 0.4 outside of the budget"),
    (Still, moves(M.stays_within_budget), "perturb moves nothing: every point is where it was"),
    (Lost, moves(M.stays_within_budget), "perturb gives NaN or infinite values for 12 of 12"),
    (Meddler, moves(M.stays_within_budget), "the attack changed head.bias of the victim"),
    (Leaver, moves(M.stays_within_budget), "the attack left gradients on the victim's encoder."),
    (Off, moves(M.moves_without_gradients), "points move otherwise where gradients are switched off"),
    (Random, lambda k: M.attacks_alike(k, surface(), BATCH), "two attackers of one seed move points to other places"),
    (
        Hidden,
        lambda k: M.attack_is_saved(k(), k(), surface(), BATCH),
        "a saved and loaded attacker moves points to other",
    ),
    (Boastful, lambda k: M.attack_is_declared(k()), "trained is True, and state() has no state"),
    (Nowhere, lambda k: M.attack_is_declared(k()), "space must be one of input, latent, got 'pixels'"),
]


@pytest.mark.parametrize(("kind", "tried", "said"), ATTACKS)
def test_an_attack_that_breaks_a_contract_hears_which_and_one_that_keeps_it_nothing(
    kind: type[Push], tried: Tried, said: str
) -> None:
    with pytest.raises(Broken, match=re.escape(said)):
        tried(kind)
    tried(Push)


class Smooth:
    """A defense: the model's losses, and soft labels that stay where points are pushed."""

    version, spaces, meets = 1, ("input",), "push"
    schedule, trains_attacker, restarts = Schedule(epochs=1), False, False

    def __init__(self, model: Toy) -> None:
        self.network = nn.Linear(1, 1)
        self.optimizer = adam([*model.parameters(), *self.network.parameters()], 0.02)

    @classmethod
    def check(cls, model: Any, info: Any, config: Any) -> None: ...

    def gain(self, surface: Any, attack: Any, batches: Any) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"network": self.network, "optimizer": self.optimizer}

    def terms(self, surface: Surface, attack: Attack, batch: Batch) -> Losses:
        terms = surface.model.losses(batch, "cluster")
        moved = attack.perturb(surface, batch)
        stays = F.mse_loss(surface.soft_labels(moved), surface.soft_labels(batch.views).detach())
        return {**terms, "stays": stays + self.network.weight.square().sum()}

    def step(self, surface: Surface, attack: Attack, batch: Batch) -> dict[str, float]:
        return descend(self.terms(surface, attack, batch), self.optimizer)


class Partial(Smooth):
    def terms(self, surface: Surface, attack: Attack, batch: Batch) -> Losses:
        terms = super().terms(surface, attack, batch)
        del terms["sure"]
        return terms


class Doubled(Smooth):
    def terms(self, surface: Surface, attack: Attack, batch: Batch) -> Losses:
        return {name: 2 * term for name, term in super().terms(surface, attack, batch).items()}


class Upward(Smooth):
    def step(self, surface: Surface, attack: Attack, batch: Batch) -> dict[str, float]:
        return {name: term.item() for name, term in self.terms(surface, attack, batch).items()}


class Unsaved(Smooth):
    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer}


class Moody(Smooth):
    def terms(self, surface: Surface, attack: Attack, batch: Batch) -> Losses:
        terms = super().terms(surface, attack, batch)
        return {**terms, "stays": terms["stays"] * np.random.default_rng().random()}


class Bare:
    def __init__(self, model: Toy) -> None: ...

    step, state = Smooth.step, Smooth.state


def defended(kind: Any) -> Any:
    model = made(Toy)
    return Surface(model, "input"), Push(), kind(model)


DEFENSES: list[tuple[Any, Tried, str]] = [
    (Bare, lambda k: M.defense_is_declared(defended(k)[2]), "no version, spaces, meets, schedule and 4 more"),
    (Moody, lambda k: M.defends_alike(lambda: defended(k), BATCH), "two defenses of one seed have other losses"),
    (Upward, lambda k: M.defense_learns(made(Toy), defended(k), BATCH), "the loss does not fall in"),
    (Partial, lambda k: M.defense_learns(made(Toy), defended(k), BATCH), "leaves sure of the victim's own losses out"),
    (Partial, lambda k: M.keeps_victims_terms(defended(k), BATCH), "leaves sure of the victim's own losses out"),
    (Doubled, lambda k: M.keeps_victims_terms(defended(k), BATCH), "own losses reconstruction, sure have other values"),
    (Unsaved, lambda k: M.defense_is_saved(defended(k), defended(k), BATCH), "and loaded defense goes on otherwise"),
]


@pytest.mark.parametrize(("kind", "tried", "said"), DEFENSES)
def test_a_defense_that_breaks_a_contract_hears_which_and_one_that_keeps_it_nothing(
    kind: Any, tried: Tried, said: str
) -> None:
    with pytest.raises(Broken, match=re.escape(said)):
        tried(kind)
    tried(Smooth)


def test_a_run_that_ends_otherwise_when_it_is_resumed_breaks_a_contract() -> None:
    whole = {"scores": {"ACC": 0.5}, "losses": [{"a": 1.0}], "weights": {"w": torch.ones(2)}}
    contracts.resumes_alike(whole, {**whole, "weights": {"w": torch.ones(2)}})
    with pytest.raises(Broken, match="stopped and resumed ends with other weights than an uninterrupted one"):
        contracts.resumes_alike(whole, {**whole, "weights": {"w": torch.zeros(2)}})


@dataclass
class Changeable:
    lr: float = 1.0


@pytest.mark.parametrize(
    ("config", "again", "said"),
    [
        (Changeable, Changeable(), "Config can be changed after it was made: @dataclass(frozen=True)"),
        (Settings, Settings(Schedule(epochs=1)), "Config is another when it is made anew from its own values"),
    ],
)
def test_settings_that_are_not_frozen_and_whole_break_a_contract(config: type[Any], again: Any, said: str) -> None:
    with pytest.raises(Broken, match=re.escape(said)):
        contracts.settings_are_whole(config, lambda: again)
    contracts.settings_are_whole(Settings, Settings)


class Taught:
    def step(self, batch: Batch, labels: Tensor) -> None: ...


class Counted:
    def start(self, rows: np.ndarray) -> None: ...  # type: ignore[type-arg]


def test_a_verb_that_takes_labels_or_arrays_breaks_a_contract() -> None:
    with pytest.raises(Broken, match=r"Taught.step takes labels: labels never reach training"):
        contracts.takes_no_labels(Taught)
    with pytest.raises(Broken, match=r"Counted.start takes <class 'numpy.ndarray'>, which may have labels"):
        contracts.takes_no_labels(Counted)
    contracts.takes_no_labels(Toy)


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("from sklearn.datasets import load_digits", "sklearn.datasets.load_digits"),
        ("from sklearn import datasets", "sklearn.datasets"),
        ("def late():\n    import torchvision.datasets", "torchvision.datasets"),
        ("from robust_cluster.data import prepare", "robust_cluster.data.prepare"),
    ],
)
def test_a_file_that_imports_what_has_labels_breaks_a_contract(
    text: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspect.getsource", lambda _: text)
    with pytest.raises(Broken, match=f"it imports {module}, which has labels"):
        contracts.reads_no_labels(ModuleType("mine"))
    monkeypatch.setattr("inspect.getsource", lambda _: "from sklearn.cluster import KMeans")
    contracts.reads_no_labels(ModuleType("mine"))
