"""Transfer: the points that another run's attack found against its own model (Papernot, McDaniel and Goodfellow 2016).

They are cut to this attack's ball and put to the victim as they are: nothing is asked of the victim, so a point is
returned whether or not it helps. Views alone can be transferred: embeddings of two models are not comparable.
"""

from dataclasses import dataclass

import torch

from robust_cluster.attacks.base import Attack, Feedback, Surface
from robust_cluster.attacks.bounded import BoundedAttack, BoundedConfig, Known
from robust_cluster.data.base import Batch, Views
from robust_cluster.errors import ConfigError


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of the attack; `source` names the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.space == "latent":
            raise ConfigError("transfer moves views: embeddings of two models are not comparable", hint="--space input")


class Transfer(BoundedAttack):
    """Another run's attacker; nothing is learned."""

    feedback: Feedback = "none"
    borrows: bool = True

    def __init__(self, config: Config, surface: Surface) -> None:
        super().__init__(config, surface)
        self.lender: tuple[Attack, Surface] | None = None

    def borrow(self, attacker: Attack, surface: Surface) -> None:
        """Take the points of `attacker` on the model of `surface`. Raises: ConfigError for embeddings."""
        if surface.space != "input":
            raise ConfigError("transfer needs the source of an attack on the views, that run moves embeddings")
        self.lender = attacker, surface

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The borrowed attacker's points inside this attack's ball. Raises: ConfigError without a source."""
        self.check_surface(surface)
        if self.lender is None:
            raise ConfigError("transfer needs the attack run whose points it takes", hint="--set attack.source=KEY")
        attacker, other = self.lender
        shapes = other.model.info.shapes
        if shapes != surface.model.info.shapes:
            different = f"that run's are {shapes}, here {surface.model.info.shapes}"
            raise ConfigError(f"transfer needs a source of the same views: {different}")
        with torch.no_grad():
            moved = attacker.budget.clip(batch.views, attacker.perturb(other, batch))
            return tuple(view.detach() for view in self.budget.clip(batch.views, moved))

    def search(self, surface: Surface, known: Known) -> Views:
        """The same from what is known of the samples."""
        return self.perturb(surface, Batch(known.point, known.index))
