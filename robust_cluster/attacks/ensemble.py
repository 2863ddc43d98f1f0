"""The worst of several attacks for every sample: the standard attack on a clustering, without settings to tune.

As AutoAttack (Croce and Hein, ICML 2020) joins attacks on classifiers: APGD on three label-free objectives and aimed at
the nearest other clusters, Square on soft and on hard labels, and random noise. A sample counts as moved to another
cluster when any member moves it there; the rest get the point of the highest margin, of which the stage, that measures
every member on its own, keeps the first member's. Members are written as
"attack:option", the option being an objective, a feedback or a kind of noise.
"""

from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, ClassVar

import torch

from robust_cluster.attacks import apgd, noise, pgd, square, transfer
from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.attacks.bounded import Best, BoundedAttack, BoundedConfig, Known, known
from robust_cluster.data.base import Batch, Views
from robust_cluster.errors import ConfigError, UnknownNameError, check_at_least
from robust_cluster.nn.objectives import margin

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"steps": 2, "queries": 5, "draws": 1, "targets": 2},
    "cpu": {"steps": 50, "queries": 500, "draws": 30, "targets": 3},
    "short": {"steps": 20, "queries": 200, "draws": 10},
}
KINDS: dict[str, tuple[ModuleType, type[BoundedAttack], str]] = {
    "apgd": (apgd, apgd.Apgd, "objective"),
    "pgd": (pgd, pgd.PGD, "objective"),
    "square": (square, square.Square, "feedback"),
    "noise": (noise, noise.Noise, "kind"),
    "transfer": (transfer, transfer.Transfer, ""),
}
MEMBERS = (
    "apgd:margin",
    "apgd:targeted",
    "apgd:kl",
    "apgd:displacement",
    "square:soft",
    "square:hard",
    "noise:all",
)


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of the ensemble and, where they have such a one, of its members."""

    members: tuple[str, ...] = MEMBERS  # attacks one after the other, each on what has not flipped
    steps: int = 100  # of each run of a gradient attack
    restarts: int = 1  # of each gradient attack
    targets: int = 9  # clusters that "targeted" aims at; AutoAttack's
    eot: int = 1  # forward passes of a gradient
    queries: int = 1000  # of Square, per sample
    draws: int = 100  # of each kind of noise

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "restarts", "targets", "eot", "queries", "draws")
        check_at_least(0, self, "steps")
        if not self.members:
            raise ConfigError("an ensemble needs at least one member", hint="--set 'attack.members=[apgd:margin]'")
        if len(set(self.members)) < len(self.members):
            raise ConfigError(f"every member stands once, got {', '.join(self.members)}")
        for member in self.members:
            member_config(member, self)


class Ensemble(BoundedAttack):
    """Members that know of each other only which samples are left; nothing is learned."""

    version: ClassVar[int] = 1

    def __init__(self, config: Config, surface: Surface) -> None:
        super().__init__(config, surface)
        self.config = config
        names = config.members
        if config.source and "transfer" not in names:
            names = (*names, "transfer")
        self.members = {name: KINDS[name.partition(":")[0]][1](member_config(name, config), surface) for name in names}
        ranks = ("white", "score", "label", "transfer", "none")
        self.knowledge = min((member.knowledge for member in self.members.values()), key=ranks.index)

    @property
    def member_names(self) -> tuple[str, ...]:
        """The members in the order in which they are asked."""
        return tuple(self.members)

    def attack_of(self, name: str) -> BoundedAttack:
        """A member. Raises: UnknownNameError."""
        if name not in self.members:
            raise UnknownNameError("member", name, self.members)
        return self.members[name]

    def borrow(self, attacker: Attack, surface: Surface) -> None:
        """Hand another run's attacker to the member "transfer". Raises: ConfigError where there is none."""
        self.attack_of("transfer").borrow(attacker, surface)

    def search(self, surface: Surface, known: Known) -> Views:
        """The worst points: members are asked in turn, each about the samples that hold out against those before."""
        best = Best(known, margin(known.log_y, known.labels))
        for member in self.members.values():
            rows = best.open() if surface.bn == "eval" else torch.arange(len(known), device=known.labels.device)
            if not len(rows):
                break
            part, before = known.take(rows), member.queries
            self.offer(surface, part, member.search(surface, part), rows, best)
            self.queries += member.queries - before
        return best.point

    def perturb_each(self, surface: Surface, batch: Batch) -> dict[str, Views]:
        """The points of every member on its own, by name, for all samples of the batch."""
        found = {}
        for name, member in self.members.items():
            before = member.queries
            found[name] = member.perturb(surface, batch)
            self.queries += member.queries - before
        return found

    def worst(self, surface: Surface, batch: Batch, each: dict[str, Views]) -> Views:
        """The worst of the points that `perturb_each` gave, for every sample."""
        with torch.no_grad():
            whole = known(surface, batch)
            self.queries += len(batch)
            best = Best(whole, margin(whole.log_y, whole.labels))
            rows = torch.arange(len(whole), device=whole.labels.device)
            for point in each.values():
                self.offer(surface, whole, point, rows, best)
        return best.point

    def offer(self, surface: Surface, part: Known, point: Views, rows: torch.Tensor, best: Best) -> None:
        """Offer a member's points by the margin that they reach, inside the ensemble's ball."""
        point = self.budget.clip(part.point, point)
        z = surface.latent(point)
        self.queries += len(part)
        is_flipped = surface.model.labels(z) != part.labels
        best.offer(rows, point, margin(surface.model.log_assign(z), part.labels), is_flipped)


def member_config(member: str, config: Config) -> Any:
    """The settings of a member, "attack:option": those that it shares with the ensemble, and its option.

    Raises: UnknownNameError for an attack that cannot be a member, ConfigError for an option that it does not have.
    """
    name, _, option = member.partition(":")
    if name not in KINDS:
        raise UnknownNameError("member", name, KINDS)
    module, _, setting = KINDS[name]
    if bool(option) and not setting:
        raise ConfigError(f"the member {name} has no option, got {member!r}")
    shared = {f.name: getattr(config, f.name) for f in fields(module.Config) if hasattr(config, f.name)}
    return module.Config(**shared | ({setting: option} if option else {}))
