"""Two tiny victims, a bounded attack in which a bug can be planted, and the evidence of an attack on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks.base import Attack, Feedback, Space, Surface
from robust_cluster.attacks.bounded import direction
from robust_cluster.attacks.budget import Budget, Norm
from robust_cluster.audit.base import Evidence, Predicted
from robust_cluster.data.base import Batch, DataInfo, Labels, Views
from robust_cluster.errors import ConfigError
from robust_cluster.metrics.accuracy import accuracy, accuracy_under, match
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig
from robust_cluster.nn.centers import center_posterior, log_center_posterior
from robust_cluster.nn.layers import flat
from robust_cluster.nn.objectives import margin

N, D, K = 60, 16, 3
Make = Callable[..., Evidence]


class Victim(ClusterModel):
    """Nearest mean of the data themselves, or of what a small network with batch norm and dropout makes of them."""

    def __init__(self, info: DataInfo, *, network: bool) -> None:
        super().__init__(ModelConfig(), info, D)
        widths = sum(torch.Size(shape).numel() for shape in info.shapes)
        layers = [nn.Linear(widths, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.5), nn.Linear(24, 8)]
        self.network = nn.Sequential(*layers) if network else nn.Sequential()
        self.register_buffer("centers", torch.zeros(info.n_clusters, 8 if network else widths))
        self.centers: Tensor
        self.temperature = 0.05

    def encode(self, views: Views) -> Embedding:
        z = self.network(flat(views))
        return Embedding(z, (z,))

    def assign(self, z: Tensor) -> Tensor:
        return center_posterior(z, self.centers, z.new_tensor(self.temperature))

    def log_assign(self, z: Tensor) -> Tensor:
        return log_center_posterior(z, self.centers, z.new_tensor(self.temperature))

    def refit_labels(self, z: Tensor, seed: int) -> Tensor | None:
        return None


@dataclass(frozen=True)
class Config:
    """Settings of `Small`; `bug` names the bug that is planted in it."""

    eps: float = 0.1
    norm: Norm = "linf"
    space: Space = "input"
    steps: int = 5
    relative_step: float = 2.0
    restarts: int = 1
    curve: tuple[float, ...] = ()
    view_eps: tuple[float, ...] = ()
    eot: int = 1
    bug: str = ""


class Small(Attack):
    """Projected steps up the margin from the clean point, then from random ones; of all, the best point is returned."""

    bounded: ClassVar[bool] = True

    def __init__(self, config: Config, surface: Surface, labels: Labels | None = None) -> None:
        self.config, self.labels, self.space = config, labels, config.space
        info = surface.model.info
        unit, box = (info.unit, info.box) if config.space == "input" else (1.0, None)
        if config.bug == "eps in the wrong unit":
            unit = 1.0
        self.budget = Budget(config.norm, unit * config.eps, box, tuple(unit * eps for eps in config.view_eps))

    @torch.enable_grad()
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        bug, budget, model = self.config.bug, self.budget, surface.model
        if not any(budget.radii(len(batch.views))):
            return tuple(view.detach() for view in surface.point(batch))
        clean = tuple(view.detach() for view in surface.point(batch))
        own = surface.labels(clean).detach()
        step = self.config.relative_step / self.config.steps * {"wrong sign": -1, "zero step": 0}.get(bug, 1)
        point, best, height = clean, clean, torch.full((len(batch),), -torch.inf)
        if bug == "labels used" and self.labels is not None:
            shove = torch.as_tensor(self.labels)[batch.index].float() - 1
            point = tuple(p + 1e-3 * shove.view(-1, *[1] * (p.ndim - 1)) for p in point)
        if bug == "train mode while attacked":
            model.train()
        for number in range(self.config.restarts * (self.config.steps + 1)):
            if number and number % (self.config.steps + 1) == 0:
                draws = (2 * torch.rand_like(view) - 1 for view in clean)
                moves = zip(clean, draws, budget.radii(len(clean)), strict=True)
                point = budget.clip(clean, tuple(view + eps * draw for view, draw, eps in moves))
            leaves = tuple(view.detach().requires_grad_() for view in point)
            z = surface.latent(leaves)
            values = margin(model.log_assign(z), own)
            is_best = values.detach() > height
            if bug == "last instead of best":
                is_best = torch.ones_like(is_best)
            best = tuple(torch.where(column(is_best, p), p.detach(), b) for p, b in zip(point, best, strict=True))
            height = torch.where(is_best, values.detach(), height)
            if (number + 1) % (self.config.steps + 1):
                found = torch.autograd.grad(values.sum(), leaves)
                moves = zip(point, found, budget.radii(len(point)), strict=True)
                point = tuple(p + step * eps * direction(g, budget.norm) for p, g, eps in moves)
                point = point if bug == "no projection" else budget.clip(clean, point)
        model.eval()
        if bug == "victim updated":
            with torch.no_grad():
                for parameter in (*model.parameters(), *model.buffers()):
                    parameter.copy_(parameter + 0.01 if parameter.is_floating_point() else parameter)
        return best


def column(flags: Tensor, like: Tensor) -> Tensor:
    return flags.view(-1, *[1] * (like.ndim - 1))


class Drawn(Small):
    """Noise in place of an attack: it asks the victim nothing."""

    bounded: ClassVar[bool] = False
    feedback: Feedback = "none"

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        moved = tuple(view + self.budget.eps * torch.randn_like(view) for view in surface.point(batch))
        return self.budget.clip(surface.point(batch), moved)


def new_info(*, scale: float = 1.0, views: int = 1) -> DataInfo:
    box = (0.0, 1.0) if scale == 1 else None
    return DataInfo("toy", ((D,),) * views, N, K, box, scale, "", scaled_bounds=None if box else (0.0, scale))


def new_data(info: DataInfo) -> tuple[Views, Labels]:
    """Three blobs inside the box."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % K
    means = 0.3 + 0.4 * torch.rand(K, D, generator=random)
    box = info.box or (0.0, 1.0)
    views = []
    for _ in info.shapes:
        values = means[labels] + 0.12 * torch.randn(N, D, generator=random)
        views.append((box[0] + (box[1] - box[0]) * values).clamp(*box))
    return tuple(views), labels.numpy()


def new_victim(info: DataInfo, views: Views, labels: Labels, *, network: bool) -> Victim:
    torch.manual_seed(1)
    model = Victim(info, network=network).eval().requires_grad_(False)
    with torch.no_grad():
        z = model.encode(views).z
        model.centers.copy_(torch.stack([z[torch.as_tensor(labels) == k].mean(dim=0) for k in range(K)]))
        model.temperature = float(z.var())
    return model


def score(labels: Labels | None, clean: Predicted, moved: Predicted) -> Mapping[str, float | None]:
    """What a stage says of an attack."""
    found: dict[str, float | None] = {"flip": flip_rate(clean, moved)}
    if labels is not None:
        mapping = match(labels, clean, n_clusters=K)
        found |= {"ACC*": accuracy(labels, moved), "ACC*_clean_map": accuracy_under(mapping, labels, moved)}
    return found


@pytest.fixture(scope="session")
def make() -> Make:
    """make(...): the evidence of an attack, with whatever is changed in it."""

    def made(
        *,
        attack: type[Small] = Small,
        network: bool = False,
        scale: float = 1.0,
        views: int = 1,
        bn: Literal["eval", "batch"] = "eval",
        settings: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Evidence:
        info = new_info(scale=scale, views=views)
        data, labels = new_data(info)
        config = Config(**dict(settings or {}))
        surface = Surface(new_victim(info, data, labels, network=network), config.space, None, bn)

        def builder(truth: Labels) -> Callable[[Mapping[str, Any]], Attack]:
            def build(overrides: Mapping[str, Any]) -> Attack:
                unknown = set(overrides) - set(Config.__dataclass_fields__)
                if unknown:
                    raise ConfigError(f"unknown {', '.join(sorted(unknown))}")
                return attack(replace(config, **overrides), surface, truth)

            return build

        build = builder(labels)
        attacker = build({})
        batch = Batch(data, torch.arange(N))
        with torch.no_grad():
            clean = surface.labels(surface.point(batch)).numpy()
        threat = {
            "space": config.space,
            "norm": config.norm,
            "eps_pixels": config.eps,
            "eps_model": config.eps * (info.unit if config.space == "input" else 1.0),
            "view_eps": list(config.view_eps),
            "knowledge": attacker.knowledge,
            "stage": "frozen",
        }
        evidence = Evidence(
            surface,
            attacker,
            build,
            batch,
            clean,
            {"threat": threat},
            labels=labels,
            score=score,
            clean_scores={"ACC": (accuracy(labels, clean), accuracy(labels, clean))},
            build_shuffled=builder(np.random.default_rng(5).permutation(labels)),
        )
        return replace(evidence, **changes)

    return made


class Learned(Small):
    """A generator of one shift for each cluster: an affine map of the point, trained up the margin."""

    trained: ClassVar[bool] = True
    bounded: ClassVar[bool] = False

    def __init__(self, config: Config, surface: Surface, labels: Labels | None = None) -> None:
        super().__init__(config, surface, labels)
        self.map = nn.Linear(D, D)
        with torch.no_grad():
            self.map.weight.mul_(0.1)

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        (point,) = surface.point(batch)
        return self.budget.clip((point,), (point + self.budget.eps * self.map(point - 0.5).tanh(),))

    def step(self, surface: Surface, batch: Batch) -> dict[str, float]:
        own = surface.labels(surface.point(batch))
        with torch.enable_grad():
            moved = self.perturb(surface, batch)
            loss = -margin(surface.model.log_assign(surface.latent(moved)), own).mean()
            found = torch.autograd.grad(loss, list(self.map.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(self.map.parameters(), found, strict=True):
                parameter.sub_(2.0 * gradient)
        return {"margin": float(loss.detach())}

    def state(self) -> dict[str, Any]:
        return {"map": self.map}


@pytest.fixture(scope="session")
def learned(make: Make) -> Make:
    """learned(...): the evidence of a generator that learned for 8 steps; its threat model says on which rows."""

    def trained(**changes: Any) -> Evidence:
        torch.manual_seed(0)
        evidence = make(attack=Learned, **changes)
        for _ in range(8):
            evidence.attacker.step(evidence.surface, evidence.batch)
        threat = {**evidence.threat, "train_share": 0.8}
        return replace(evidence, record={**evidence.record, "threat": threat})

    return trained


@pytest.fixture(scope="session")
def noise(make: Make) -> Make:
    """noise(...): the evidence of noise in place of an attack."""
    return lambda **changes: make(attack=Drawn, **changes)
