"""What a clustering model is. A method is one file: a frozen `Config` dataclass and exactly one subclass of this."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.optim import adam, descend

Phase = Literal["pretrain", "cluster"]
Losses = dict[str, Tensor]  # named scalar terms, already weighted: their sum is descended


@dataclass(frozen=True)
class Embedding:
    """What `encode` returns: `z` (n, d) is what `assign` clusters; `per_view` holds V tensors (n, d_v).

    `log_var` (n, d): log-variance of the posterior around `z` for variational models, else None.
    """

    z: Tensor
    per_view: Views
    log_var: Tensor | None = None

    def draw(self) -> Tensor:
        """One sample z + exp(log_var / 2) * eps, eps ~ N(0, I); `z` itself without `log_var`."""
        if self.log_var is None:
            return self.z
        return self.z + torch.exp(0.5 * self.log_var) * torch.randn_like(self.z)


@dataclass(frozen=True)
class Outputs:
    """One forward pass that a loss and a defense can share: z_drawn (n, d), soft_labels (n, K), decoded views."""

    embedding: Embedding
    z_drawn: Tensor
    soft_labels: Tensor
    decoded: Views


def later(default: Any) -> Any:
    """A field that came after runs of its method: it stands in a run's key only where it is not at its default."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class ModelConfig:
    """Fields that every method has; a method's own `Config` adds its hyper-parameters."""

    pretrain: Schedule = field(default_factory=Schedule)
    cluster: Schedule = field(default_factory=Schedule)


@dataclass
class Fit:
    """What a clustering knows of its own rows beside the model; no checkpoint has it.

    `parts`: modules by name that a half-done run is resumed with, e.g. the targets of every sample. `labels` (n,): what
    the fit gave its rows, set by transductive methods, and by others where the labels of an embedding are not these.
    """

    parts: dict[str, Any] = field(default_factory=dict)
    labels: Tensor | None = None


class ClusterModel(nn.Module, ABC):
    """A clustering model: `encode` and `assign` are what every stage, attack and table rests on.

    A pretraining calls `step` for each batch and keeps `pretrained()`. A clustering calls, in this order:

        start                        once; for methods without epochs it is the whole fit
        step                         for each batch; a defense calls `losses` and `after_step` in its place
        after_epoch, health          after each epoch
        stop_reason                  then too: why to end here
        finish                       once, e.g. k-means on the trained embedding

    What others ask of the trained model is encode -> assign -> labels; attacks also ask for `log_assign`, `decode` and
    `consensus`, a clustering's record for `refit_labels`. What a method does not override does nothing.
    """

    version: ClassVar[int] = 1  # raised when the numbers change
    # the method whose pretraining gives the starting weights: methods that name the same one share its run
    pretrained_by: ClassVar[str | None] = None
    pretrain_fields: ClassVar[tuple[str, ...]] = ()  # of `Config`, those that the pretraining depends on
    transductive: ClassVar[bool] = False  # has no `assign`, only `fit.labels` of the rows that it was fitted on
    # whether steps down the sum of `losses`, such as a defense takes, train it all: not where `step` trains an opponent
    descends_losses: ClassVar[bool] = True
    scores_refit: ClassVar[bool] = False  # its record has scores of `refit_labels` too (ACC_refit, ...), beside others
    straight_through: ClassVar[bool] = False  # gradients pass a rounding as if it were not there: they are no slopes

    def __init__(self, config: ModelConfig, info: DataInfo, latent_dim: int) -> None:
        super().__init__()
        self.config, self.info, self.latent_dim, self.fit = config, info, latent_dim, Fit()

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse data that it cannot be trained on, before anything is. Raises: ConfigError."""

    @classmethod
    def usual_mode(cls, info: DataInfo) -> str | None:
        """The mode for such data where the user asks for none; None: the method's default."""
        return None

    @classmethod
    def check_new_points(cls) -> None:
        """Refuse a transductive method, where points that it was not fitted on need labels. Raises: ConfigError."""
        if cls.transductive:
            why = "labels only the data that it was fitted on, so a moved point has no label"
            raise ConfigError(f"{cls.__name__} {why}: there is no attack on it, no defense and no certificate")

    @classmethod
    def has_pretraining(cls, config: Any) -> bool:
        """Whether this configuration of the method starts from a pretraining run."""
        return cls.pretrained_by is not None

    def knows_labels(self) -> bool:
        """Whether `labels` are already those that the method gives; not before `finish` where that alone fits them."""
        return True

    def pretrained(self) -> nn.Module:
        """The part of the network that pretraining trains and hands on; default: all of it."""
        return self

    @abstractmethod
    def encode(self, views: Views) -> Embedding:
        """Embedding of V views, each (n, *shape_v), without sampling."""

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) of z (n, d); rows sum to 1. All methods have them but the transductive ones."""
        self.check_new_points()
        raise NotImplementedError(f"{type(self).__name__}.assign")

    def decode(self, z: Tensor) -> Views:
        """Views that the embedding z (n, d) stands for. Raises: ConfigError when the method has no decoder."""
        raise ConfigError(f"{type(self).__name__} has no decoder")

    @classmethod
    def has_decoder(cls) -> bool:
        """Whether `decode` can turn an embedding into views."""
        return cls.decode is not ClusterModel.decode

    def labels(self, z: Tensor) -> Tensor:
        """Hard labels (n,) int64: the argmax of `assign`, unless the paper labels otherwise."""
        return self.assign(z).argmax(dim=1)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, for attacks; methods whose soft labels underflow give them exactly."""
        return log_of(self.assign(z))

    def answers(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`labels` (n,) and `log_assign` (n, K) of z (n, d), from one `assign` where both are what this class makes."""
        kind, base = type(self), ClusterModel
        if kind.labels is not base.labels or kind.log_assign is not base.log_assign:
            return self.labels(z), self.log_assign(z)
        soft_labels = self.assign(z)
        return soft_labels.argmax(dim=1), log_of(soft_labels)

    def consensus(self, embedding: Embedding) -> Tensor:
        """What the views agree on (n, c), beside `per_view` the target of multi-view attacks; default: z."""
        return embedding.z

    def refit_labels(self, z: Tensor, seed: int) -> Tensor | None:
        """Labels (n,) of a fresh fit to z (n, d), for methods that label by k-means or are scored so too; else None."""
        return None

    def forward(self, views: Views) -> Outputs:
        """One pass with a drawn embedding (z itself without a posterior); without a decoder nothing is decoded."""
        embedding = self.encode(views)
        z_drawn = embedding.draw()
        decoded = self.decode(z_drawn) if self.has_decoder() else ()
        return Outputs(embedding, z_drawn, self.assign(embedding.z), decoded)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """Named loss terms of one phase; `outputs` is this batch's forward pass where the caller already has it."""
        raise ConfigError(f"{type(self).__name__} is not trained by gradient descent")

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Prepare a phase: cluster centers, head initialization. `embed()` is the embedding of the whole data set."""

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Do what the method does between epochs, e.g. weights taken anew from the embedding of the whole data set."""

    def stop_reason(self) -> str | None:
        """Why clustering should end now, asked after each epoch; None to go on. Told by the model's state alone."""
        return None

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """End a phase, e.g. with k-means on the trained embedding, for methods that label so."""

    def schedule(self, phase: Phase) -> Schedule:
        """The schedule of one phase."""
        return self.config.pretrain if phase == "pretrain" else self.config.cluster

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """The optimizers of one phase; default: one Adam over all parameters."""
        return {"model": adam(self.parameters(), self.schedule(phase).lr)}

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update; returns the named terms. Default: descend the sum of `losses`."""
        return descend(self.losses(batch, phase), optimizers["model"])

    def after_step(self, phase: Phase) -> None:
        """Count an update, for methods whose terms change with the steps; a defense that makes its own calls it too."""

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Label-free figures of the method's own, e.g. the spread of its centers; logged every epoch."""
        return {}


def log_of(soft_labels: Tensor) -> Tensor:
    """Logarithms of soft labels, of 0 that of the smallest normal number."""
    return soft_labels.clamp_min(torch.finfo(soft_labels.dtype).tiny).log()
