"""What an attack is: it proposes moved points on a surface of a frozen model; the stage clips, checks and measures."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from robust_cluster.data.base import Batch, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding, Schedule
from robust_cluster.nn.layers import BatchNormMode, batch_norm_mode

Space = Literal["input", "latent"]
Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Surface:
    """Where a model is touched. An attack never asks how many views there are: a point is a tuple of tensors.

    `memory`: the embedding of the whole data set under a frozen model, computed once; None while the model trains.
    `bn`: whether batch norm takes the model's stored statistics ("eval") or those of what it is given ("batch").
    """

    model: ClusterModel
    space: Space
    memory: Embedding | None = None
    bn: BatchNormMode = "eval"

    def encode(self, views: Views) -> Embedding:
        """The embedding of any views; no buffer of the model moves where `bn` is "batch"."""
        with batch_norm_mode(self.model, self.bn):
            return self.model.encode(views)

    def embedding(self, batch: Batch) -> Embedding:
        """The clean embedding of a batch, from memory where there is one."""
        if self.memory is None:
            return self.encode(batch.views)
        rows = self.memory
        log_var = None if rows.log_var is None else rows.log_var[batch.index]
        return Embedding(rows.z[batch.index], tuple(v[batch.index] for v in rows.per_view), log_var)

    def point(self, batch: Batch) -> Views:
        """The clean point: the views themselves, or (z,) in latent space."""
        return batch.views if self.space == "input" else (self.embedding(batch).z,)

    def latent(self, point: Views) -> Tensor:
        """z (n, d) of a point; differentiable in it."""
        return self.encode(point).z if self.space == "input" else point[0]

    def soft_labels(self, point: Views) -> Tensor:
        """(n, K), differentiable in the point."""
        return self.model.assign(self.latent(point))

    def labels(self, point: Views) -> Tensor:
        """(n,) hard labels of a point."""
        return self.model.labels(self.latent(point))


@dataclass(frozen=True)
class Budget:
    """How far a point may move, per sample and view. `norm` None: unbounded, the attack penalises size instead.

    `eps` is in the units of the space; `bounds` (low, high) is the box of valid values, None for latent points.
    """

    norm: Norm | None = None
    eps: float = 0.0
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.eps >= 0:  # NaN too
            raise ConfigError(f"eps must be >= 0, got {self.eps}")

    def clip(self, clean: Views, moved: Views) -> Views:
        """The nearest allowed point to each moved view: inside the norm ball around the clean one, then in the box."""
        return tuple(self._clip_view(c, m) for c, m in zip(clean, moved, strict=True))

    def _clip_view(self, clean: Tensor, moved: Tensor) -> Tensor:
        delta = moved - clean
        if self.norm == "linf":
            delta = delta.clamp(-self.eps, self.eps)
        elif self.norm == "l2":
            norms = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
            delta = delta * (self.eps / norms).clamp_max(1.0).view(-1, *[1] * (delta.ndim - 1))
        result = clean + delta
        return result if self.bounds is None else result.clamp(*self.bounds)


class Stateful(Protocol):
    """Anything with a state to save: modules and optimizers."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class Attack(ABC):
    """attacks/<name>.py holds a frozen `Config` and one subclass of this, built as `Name(config, surface)`.

    What is not overridden is that of an attack that learns nothing.
    """

    version: ClassVar[int] = 1
    space: ClassVar[Space]
    trained: ClassVar[bool] = False  # a learned generator
    blind: ClassVar[bool] = False  # knows nothing of the model: it is noise itself, and no noise need stand beside it

    @classmethod
    def check_model(cls, model: type[ClusterModel]) -> None:
        """Nothing, for a method that it can attack; asked before anything is trained. Raises: ConfigError."""
        return

    @property
    @abstractmethod
    def budget(self) -> Budget:
        """How far it may move a point."""

    @abstractmethod
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """Moved points for a batch, in the surface's space; also where the caller has switched gradients off."""

    @property
    def schedule(self) -> Schedule:
        """How long it trains."""
        return Schedule(epochs=0)

    def step(self, surface: Surface, batch: Batch) -> dict[str, float]:
        """One update of the attacker; the model's parameters are not touched."""
        return {}

    def after_epoch(self, epoch: int) -> None:
        """Do what the attack does when `epoch` epochs are done, e.g. lower a step size."""
        return

    def state(self) -> dict[str, Stateful]:
        """What a resumed or frozen attacker needs, by name."""
        return {}


def equal_norm_noise(delta: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian directions (n, ...) with each sample's L2 norm that of `delta`: the control of every attack."""
    noise = torch.randn(delta.shape, generator=generator, dtype=delta.dtype).to(delta.device)
    shape = (-1, *[1] * (delta.ndim - 1))
    norms = delta.flatten(1).norm(dim=1).view(shape)
    scaled: Tensor = noise * norms / noise.flatten(1).norm(dim=1).clamp_min(1e-12).view(shape)
    return scaled
