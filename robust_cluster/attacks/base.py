"""What an attack is: it proposes moved points on a surface of a frozen model; the stage clips, checks and measures."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.layers import BatchNormMode, batch_norm_mode
from robust_cluster.nn.optim import Stateful

Space = Literal["input", "latent"]
Feedback = Literal["gradient", "score", "label", "none"]  # of the victim: gradients, log y, labels, no answer
Gain = Callable[[ClusterModel, Embedding, Embedding, Tensor], Tensor]  # f(model, clean, moved, labels) -> (n,)


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
        return rows_of(self.memory, batch.index)

    def point(self, batch: Batch) -> Views:
        """The clean point: the views themselves, or (z,) in latent space."""
        return batch.views if self.space == "input" else (self.embedding(batch).z,)

    def latent(self, point: Views) -> Tensor:
        """z (n, d) of a point; differentiable in it."""
        return self.encode(point).z if self.space == "input" else point[0]

    def embedding_of(self, point: Views) -> Embedding:
        """The embedding that a point gives; a point in latent space is its own."""
        return self.encode(point) if self.space == "input" else Embedding(point[0], point)

    def representations(self, embedding: Embedding) -> Views:
        """What `displacement` compares: every view's representation and the consensus; in latent space z alone."""
        return representations(self.model, embedding) if self.space == "input" else (embedding.z,)

    def soft_labels(self, point: Views) -> Tensor:
        """(n, K), differentiable in the point."""
        return self.model.assign(self.latent(point))

    def labels(self, point: Views) -> Tensor:
        """(n,) hard labels of a point."""
        return self.model.labels(self.latent(point))


def rows_of(embedding: Embedding, rows: Tensor) -> Embedding:
    """Some rows of an embedding."""
    log_var = None if embedding.log_var is None else embedding.log_var[rows]
    return Embedding(embedding.z[rows], tuple(view[rows] for view in embedding.per_view), log_var)


def representations(model: ClusterModel, embedding: Embedding) -> Views:
    """z^v of every view, each (n, ...), then the consensus c (n, c): what AR-DMVC (ICML 2024) attacks."""
    return (*embedding.per_view, model.consensus(embedding))


class Attack(ABC):
    """attacks/<name>.py holds a frozen `Config` and one subclass of this, built as `Name(config, surface)`.

    What a subclass leaves out is that of an attack that learns nothing and follows gradients.
    """

    version: ClassVar[int] = 1
    space: Space  # of the class: where it moves points unless its config says otherwise
    trained: ClassVar[bool] = False  # a learned generator
    bounded: ClassVar[bool] = False  # a standard attack: its Config is a `BoundedConfig`
    feedback: Feedback = "gradient"  # what the victim tells it of a point
    aims: ClassVar[bool] = False  # whether it can move samples into one cluster that its Config names
    borrows: bool = False  # its points are made on another model, by an attacker that `borrow` hands over
    trained_at: float | None = None  # of one that learns inside a radius: that of its last step, None before the first
    config: Any = None
    budget: Budget  # how far it may move a point
    queries: int = 0  # samples that the victim was asked about so far; one forward pass with or without a backward

    @property
    def blind(self) -> bool:
        """Whether it knows nothing of any model: it is noise itself, and no noise need stand beside it."""
        return self.feedback == "none" and not self.borrows

    @property
    def knowledge(self) -> str:
        """What it must know of the victim in the words of a record: white, score, label, transfer or none."""
        words = {"gradient": "white", "none": "transfer" if self.borrows else "none"}
        return words.get(self.feedback, self.feedback)

    @classmethod
    def check_model(cls, model: type[ClusterModel]) -> None:
        """Refuse a method that it cannot attack, before anything is trained. Raises: ConfigError."""
        return

    @classmethod
    def check_data(cls, info: DataInfo, config: Any) -> None:
        """Refuse data of which its `Config` moves no points, before anything is trained. Raises: ConfigError."""
        return

    @abstractmethod
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """Moved points for a batch, in the surface's space; also where the caller has switched gradients off."""

    @property
    def schedule(self) -> Schedule:
        """How long it trains: its config's schedule, no epochs where there is none."""
        own: Schedule = getattr(self.config, "schedule", Schedule(epochs=0))
        return own

    def step(self, surface: Surface, batch: Batch) -> dict[str, float]:
        """One update of the attacker; the model's parameters are not touched."""
        return {}

    def after_epoch(self, epoch: int) -> None:
        """Do what the attack does when `epoch` epochs are done, e.g. lower a step size."""
        return

    def state(self) -> dict[str, Stateful]:
        """What a resumed or frozen attacker needs, by name."""
        return {}

    def borrow(self, attacker: "Attack", surface: Surface) -> None:
        """Take over another run's attacker and the surface of its model. Raises: ConfigError where none is used."""
        raise ConfigError(f"{type(self).__name__} takes nothing from another run", hint="--attack transfer")
