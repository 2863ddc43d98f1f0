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


@dataclass(frozen=True)
class ModelConfig:
    """Fields that every method has; a method's own `Config` adds its hyper-parameters."""

    pretrain: Schedule = field(default_factory=Schedule)
    cluster: Schedule = field(default_factory=Schedule)


class ClusterModel(nn.Module, ABC):
    """A clustering model: `encode` and `assign` are what every stage, attack and table rests on.

    `version`: raised when the numbers change. `transductive`: labels only the data it was fitted on.
    `pretrained_by`: the method whose pretraining gives this one's starting weights, None for methods without; methods
    that are compared "on the same pretrained network" name the same one and share its run.
    `pretrain_fields`: the fields of `Config` that the pretraining depends on.
    `descends_losses`: a step down the sum of `losses`, such as defenses take, trains the whole method; not where an
    opponent of its networks learns in `step` alone.
    `scores_refit`: a clustering's record also has the scores of `refit_labels` (ACC_refit, ...), beside other labels.
    `straight_through`: gradients pass a rounding as if it were not there, so that they are no slopes of the function.
    `is_identity`: the embedding is the data, views side by side, so there is no latent space to move points in.
    `takes_csr`: `start`, `assign`, `labels` and `health` get a whole data set of one sparse view in torch's CSR layout.
    """

    version: ClassVar[int] = 1
    pretrained_by: ClassVar[str | None] = None
    pretrain_fields: ClassVar[tuple[str, ...]] = ()
    transductive: ClassVar[bool] = False
    descends_losses: ClassVar[bool] = True
    scores_refit: ClassVar[bool] = False
    straight_through: ClassVar[bool] = False
    is_identity: ClassVar[bool] = False
    takes_csr: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, info: DataInfo, latent_dim: int) -> None:
        super().__init__()
        self.config = config
        self.info = info
        self.latent_dim = latent_dim

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Nothing, for data that it can be trained on; asked before anything is. Raises: ConfigError."""

    @classmethod
    def has_pretraining(cls, config: Any) -> bool:
        """Whether this configuration of the method starts from a pretraining run."""
        return cls.pretrained_by is not None

    def knows_labels(self) -> bool:
        """Whether `labels` are already those that the method gives; not before `finish` where that alone fits them."""
        return True

    def training_labels(self) -> Tensor | None:
        """Labels (n,) that the training gave its own rows, for methods that label other points in another way."""
        return None

    def pretrained(self) -> nn.Module:
        """The part of the network that pretraining trains and hands on; default: all of it."""
        return self

    @abstractmethod
    def encode(self, views: Views) -> Embedding:
        """Embedding of V views, each (n, *shape_v), without sampling."""

    @abstractmethod
    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) of z (n, d); rows sum to 1."""

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
        soft_labels = self.assign(z)
        return soft_labels.clamp_min(torch.finfo(soft_labels.dtype).tiny).log()

    def consensus(self, embedding: Embedding) -> Tensor:
        """What the views agree on (n, c), beside `per_view` the target of multi-view attacks; default: z."""
        return embedding.z

    def refit_labels(self, z: Tensor, seed: int) -> Tensor | None:
        """Labels (n,) of a fresh fit to z (n, d), for methods that label by k-means or are scored so too; else None."""
        return None

    def forward(self, views: Views) -> Outputs:
        """One pass with a drawn embedding (equal to z for models without a posterior)."""
        embedding = self.encode(views)
        z_drawn = embedding.draw()
        return Outputs(embedding, z_drawn, self.assign(embedding.z), self.decode(z_drawn))

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """Named loss terms of one phase; `outputs` is this batch's forward pass where the caller already has it."""
        raise ConfigError(f"{type(self).__name__} is not trained by gradient descent")

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Prepare a phase: cluster centres, head initialisation. `embed()` is the embedding of the whole data set."""

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Do what the method does between epochs, e.g. weights taken anew from the embedding of the whole data set."""

    def working_state(self) -> Mapping[str, nn.Module]:
        """What a resumed clustering needs beside the model, e.g. targets of every sample; no part of its checkpoint."""
        return {}

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
        """Label-free figures of the method's own, e.g. the spread of its centres; logged every epoch."""
        return {}
