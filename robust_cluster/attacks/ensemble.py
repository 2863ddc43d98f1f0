"""The worst of several attacks for every sample: the standard attack on a clustering, without settings to tune.

As AutoAttack (Croce and Hein, ICML 2020) joins attacks on classifiers: APGD on three label-free objectives and aimed at
the nearest other clusters, Square on soft and on hard labels, random noise, and points of a surrogate that is fitted to
the victim's labels, for where all else is masked (on a network of two layers and 200 digits, profile "short": 2.2 s of
CPU with it, 0.8 s without). A sample counts as moved to another
cluster when any member moves it there. The others get the point of the highest margin, or the first member's where a
stage measures every member on its own. A member is written "attack:option", as in "apgd:kl", "square:hard" and
"noise:sign"; every standard attack that learns nothing can be one, also of one's own: "./mine.py".
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, get_args

import torch

from robust_cluster import discover
from robust_cluster.attacks.base import Attack, Feedback, Surface
from robust_cluster.attacks.bounded import Best, BoundedAttack, BoundedConfig, Known, look
from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError, UnknownNameError, check_at_least

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"steps": 2, "queries": 5, "draws": 1, "rounds": 1},
    "cpu": {"steps": 50, "queries": 500, "draws": 30},
    "short": {"steps": 20, "queries": 200, "draws": 10},
}
MEMBERS = (
    *("apgd:margin", "apgd:targeted", "apgd:kl", "apgd:displacement"),
    *("square:soft", "square:hard", "noise:all", "surrogate:network"),
)
AIMED = tuple(member for member in MEMBERS if member != "apgd:displacement")  # with a target, which that cannot have


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of the ensemble and, where they have such a one, of its members."""

    members: tuple[str, ...] = MEMBERS  # attacks, or ./mine.py, one after the other, each on what has not flipped
    steps: int = 100  # of each run of a gradient attack
    restarts: int = 1  # of each gradient attack
    targets: int = 9  # clusters that "targeted" aims at, at most K - 1; AutoAttack's
    eot: int = 1  # forward passes of a gradient
    queries: int = 1000  # of Square, per sample
    draws: int = 100  # of each kind of noise
    rounds: int = 10  # of the surrogate

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "restarts", "targets", "eot", "queries", "draws", "rounds")
        check_at_least(0, self, "steps")
        if not self.members:
            raise ConfigError("an ensemble needs at least one member", hint="--set 'attack.members=[apgd:margin]'")
        if len(set(self.members)) < len(self.members):
            raise ConfigError(f"every member stands once, got {', '.join(self.members)}")
        for member in self.used:
            member_config(member, self)

    @property
    def used(self) -> tuple[str, ...]:
        """Its members; with a target, of those that it has by default the ones that can be aimed."""
        return AIMED if self.target is not None and self.members == MEMBERS else self.members


class Ensemble(BoundedAttack):
    """Members that know of each other only which samples are left; nothing is learned."""

    version: ClassVar[int] = 2
    aims: ClassVar[bool] = True
    config: Config

    @classmethod
    def check_data(cls, info: DataInfo, config: Any) -> None:
        """Refuse also what a member does not take. Raises: ConfigError."""
        super().check_data(info, config)
        for member in config.used:
            attack_of(member).check_data(info, member_config(member, config))

    def __init__(self, config: Config, surface: Surface) -> None:
        super().__init__(config, surface)
        names = config.used
        if config.source and not any(attack_of(name).borrows for name in names):
            names += tuple(name for name, kind in kinds().items() if kind.borrows)
        self.members = {name: attack_of(name)(member_config(name, config), surface) for name in names}
        levels, members = get_args(Feedback), self.members.values()
        self.feedback = min((member.feedback for member in members), key=levels.index)
        self.borrows = any(member.borrows for member in members)

    def borrow(self, attacker: Attack, surface: Surface) -> None:
        """Hand another run's attacker to the members that borrow. Raises: ConfigError where there is none."""
        if not self.borrows:
            super().borrow(attacker, surface)
        for member in self.members.values():
            if member.borrows:
                member.borrow(attacker, surface)

    def search(self, surface: Surface, known: Known) -> Views:
        """The worst points: members are asked in turn, each about the samples that hold out against those before."""
        best = Best(known, known.margin(known.log_y))
        for member in self.members.values():
            rows = best.open() if surface.bn == "eval" else torch.arange(len(known), device=known.labels.device)
            if not len(rows):
                break
            part, before = known.take(rows), member.queries
            point = self.budget.clip(part.point, member.search(surface, part))
            look(surface, part, rows, point, best)
            self.queries += len(part) + member.queries - before
        return best.point


@cache
def kinds() -> dict[str, type[BoundedAttack]]:
    """The attacks that can be members, by name: the standard ones that learn nothing and have no members."""
    found = {name: discover.method_class(module) for name, module in discover.loadable("attacks").items()}
    return {name: kind for name, kind in found.items() if kind.bounded and not kind.trained and kind is not Ensemble}


def attack_of(member: str) -> type[BoundedAttack]:
    """The attack of a member "attack:option". Raises: UnknownNameError, ConfigError for one that cannot be a member."""
    name = member.partition(":")[0]
    if ("attacks", name) in discover.own:
        module = discover.load("attacks", name)
        kind: type[BoundedAttack] = discover.method_class(module)
        if not (issubclass(kind, BoundedAttack) and issubclass(module.Config, BoundedConfig)) or kind.trained:
            raise ConfigError(
                f"the member {name} must be a BoundedAttack that learns nothing, with a BoundedConfig",
                hint="robust_cluster/attacks/noise.py is one",
            )
        return kind
    if name not in kinds():
        raise UnknownNameError("member", name, kinds())
    return kinds()[name]


def member_config(member: str, config: Config) -> Any:
    """The settings of a member, "attack:option": those that it shares with the ensemble, and its option.

    Raises: UnknownNameError for an attack that cannot be a member, ConfigError for an option that it does not have.
    """
    kind, (name, _, option) = attack_of(member), member.partition(":")
    if option and not kind.option:
        raise ConfigError(f"the member {name} has no option, got {member!r}")
    settings = discover.load("attacks", name).Config
    shared = {f.name: getattr(config, f.name) for f in fields(settings) if hasattr(config, f.name)}
    return settings(**shared | ({kind.option: option} if option else {}))
