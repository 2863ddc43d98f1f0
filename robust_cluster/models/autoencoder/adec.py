"""ADEC: DEC with three networks that each descend a loss of their own (Mrabah, Bouguessa, Ksantini, preprint 2019).

L_E(phi, mu) = KL(P || Q) + E log(1 - D(G(E(x))))     (Eq. 10)   encoder E and centers; mu from KL alone
L_G(theta) = mean (x - G(E(x)))^2                     (Eq. 11)   decoder G, E fixed
V_D(omega) = E log D(x) + E log(1 - D(G(E(x))))       (Eq. 12)   discriminator D, maximized
M steps of the decoder alternate with M of all three, in the order E, G, D, mu, each on what the one before left; P is
taken anew every T >= 2M steps, so that no check of the labels finds an encoder that stood still. D first learns alone
until E D(x) - E D(x_hat) exceeds 0.5 or for five passes, in whole epochs of T steps, so that P is taken after a joint
phase; these steps are no part of the 100,000. Pretraining: `dec`'s, by default "acai" with rotated and shifted images.

Our choices where the paper is silent: D's layers, T, M = T/2, D's pretraining, means over batch and dimensions (in
Eq. 10 KL may be a sum: `clustering_weight`). Of the paper's alpha in [0, 1] (mode "paper", and the tables of ADEC) a
critic can learn the mean alone, with which it still tells mixes from what was decoded unmixed; by default alpha is
folded to [0, 1/2], as in ACAI.
Theorem 2 prints the gradient of the adversarial term with the wrong sign; autograd has the right one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError, check_at_least, check_positive
from robust_cluster.models.autoencoder import dec
from robust_cluster.models.base import Embedding, Losses, Phase, later
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.adec import Turns
from robust_cluster.nn.adversarial import Game, discriminator_loss, frozen, generator_loss
from robust_cluster.nn.dec import clustering_kl
from robust_cluster.nn.layers import perceptron
from robust_cluster.nn.optim import adam, descend
from robust_cluster.nn.perceptrons import uniform_fan_in

MODES: dict[str, dict[str, Any]] = {"paper": {"alpha": "unit"}}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {**dec.PROFILES["smoke"], "discriminator_epochs": 1, "discriminator_lr": 1e-3},
    "short": dec.PROFILES["short"],
    "cpu": dec.PROFILES["cpu"],
}
SURE = 0.999  # a discriminator this sure of most samples gives the encoder no gradient
INACTIVE = 1000  # steps in a row
MOST_STEPS = 100_000  # after which the clustering ends with its epoch (sec. 5); those of D alone are not counted


@dataclass(frozen=True)
class Config(dec.Config):
    """Hyper-parameters of ADEC."""

    mode: Literal["plain", "paper"] = "plain"
    pretraining: Literal["vanilla", "denoising", "acai"] = "acai"  # REUTERS-10K: vanilla, 2 epochs
    pretrain: Schedule = field(default_factory=lambda: Schedule(batch_size=256, **dec.ACAI_PRETRAINING))
    adv_loss: Game = "saturating"  # log(1 - D), or -log D for the encoder
    adversarial_weight: float = 1.0  # of the encoder's game in L_E; 1/256 is Eq. 10 with KL a sum over a batch of 256
    clustering_weight: float = later(1.0)  # of KL in L_E; 256 is that sum as it stands, at the step size of the mean
    discriminator_hidden: tuple[int, ...] | None = later(None)  # widths of D; None: the encoder's
    phase_steps: int | None = None  # M; None: T // 2
    discriminator_epochs: int = 5  # passes over the data in which D learns alone, at most
    discriminator_gap: float = 0.5  # mean D(x) - mean D(x_hat) above which D learns alone no longer
    discriminator_lr: float = 1e-4  # Adam's, while D learns alone
    # steps_per_epoch is T, as in DEC; 715 epochs are 100,100 steps, ten more are room for D's on 70,000 samples
    cluster: Schedule = field(
        default_factory=lambda: Schedule(epochs=725, batch_size=256, steps_per_epoch=140, lr=1e-3)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "adversarial_weight", "clustering_weight", "discriminator_epochs", "discriminator_gap")
        check_at_least(1, self, "discriminator_hidden")
        check_positive(self, "discriminator_lr")
        steps = self.cluster.steps_per_epoch
        if steps is None or steps < 2:
            raise ConfigError(
                f"cluster.steps_per_epoch, which is T, must be a number >= 2, got {steps}",
                hint="--set model.cluster.steps_per_epoch=140",
            )
        if not 1 <= self.phase_length <= steps // 2:
            raise ConfigError(
                f"phase_steps must be in [1, steps_per_epoch / 2] = [1, {steps // 2}], got {self.phase_steps}",
                hint=f"--set model.phase_steps={steps // 2}",
            )

    @property
    def phase_length(self) -> int:
        """M."""
        return (self.cluster.steps_per_epoch or 0) // 2 if self.phase_steps is None else self.phase_steps


class ADEC(dec.DEC):
    """Encoder, decoder and discriminator, each with its own loss and optimizer."""

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        widths = [math.prod(info.shapes[0]), *(config.discriminator_hidden or config.hidden), 1]
        self.discriminator = perceptron(widths)
        uniform_fan_in(self.discriminator)
        self.judgement = nn.Buffer(torch.full((2,), 0.5))  # mean D(x) and D(x_hat) over the last epoch
        self.sure_steps = nn.Buffer(torch.zeros((), dtype=torch.int64))  # steps in a row with D sure of most
        self.fit.parts["turns"] = Turns(config.phase_length, is_begun=config.discriminator_epochs == 0)
        self._judged: list[Tensor] = []  # of each step of this epoch

    @property
    def turns(self) -> Turns:
        """Whose turn it is."""
        turns: Turns = self.fit.parts["turns"]
        return turns

    def cluster_losses(self, x: Tensor, z: Tensor, targets: Tensor) -> Losses:
        """All terms, each with gradients to the networks that it trains: their sum can be descended as one."""
        decoded = self.autoencoder.decoder(z.detach())
        real, fake = self.discriminator(x), self.discriminator(decoded.detach())
        terms = self.game(x, z, targets, (decoded, real, fake))
        terms["adversarial"] = self.fooling(frozen(self.discriminator, frozen(self.autoencoder.decoder, z)))
        return terms

    def game(self, x: Tensor, z: Tensor, targets: Tensor, judged: tuple[Tensor, Tensor, Tensor]) -> Losses:
        """The four terms; `judged`: decoded rows (n, D), and logits (n, 1) of x and of them."""
        decoded, real, fake = judged
        return {
            "clustering": self.pulling(z, targets),
            "adversarial": self.fooling(fake),
            "reconstruction": F.mse_loss(decoded, x),
            "discriminator": discriminator_loss(fake, real),
        }

    def pulling(self, z: Tensor, targets: Tensor) -> Tensor:
        """KL(P || Q), weighted, for embedded rows z (n, d) and their targets (n, K)."""
        return self.config.clustering_weight * clustering_kl(targets, self.assign(z))

    def fooling(self, fake: Tensor) -> Tensor:
        """The encoder's part of the game, weighted, for logits (n, 1) of decoded samples."""
        return self.config.adversarial_weight * generator_loss(fake, self.config.adv_loss)

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """One for each network and one for the centers; Adam for the discriminator by itself."""
        if phase == "pretrain":
            return super().optimizers(phase)
        trained = {
            "encoder": self.autoencoder.encoder.parameters(),
            "decoder": self.autoencoder.decoder.parameters(),
            "discriminator": self.discriminator.parameters(),
            "centers": [self.centers],
        }
        alone = adam(self.discriminator.parameters(), self.config.discriminator_lr)
        return {name: self.new_optimizer(found) for name, found in trained.items()} | {"discriminator_alone": alone}

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update of those whose turn it is; returns all terms as they were before it."""
        if phase == "pretrain":
            return super().step(batch, phase, optimizers)
        x = self.inputs(batch, phase)
        z = self.autoencoder.encoder(x)
        targets = self.targets_of(batch, z)
        decoded = self.autoencoder.decoder(z)
        real, fake = self.discriminator(x), self.discriminator(decoded)
        terms = self.game(x, z, targets, (decoded, real, fake))
        turn = self.turns.current()
        if turn == "discriminator":
            descend_at(terms["discriminator"], optimizers["discriminator_alone"])
        elif turn == "decoder":
            descend_at(terms["reconstruction"], optimizers["decoder"])
        else:
            descend_at(terms["clustering"] + terms["adversarial"], optimizers["encoder"])
            self.follow(x, targets, optimizers)
        self.turns.advance()
        self.judge(real.detach().sigmoid(), fake.detach().sigmoid())
        values = torch.stack([term.detach() for term in terms.values()]).tolist()
        return dict(zip(terms, values, strict=True))

    def follow(self, x: Tensor, targets: Tensor, optimizers: Mapping[str, Optimizer]) -> None:
        """Updates of decoder, discriminator and centers after one of the encoder, for rows x (n, D)."""
        with torch.no_grad():
            z = self.autoencoder.encoder(x)
        descend_at(F.mse_loss(self.autoencoder.decoder(z), x), optimizers["decoder"])
        with torch.no_grad():
            decoded = self.autoencoder.decoder(z)
        descend_at(discriminator_loss(self.discriminator(decoded), self.discriminator(x)), optimizers["discriminator"])
        descend_at(self.pulling(z, targets), optimizers["centers"])

    def judge(self, real: Tensor, fake: Tensor) -> None:
        """Keep the means of D(x) and D(x_hat), (n, 1), and count steps in a row with D sure of most samples."""
        self._judged.append(torch.stack([real.mean(), fake.mean()]))
        is_sure = ((fake < 1 - SURE).float().mean() > 0.5) | ((real > SURE).float().mean() > 0.5)
        goes_on = is_sure | (self.sure_steps >= INACTIVE)  # once inactive, told to the end
        self.sure_steps.copy_((self.sure_steps + 1) * goes_on)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Take the targets anew, or end the discriminator's lone phase, in which no embedding changes."""
        if phase != "cluster":
            return
        if self._judged:
            self.judgement.copy_(torch.stack(self._judged).mean(dim=0))
            self._judged.clear()
        if self.turns.is_begun:
            super().after_epoch(phase, epoch, embed, seed)
            return
        n, config = self.info.n_samples, self.config
        is_over = int(self.turns.alone) >= config.discriminator_epochs * (n // config.cluster.batch(n))
        if is_over or float(self.judgement[0] - self.judgement[1]) > config.discriminator_gap:
            self.turns.is_begun.fill_(True)

    def stop_reason(self) -> str | None:
        """As DEC's, or the paper's number of steps was taken."""
        return "100,000 steps" if int(self.turns.taken) >= MOST_STEPS else super().stop_reason()

    def health(self, embedding: Embedding) -> dict[str, float]:
        """DEC's figures, mean D(x) and D(x_hat), whether D was ever too sure to teach the encoder anything, and D's own
        steps before the clustering.
        """
        real, fake = self.judgement.tolist()
        return super().health(embedding) | {
            "D_real": real,
            "D_fake": fake,
            "adversarial_inactive": float(self.sure_steps >= INACTIVE),
            "steps_alone": float(self.turns.alone),
        }

    def self_loss(self, x: Tensor, z: Tensor) -> Tensor:
        """The adversarial term of L_E, without its weight."""
        return generator_loss(self.discriminator(self.autoencoder.decoder(z)), self.config.adv_loss)

    def loss_weights(self) -> tuple[float, float]:
        """The weights of KL and of the adversarial term."""
        return self.config.clustering_weight, self.config.adversarial_weight


def descend_at(loss: Tensor, optimizer: Optimizer) -> None:
    """One step of an optimizer down the gradient of `loss` at its own parameters; no other's `grad` is touched."""
    descend({"loss": loss}, optimizer, is_alone=True)
