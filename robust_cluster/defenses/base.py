"""What a defense is: an update of the model (and of the defense's own networks) against an attack."""

from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

from robust_cluster.attacks.base import Attack, Gain, Space, Surface
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.optim import Stateful


class Defense(Protocol):
    """defenses/<name>.py holds a frozen `Config` and one class with this form, built as `Name(config, surface)`."""

    version: ClassVar[int]
    spaces: ClassVar[tuple[Space, ...]]  # of the attacks that it can follow
    meets: ClassVar[str]  # the attack that it was made for
    schedule: Schedule
    trains_attacker: bool  # the stage then trains the attacker for as many steps after each epoch
    restarts: bool  # the stage then hands over the model as its clustering began, not as it ended

    @classmethod
    def check(cls, model: type[ClusterModel], info: DataInfo, config: Any) -> None:
        """Refuse a method or data that it cannot train on, before anything is trained. Raises: ConfigError.

        `info`: what is known of the data that models train on; `config`: the defense's own.
        """
        ...

    def step(self, surface: Surface, attack: Attack, batch: Batch) -> dict[str, float]:
        """One update of the surface's model; returns the named loss terms."""
        ...

    def gain(self, surface: Surface, attack: Attack, batches: Iterable[Batch]) -> Gain | None:
        """What an attacker who knows the defense ascends on the defended, frozen model: the defense's own loss, (n,).

        `attack`: the one that the defense met; `batches`: rows on which networks that are not kept are trained anew.
        None where the defense has no loss of the points that this surface moves.
        """
        ...

    def state(self) -> dict[str, Stateful]:
        """The defense's own networks and optimizers, by name; the model is saved by the stage."""
        ...
