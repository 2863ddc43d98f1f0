"""DCAN: codes that are to pass for draws from a mixture fitted to them (Lim, ICLR 2025 workshop DeLTa, Eqs. 1, 13-23).

L = E ln(1 - D(G(x))) + E ln D(z*), z* ~ N(eta_k, diag(1/tau_k)) with k the component of G(x): the discriminator D
ascends L, the encoder G descends its first term. D sees a point and not k: it compares all codes with all draws, so a
code passes wherever draws lie, in its own cluster or not, although Table 1 asks "Does z belong to the assigned
cluster?". A step takes a batch of at least 600 rows: one hard EM pass on the codes that the encoder gives them now,
then D and G on the first 16 of them. Nothing flows through z*, eta or tau. The paper says nothing of initialization,
pretraining and the final labels: here k-means++ on the codes, and 10 more EM passes over all codes; k-means on all
codes is scored beside them (ACC_refit). Mode "paper" starts from a random encoder and takes the published 500 steps;
"clean" starts from an autoencoder and ends with the first epoch that leaves less than a quarter of the codes' total
variance, or after 20,000 steps. Sec. A.5.2 lets the encoder ascend; the abstract's "minimize the encoder" is followed.
A decoder learns to read the codes at the side, for attacks that look at what a code stands for; while clustering the
encoder gets no gradient of it.

Not of the paper, to find what holds it back (tables/trials.toml, tables/dcan_oracle.toml): `critic_sees` "pair" shows D
each code and each draw beside another draw of its component; `objective` "closed" descends Eq. 9's D_KL to the code's
component, which the game stands for, without D; `oracle` takes the true classes as components, from data named
oracle:NAME alone, which nothing else trains on, and is never attacked.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.discover import ORACLE
from robust_cluster.errors import ConfigError, check_at_least, check_positive
from robust_cluster.models.adversarial.base import SampleSchedule
from robust_cluster.models.autoencoder.ae_kmeans import single_view
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase, later
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.adversarial import Game, discriminator_loss, frozen, generator_loss
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.layers import glorot, perceptron
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.mixture import HardMixture, Rule
from robust_cluster.nn.optim import adam, descend
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import generator

MODES = {"paper": {"cluster": {"epochs": 5}}}  # 500 steps
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"hidden": (64,), "pretrain": {"epochs": 20}, "cluster": {"epochs": 10, "steps_per_epoch": 25}},
    "cpu": {"pretrain": {"batch_size": 300}},  # the published nets are small; the steps are the mode's
}
SATURATED = 0.9  # beyond it a tanh hardly moves
EDGE = 0.999  # a tanh code never leaves (-1, 1): a draw that does would tell D at once
ENDS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
RANGES = {"tanh": (-EDGE, EDGE), "sigmoid": (1 - EDGE, EDGE)}  # that draws are kept in
START_ROWS = 10_000  # codes that the first k-means sees


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of DCAN; the defaults are those of MNIST, with `--dim 256`."""

    mode: Literal["clean", "paper"] = "clean"
    hidden: tuple[int, ...] = (384,)  # MNIST, dim 256; Reuters (100,), 500; CIFAR10's features (1024, 512), 128
    critic: int = 16  # hidden units of D; Reuters 100
    pool: int = 2  # images are averaged over pool x pool pixels, 28 x 28 to 14 x 14; vectors are taken as they are
    side: int | None = None  # rows of gray images that come as vectors (MNIST with --flatten: 28), to be pooled too
    scale: float = 1.0  # multiplies the encoder's input: rows of a large norm drive tanh into its ends
    latent_act: Literal["tanh", "sigmoid", "linear"] = "tanh"  # last activation of the encoder
    assign: Rule = "nearest"  # A.1; "eq22" adds ln psi, beside which the largest cluster may eat the others
    draw: Literal["sample", "mean"] = "sample"  # z* drawn, or eta itself
    adv_loss: Game = "saturating"  # Eq. 18
    critic_sees: Literal["code", "pair"] = later("code")  # z or z* alone, or beside another draw of the same component
    objective: Literal["game", "closed"] = later("game")  # the encoder's: against D, or Eq. 9 itself, without D
    oracle: bool = later(False)  # components are the true classes: data named oracle:NAME, no result of the method
    minibatch: int = 16  # rows of a batch that D and G learn from, after EM on all of it
    momentum: float = 0.9  # of both SGDs; the paper names no value
    final_lr: float = 1e-5  # reached geometrically from cluster.lr, of both nets; the paper: "between 1e-3 and 1e-5"
    min_variance: float = 0.25  # of the start, in [0, 1); mode "clean" ends with the first epoch that is below
    em_passes: int = 10  # over all codes, before the final labels
    n_init: int = 10  # k-means restarts
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=50, batch_size=128))
    cluster: Schedule = field(default_factory=lambda: SampleSchedule(epochs=200, batch_size=600, steps_per_epoch=100))

    def __post_init__(self) -> None:
        check_at_least(1, self, "hidden", "critic", "pool", "minibatch", "n_init", "side")
        check_at_least(0, self, "em_passes")
        for name in ("momentum", "min_variance"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        check_positive(self, "scale")
        if not 0 < self.final_lr <= self.cluster.lr:
            raise ConfigError(f"final_lr must be in (0, cluster.lr] = (0, {self.cluster.lr}], got {self.final_lr}")
        if self.minibatch > self.cluster.batch_size:
            most = self.cluster.batch_size
            raise ConfigError(f"minibatch must be in [1, cluster.batch_size] = [1, {most}], got {self.minibatch}")


class DCAN(ClusterModel):
    """z is the encoder's code (n, d), `--dim`. Labels are the mixture's, by the rule `assign`."""

    pretrained_by: ClassVar[str | None] = "dcan"
    pretrain_fields: ClassVar[tuple[str, ...]] = ("hidden", "pool", "side", "scale", "latent_act", "oracle", "pretrain")
    descends_losses: ClassVar[bool] = False
    scores_refit: ClassVar[bool] = True

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse data that cannot be pooled as asked, and an oracle without classes. Raises: ConfigError."""
        image_shape(encoded_shape(info, config), config)

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.config: Config = config
        check_at_least(2, info, "n_clusters")
        shape = encoded_shape(info, config)
        self.image = image_shape(shape, config)  # what is pooled; None for vectors
        inputs = math.prod(shape) // (config.pool**2 if self.image else 1)
        widths = [inputs, *config.hidden, latent_dim]
        ends = [ENDS[config.latent_act]()] if config.latent_act in ENDS else []
        last: list[nn.Module] = [nn.Sigmoid()] if info.bounds == (0.0, 1.0) else []
        self.encoder = nn.Sequential(perceptron(widths, nn.Tanh), *ends)
        self.decoder = nn.Sequential(perceptron(widths[::-1], nn.Tanh), *last)
        seen = latent_dim * (2 if config.critic_sees == "pair" else 1)
        self.discriminator = perceptron([seen, config.critic, 1], nn.Tanh)
        glorot(self)
        self.mixture = HardMixture(info.n_clusters, latent_dim, config.assign)
        self.start_variance, self.latent_variance = nn.Buffer(torch.ones(())), nn.Buffer(torch.ones(()))
        self.encoder_displacement, self.discriminator_displacement = (nn.Buffer(torch.zeros(())) for _ in range(2))
        self.note_nets()

    @classmethod
    def has_pretraining(cls, config: Any) -> bool:
        """Only in mode "clean"."""
        return bool(config.mode == "clean")

    def pretrained(self) -> nn.Module:
        """Encoder and decoder."""
        return nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})

    def pixels(self, views: Views) -> Tensor:
        """The view pooled and flattened, (n, inputs)."""
        x = views[0].flatten(1)
        return F.avg_pool2d(x.unflatten(1, self.image), self.config.pool).flatten(1) if self.image else x

    def encode(self, views: Views) -> Embedding:
        """The codes (n, d), in (-1, 1) with a tanh at the end, in (0, 1) with a sigmoid; an oracle's classes beside."""
        z = self.encoder(self.config.scale * self.pixels(views))
        return Embedding(z, (z, *views[1:]))

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape), its pooled pixels repeated; an oracle's soft labels stand for the classes."""
        x, pool = self.decoder(z), self.config.pool
        if self.image:
            channels, height, width = self.image
            x = x.unflatten(1, (channels, height // pool, width // pool))
            x = x.repeat_interleave(pool, dim=2).repeat_interleave(pool, dim=3)
        x = x.reshape(len(z), *self.info.shapes[0])
        return (x, self.assign(z)) if self.config.oracle else (x,)

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) whose argmax is the rule's component."""
        return self.mixture.log_posterior(z).exp()

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return self.mixture.log_posterior(z)

    def refit_labels(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of k-means fitted to z (n, d)."""
        return kmeans(z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)[1]

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """While pretraining E ||x - x_hat||^2; then the encoder's objective and what the decoder misses."""
        embedding = self.encode(batch.views) if outputs is None else outputs.embedding
        if phase == "pretrain":
            return {"reconstruction": squared_error(self.decoder(embedding.z), self.pixels(batch.views))}
        return self.cluster_losses(embedding, batch.views)

    def cluster_losses(self, embedding: Embedding, views: Views) -> Losses:
        """The encoder's term (no gradient for D) and reconstruction (for the decoder, none for G) of the codes."""
        z = embedding.z
        missed = squared_error(self.decoder(z.detach()), self.pixels(views))
        return {**self.encoder_losses(z, self.components(embedding)), "reconstruction": missed}

    def encoder_losses(self, z: Tensor, labels: Tensor) -> Losses:
        """What the encoder descends for codes z (n, d) of components `labels` (n,): its side of the game, or Eq. 9."""
        if self.config.objective == "closed":
            return {"clustering": self.mixture.divergence(z, labels)}
        fakes = frozen(self.discriminator, self.shown(z, labels))
        return {"adversarial": generator_loss(fakes, self.config.adv_loss)}

    def components(self, embedding: Embedding) -> Tensor:
        """The component (n,) of each code: the mixture's, or an oracle's class."""
        return embedding.per_view[1].argmax(dim=1) if self.config.oracle else self.mixture.labels(embedding.z)

    def regroup(self, embedding: Embedding) -> None:
        """One EM pass on the codes, or an oracle's mixture of the classes as they lie now."""
        if self.config.oracle:
            self.mixture.fit(embedding.z, self.components(embedding))
        else:
            self.mixture.update(embedding.z)

    def shown(self, points: Tensor, labels: Tensor) -> Tensor:
        """What D gets of points (n, d), codes or draws: these, or (n, 2 d) with another draw of each component."""
        if self.config.critic_sees == "code":
            return points
        return torch.cat([points, self.draws(labels, torch.randn_like(points))], dim=1)

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """SGD with momentum for encoder and discriminator, Adam for the decoder; one Adam while pretraining."""
        if phase == "pretrain":
            return {"model": adam(self.pretrained().parameters(), self.config.pretrain.lr)}
        lr, momentum = self.config.cluster.lr, self.config.momentum
        return {
            "encoder": SGD(self.encoder.parameters(), lr=lr, momentum=momentum),
            "discriminator": SGD(self.discriminator.parameters(), lr=lr, momentum=momentum),
            "decoder": adam(self.decoder.parameters(), self.config.pretrain.lr),
        }

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """An EM pass on the batch's codes, one update of the decoder, then of D and of G on the first `minibatch` rows.

        With the closed objective there is no update of D. Returns the terms of the whole batch as the step finds them.
        """
        if phase == "pretrain":
            return super().step(batch, phase, optimizers)
        rows = slice(self.config.minibatch)
        with torch.no_grad(), precision("highest"):
            embedding = self.encode(batch.views)
            self.regroup(embedding)
            codes = embedding.z[rows]
            labels = self.components(Embedding(codes, tuple(view[rows] for view in embedding.per_view)))
            real = self.draws(labels, torch.randn_like(codes))
        values = descend(self.cluster_losses(embedding, batch.views), optimizers["decoder"])
        if self.config.objective == "game":
            fakes, reals = (self.discriminator(self.shown(points, labels)) for points in (codes, real))
            descend({"discriminator": discriminator_loss(fakes, reals)}, optimizers["discriminator"])
        z = self.encode(tuple(view[rows] for view in batch.views)).z
        descend(self.encoder_losses(z, labels), optimizers["encoder"])
        for name in ("encoder", "discriminator"):
            for group in optimizers[name].param_groups:
                group["lr"] *= self.decay
        return values

    def draws(self, labels: Tensor, noise: Tensor) -> Tensor:
        """z* (n, d): a draw of each label's component, or its mean, inside the range of the encoder's activation."""
        is_drawn = self.config.draw == "sample"
        found = self.mixture.draw(labels, noise) if is_drawn else self.mixture.means[labels]
        return found.clamp(*RANGES[self.config.latent_act]) if self.config.latent_act in RANGES else found

    @property
    def decay(self) -> float:
        """What both learning rates are multiplied by after a step, so that the last step has `final_lr`."""
        schedule = self.config.cluster
        per_epoch = schedule.steps_per_epoch or self.info.n_samples // schedule.batch(self.info.n_samples)
        steps = schedule.epochs * per_epoch
        return float((self.config.final_lr / schedule.lr) ** (1 / max(1, steps - 1)))

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """The mixture from k-means on at most 10,000 codes, or an oracle's; note the nets and the codes' variance."""
        if phase != "cluster":
            return
        embedding = embed()
        z = embedding.z
        self.start_variance.copy_(total_variance(z))
        self.note_nets()
        self.measure(z)
        if self.config.oracle:
            self.regroup(embedding)
            return
        z = z[torch.randperm(len(z))[:START_ROWS].to(z.device)]
        centers, labels, _ = kmeans(z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)
        self.mixture.means.copy_(centers)
        self.mixture.fit(z, labels)

    def note_nets(self) -> None:
        """Keep the nets as they are now: their displacement is measured from there."""
        for name in ("encoder", "discriminator"):
            self.fit.parts[f"first_{name}"] = copy.deepcopy(getattr(self, name)).requires_grad_(False)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Measure how far the codes have contracted and the nets have moved."""
        self.measure(embed().z)

    def measure(self, z: Tensor) -> None:
        """Note the total variance of all codes z and the nets' displacement."""
        self.latent_variance.copy_(total_variance(z))
        for name in ("encoder", "discriminator"):
            first = self.fit.parts[f"first_{name}"].to(z.device)
            self.get_buffer(f"{name}_displacement").copy_(displacement(getattr(self, name), first))

    def stop_reason(self) -> str | None:
        """In mode "clean", once the codes have contracted; nothing else keeps them from becoming one."""
        share = self.config.min_variance
        if self.config.mode == "clean" and self.latent_variance < share * self.start_variance:
            return f"latent variance below {share:.0%} of its start"
        return None

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """EM passes over all codes, which give the final labels."""
        if phase == "cluster":
            embedding = embed()
            for _ in range(self.config.em_passes):
                self.regroup(embedding)
            self.measure(embedding.z)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """What a collapse shows in: variance, its share of the start, the smallest cluster; and how the game stands.

        `saturated` is the share of all codes' entries at the ends of tanh or of a sigmoid, where all may be driven.
        Displacements are ||w - w_0|| / ||w_0||. `game_value` is L with fixed noise: -2 ln 2 = -1.386 when D tells
        nothing apart, which an untrained D does not either.
        """
        z = embedding.z
        variance = total_variance(z)
        sizes = torch.bincount(self.mixture.labels(z), minlength=self.info.n_clusters)
        value = self.game_value(embedding)
        signed = {"tanh": z, "sigmoid": 2 * z - 1}.get(self.config.latent_act)
        ends = {} if signed is None else {"saturated": float((signed.abs() > SATURATED).float().mean())}
        return {
            "latent_variance": float(variance),
            "latent_variance_share": float(variance / self.start_variance.clamp_min(1e-12)),
            "smallest_cluster": float(sizes.min()),
            "encoder_displacement": float(self.encoder_displacement),
            "discriminator_displacement": float(self.discriminator_displacement),
            "game_value": float(value),
        } | ends

    def game_value(self, embedding: Embedding) -> Tensor:
        """L of all codes with fixed noise, a scalar; no generator moves."""
        z, labels = embedding.z, self.components(embedding)
        real = self.draws(labels, torch.randn(z.shape, generator=generator(0)).to(z))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return -discriminator_loss(*(self.discriminator(self.shown(points, labels)) for points in (z, real)))


def encoded_shape(info: DataInfo, config: Config) -> tuple[int, ...]:
    """The shape of what is encoded: the only view, or that beside an oracle's classes. Raises: ConfigError."""
    if config.oracle and not info.name.startswith(ORACLE):
        raise ConfigError(f"oracle needs the classes as a view, {info.name} has none", hint=f"--data {ORACLE}NAME")
    return info.shapes[0] if config.oracle else single_view(info)


def image_shape(shape: tuple[int, ...], config: Config) -> tuple[int, int, int] | None:
    """Channels, height and width of what is pooled; None for vectors that are no images. Raises: ConfigError."""
    if len(shape) == 1:
        if config.side is None:
            return None
        if shape[0] % config.side:
            raise ConfigError(f"side must divide the vectors' length {shape[0]}, got {config.side}")
        shape = (1, config.side, shape[0] // config.side)
    elif config.side is not None:
        raise ConfigError(f"side is for images that come as vectors (--flatten), got {config.side} for {shape}")
    channels, height, width = shape
    if height % config.pool or width % config.pool:
        raise ConfigError(
            f"pool must divide both sides of the image, {height} x {width}, got {config.pool}",
            hint="--set model.pool=1",
        )
    return channels, height, width


def total_variance(z: Tensor) -> Tensor:
    """The variance of z (n, d) over the rows, summed over the dimensions."""
    return z.var(dim=0, correction=0).sum()


def displacement(net: nn.Module, first: nn.Module) -> Tensor:
    """||w - w_0|| / ||w_0|| over all parameters."""
    now, then = (nn.utils.parameters_to_vector(module.parameters()).detach() for module in (net, first))
    share: Tensor = (now - then).norm() / then.norm()
    return share
