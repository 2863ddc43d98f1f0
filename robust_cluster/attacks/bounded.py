"""What a standard attack is: it moves views or embeddings inside a norm ball that its config gives.

Here are its settings, its ball, what it knows of the samples and keeps of the points that it visits, and the climb that
the attacks with gradients share.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack, Gain, Space, Surface, rows_of
from robust_cluster.attacks.budget import Budget, Norm
from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.data.multiview import published
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import ClusterModel, Embedding, later
from robust_cluster.nn.draws import normal, uniform
from robust_cluster.nn.layers import BatchNormMode
from robust_cluster.nn.objectives import aimed, displacement, divergence, margin, nearest_others, targeted

Objective = Literal["margin", "kl", "displacement", "targeted"]

PUBLISHED_EPS = {"noisymnist": 0.3, "noisyfashion": 0.15, "patchedmnist": 0.3}  # pixels; AR-DMVC's code
OTHER_EPS = 0.1  # of RegDB too, for which none is published; our choice
AIMED = "margin, kl, targeted"  # objectives that lead to a cluster
CLEAR = 1e-3  # nats by which another cluster is behind so that no rounding of soft labels makes it the first


@dataclass(frozen=True)
class BoundedConfig:
    """What every standard attack has: its space, its ball and the views that it moves.

    In input space a radius is in pixels, i.e. a share of the range of valid values, or in the units of data without a
    range, as they were before they were scaled; in latent space it is in units of the embedding.
    """

    space: Space = "input"  # what is moved: the data, or their embedding
    norm: Norm | None = None  # with eps; the ball of every sample and view
    eps: float | None = None  # None, without a norm: L-infinity, AR-DMVC's radius for the data set, or 0.1
    curve: tuple[float, ...] = ()  # further, smaller radii that the stage measures
    rows: int = 1000  # evenly spaced samples that the stage attacks
    views: tuple[int, ...] = ()  # numbers from 0 of the views that are moved; []: all
    view_eps: tuple[float, ...] = ()  # a radius for each view in place of eps; 0 leaves a view as it is
    bn: BatchNormMode = "eval"  # batch norm of the model it meets: stored statistics, or each batch's
    source: str = ""  # key of the attack run whose points are transferred
    target: int | None = later(None)  # number from 0 of the cluster that samples are moved into; none: any other

    def __post_init__(self) -> None:
        for name, allowed in (("space", Space), ("norm", Norm), ("bn", BatchNormMode)):
            value = getattr(self, name)
            if value is not None:
                check_choice(name, value, allowed)
        radii = {"eps": (self.eps,) if self.eps is not None else (), "view_eps": self.view_eps, "curve": self.curve}
        for name, values in radii.items():
            if not all(0 <= value < math.inf for value in values):  # NaN too
                given = ", ".join(f"{value:g}" for value in values)
                raise ConfigError(f"{name} must be >= 0 and finite, got {given}")
        check_at_least(1, self, "rows")
        check_at_least(0, self, "views")
        if self.target is not None and self.bn == "batch":
            raise ConfigError(
                "an attack with attack.bn = batch cannot be aimed at a cluster", hint="leave out attack.bn"
            )
        if self.norm is None and (self.eps is not None or self.view_eps):
            given = "view_eps" if self.view_eps else f"eps {self.eps:g}"
            raise ConfigError(f"{given} means nothing without a norm", hint="--norm linf or --norm l2")
        if self.norm is not None and self.eps is None and not self.view_eps:
            raise ConfigError(f"the norm {self.norm} needs a radius", hint="--eps 0.1")
        if self.views and self.view_eps:
            raise ConfigError("views and view_eps both say which views move: give one of them")
        if self.eps is not None:
            check_curve(self.curve, self.eps)


@dataclass(frozen=True)
class GradientConfig(BoundedConfig):
    """What the attacks that follow a gradient share."""

    objective: Objective = "margin"  # what the steps raise, all of it label-free
    targets: int = 1  # clusters that "targeted" aims at one after the other, the likeliest on the clean point first
    restarts: int = 1  # on the samples that have not flipped yet
    random_start: bool = True  # uniform in the ball
    eot: int = 1  # forward passes that a gradient is the mean of, for models with randomness

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("objective", self.objective, Objective)
        check_at_least(1, self, "targets", "restarts", "eot")
        if self.objective in ("kl", "displacement") and not self.random_start:
            hint = "--set attack.random_start=true"
            message = f"{self.objective} has no gradient at the clean point, so it needs a random start"
            raise ConfigError(message, hint=hint)
        if self.objective == "displacement" and self.target is not None:
            raise ConfigError("displacement leads away from a point, so it cannot be aimed", hint=f"one of {AIMED}")


def check_mode(bn: BatchNormMode, surface: Surface) -> None:
    """Refuse a surface whose batch norm works in another way than the attack's config says. Raises: ConfigError."""
    if surface.bn != bn:
        hint = f"--set attack.bn={surface.bn}"
        raise ConfigError(f"the attack is configured for bn = {bn!r}, but its surface has {surface.bn!r}", hint=hint)


def check_choice(name: str, value: str, allowed: Any) -> None:
    """Refuse what is none of a Literal's values. Raises: ConfigError."""
    if value not in get_args(allowed):
        raise ConfigError(f"{name} must be one of {', '.join(get_args(allowed))}, got {value!r}")


def check_curve(curve: tuple[float, ...], eps: float) -> None:
    """Refuse a curve beyond the attack's own radius, which the scores are of. Raises: ConfigError."""
    if max(curve, default=0.0) > eps:
        message = f"eps must be the largest radius of the curve, {max(curve):g}, got {eps:g}"
        raise ConfigError(message, hint=f"--eps {max(curve):g}")


def at_radius(budget: Budget, eps: float) -> dict[str, Any]:
    """The settings that give an attack of this budget another radius, in pixels or units of the embedding."""
    return {"norm": budget.norm, "eps": eps, "curve": ()}


def pixel_radius(eps: float | None, info: DataInfo) -> float:
    """The radius, or where it is None that of AR-DMVC's code for the data set, 0.1 for others; in pixels."""
    return published(PUBLISHED_EPS, info.name, OTHER_EPS) if eps is None else eps


def bounded_budget(config: BoundedConfig, info: DataInfo) -> Budget:
    """The ball and the box of a standard attack in the units that the model sees; no box in latent space.

    Raises: ConfigError for views that the data do not have, for no radius where there is no default, and for a curve
    that goes beyond the default.
    """
    is_input = config.space == "input"
    unit, box, count = (info.unit, info.box, len(info.shapes)) if is_input else (1.0, None, 1)
    if not is_input and (config.views or config.view_eps):
        raise ConfigError("an embedding is one point: views and view_eps choose among the views, in input space")
    if config.view_eps:
        if len(config.view_eps) != count:
            raise ConfigError(f"view_eps must have one radius for each of {count} views, got {len(config.view_eps)}")
        radii = tuple(unit * radius for radius in config.view_eps)
        return Budget(config.norm, max(radii), box, radii)
    if any(view >= count for view in config.views):
        raise ConfigError(f"views must be in 0 to {count - 1}, got {', '.join(map(str, config.views))}")
    if config.eps is None and (not is_input or box is None):
        what = "an embedding has no range of values" if not is_input else f"values of {info.name} have no known range"
        raise ConfigError(f"{what}, so its radius has no default", hint="--norm l2 --eps 1")
    own = pixel_radius(config.eps, info)
    check_curve(config.curve, own)
    eps = unit * own
    chosen = tuple(eps if view in config.views else 0.0 for view in range(count)) if config.views else ()
    return Budget(config.norm or "linf", eps, box, chosen)


class Ball:
    """A budget around some clean points, whose bounds are computed once: for attacks that clip at every step."""

    def __init__(self, budget: Budget, clean: Views) -> None:
        self.budget, self.clean = budget, clean
        low, high = (-math.inf, math.inf) if budget.bounds is None else budget.bounds
        self.bounds: tuple[Views, Views] | None = None
        if budget.norm == "linf":
            pairs = list(zip(clean, budget.radii(len(clean)), strict=True))
            least = tuple((view - radius).clamp_min(low) if radius else view for view, radius in pairs)
            most = tuple((view + radius).clamp_max(high) if radius else view for view, radius in pairs)
            self.bounds = least, most

    def clip(self, moved: Views) -> Views:
        """The nearest allowed point to each moved view, as `Budget.clip` gives it up to rounding."""
        if self.bounds is None:
            return self.budget.clip(self.clean, moved)
        return tuple(torch.clamp(view, least, most) for view, least, most in zip(moved, *self.bounds, strict=True))

    def cut(self, rows: Tensor | None) -> None:
        """Keep some of the points; None keeps all."""
        self.clean = cut(self.clean, rows)
        if self.bounds is not None:
            self.bounds = cut(self.bounds[0], rows), cut(self.bounds[1], rows)


@dataclass(frozen=True)
class Known:
    """What an attack knows of n samples before it moves them; labels are the model's own on the clean point.

    `target`: the cluster that they are to be moved into, None for any other than their own.
    """

    point: Views
    embedding: Embedding
    labels: Tensor  # (n,)
    log_y: Tensor  # (n, K)
    index: Tensor  # (n,), rows of the data set
    target: int | None = None

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Tensor) -> "Known":
        """Some of the samples."""
        point, embedding = tuple(view[rows] for view in self.point), rows_of(self.embedding, rows)
        return Known(point, embedding, self.labels[rows], self.log_y[rows], self.index[rows], self.target)

    @property
    def goals(self) -> Tensor:
        """The cluster (n,) that each sample is to be moved into, where there is a target."""
        return torch.full_like(self.labels, self.target or 0)

    def margin(self, log_y: Tensor) -> Tensor:
        """The margin (n,) at moved points by their log y (n, K): above 0 once a sample is where it is to be."""
        return margin(log_y, self.labels) if self.target is None else aimed(log_y, self.goals)

    def is_moved(self, labels: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Whether samples, all or some `rows`, of these labels (m,) are where they are to be."""
        return labels != self.labels[rows] if self.target is None else labels == self.target


def known(surface: Surface, batch: Batch, target: int | None = None) -> Known:
    """The clean points of a batch, and what the model says of them."""
    embedding, model = surface.embedding(batch), surface.model
    if surface.space == "latent":
        embedding = Embedding(embedding.z, (embedding.z,))
    labels, log_y = model.answers(embedding.z)
    point = batch.views if surface.space == "input" else (embedding.z,)
    return Known(point, embedding, labels, log_y, batch.index, target)


class Best:
    """The best point so far of every sample of a batch: one in another cluster if there is any, else the highest gain.

    Where samples are to be moved into one cluster, it is that one.

    It begins with the clean points and their gain (n,), so that it is never worse than these.
    """

    def __init__(self, known: Known, gain: Tensor) -> None:
        self.point: Views = tuple(view.detach().clone() for view in known.point)
        self.gain = gain.detach().clone()
        self.is_flipped = torch.zeros_like(known.labels, dtype=torch.bool)

    def open(self) -> Tensor:
        """Numbers (m,) of the samples that are still in their clusters."""
        return (~self.is_flipped).nonzero()[:, 0]

    def offer(self, rows: Tensor, point: Views, gain: Tensor, is_flipped: Tensor) -> None:
        """Points of the samples `rows` (m,), with their gains (m,) and whether they changed cluster (m,)."""
        is_better = ~self.is_flipped[rows] & (is_flipped | (gain > self.gain[rows]))
        chosen = is_better.nonzero()[:, 0]
        if not len(chosen):
            return
        taken = rows[chosen]
        for held, view in zip(self.point, point, strict=True):
            held[taken] = view.detach()[chosen]
        self.gain[taken], self.is_flipped[taken] = gain.detach()[chosen], is_flipped[chosen]


def look(surface: Surface, known: Known, rows: Tensor, point: Views, best: Best) -> Tensor:
    """Whether each sample (n,) changes its cluster at a point, which is offered to `best` with its margin."""
    labels, log_y = surface.model.answers(surface.latent(point))
    is_flipped = known.is_moved(labels)
    best.offer(rows, point, known.margin(log_y), is_flipped)
    return is_flipped


class BoundedAttack(Attack):
    """A standard attack: for every sample the best point that it visited inside its budget.

    That is one whose hard label is not the clean one if any was visited, else the one of highest objective; never worse
    than the clean point, and the clean bits for a radius of 0. Random draws depend on the attack's seed (from torch's
    global generator at construction), the row of the data set and the number of the draw, never on the batch. Aimed at
    a cluster, it looks for a point in that one alone, and leaves the samples that are there already.
    """

    bounded: ClassVar[bool] = True
    option: ClassVar[str] = ""  # of its settings the one that an ensemble's member names: "attack:option"
    space: Space = "input"
    config: BoundedConfig

    def __init__(self, config: BoundedConfig, surface: Surface) -> None:
        info = surface.model.info
        self.check_model(type(surface.model))
        self.check_data(info, config)
        self.config = config
        self.space = config.space
        self.budget = bounded_budget(config, info)
        self.seed = int(torch.randint(2**62, ()))
        self.check_surface(surface)

    @classmethod
    def check_model(cls, model: type[ClusterModel]) -> None:
        """Refuse a method that labels no point which it was not fitted on. Raises: ConfigError."""
        model.check_new_points()

    @classmethod
    def check_data(cls, info: DataInfo, config: BoundedConfig) -> None:
        """Refuse one cluster alone, and a radius or views that the data do not have. Raises: ConfigError."""
        if info.n_clusters < 2:
            raise ConfigError(f"an attack moves samples to another cluster, so it needs 2, got K = {info.n_clusters}")
        if config.target is not None and not cls.aims:
            raise ConfigError(f"{cls.__module__.rpartition('.')[2]} cannot be aimed at a cluster", hint="--attack apgd")
        if config.target is not None and not 0 <= config.target < info.n_clusters:
            raise ConfigError(f"target must be in [0, K - 1] = [0, {info.n_clusters - 1}], got {config.target}")
        bounded_budget(config, info)

    def check_surface(self, surface: Surface) -> None:
        """Refuse a surface in another space or batch-norm mode than the attack's. Raises: ConfigError."""
        if surface.space != self.space:
            raise ConfigError(f"the attack moves points in {self.space} space, its surface is in {surface.space} space")
        check_mode(self.config.bn, surface)

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The best point of every sample. Raises: ConfigError for a surface of another space or batch-norm mode."""
        self.check_surface(surface)
        with torch.no_grad():
            point = surface.point(batch)
            if len(batch) == 0 or not any(self.budget.radii(len(point))):
                return tuple(view.detach() for view in point)
            self.queries += len(batch)
            found = known(surface, batch, self.config.target)
            if found.target is None:
                return self.search(surface, found)
            rows = (~found.is_moved(found.labels)).nonzero()[:, 0]
            moved = self.search(surface, found.take(rows)) if len(rows) else cut(point, rows)
            return tuple(view.detach().index_copy(0, rows, new) for view, new in zip(point, moved, strict=True))

    @abstractmethod
    def search(self, surface: Surface, known: Known) -> Views:
        """The best points; called without gradients, with a radius above 0 and at least one sample."""


@dataclass(frozen=True)
class Answer:
    """What the model says of m points: gains (m,), their gradients in every view, and who stays.

    `stays`: numbers of the samples asked about that did not flip, to which all of it is cut; None: all of them.
    """

    gain: Tensor
    gradients: Views
    stays: Tensor | None


class Ascent:
    """One climb of an objective: it asks the model about points and lets samples go that have changed their cluster.

    `objective`: a name, or a function of (model, clean embedding, moved embedding, clean labels). `goals` (n,): the
    clusters that "targeted" aims at. `moves`: whether each view moves. `best` gets every point that changes the label,
    of the samples `rows`; without it nobody leaves, nor where batch norm takes statistics of the batch.
    """

    def __init__(
        self,
        surface: Surface,
        known: Known,
        objective: Objective | Gain,
        *,
        moves: tuple[bool, ...],
        goals: Tensor | None = None,
        rows: Tensor | None = None,
        best: Best | None = None,
        eot: int = 1,
    ) -> None:
        self.surface, self.known, self.objective = surface, known, objective
        self.moves, self.goals, self.best, self.eot = moves, goals, best, eot
        self.rows = torch.arange(len(known), device=known.labels.device) if rows is None else rows
        self.queries = 0

    def gain(self, moved: Embedding) -> Tensor:
        """The objective (n,) of moved points by their embedding."""
        return self.judged(moved)[0]

    def judged(self, moved: Embedding) -> tuple[Tensor, Tensor | None]:
        """The objective (n,) and the margin (n,) of moved points, None where the objective needs no log y."""
        known, model = self.known, self.surface.model
        if callable(self.objective):
            return self.objective(model, known.embedding, moved, known.labels), None
        if self.objective == "displacement":
            representations = self.surface.representations
            return displacement(representations(known.embedding), representations(moved)), None
        log_y = model.log_assign(moved.z)
        own = known.margin(log_y)
        if self.objective == "kl":
            return self.divergence(log_y), own.detach()
        if self.goals is not None and self.objective == "targeted":
            return targeted(log_y, known.labels, self.goals), own.detach()
        return own, own.detach()

    def divergence(self, log_y: Tensor) -> Tensor:
        """KL(y || y~) (n,); aimed at cluster t -KL(e_t || y~) = log y~_t, the cross-entropy to t with its sign."""
        if self.known.target is None:
            return divergence(self.known.log_y, log_y)
        return log_y.gather(1, self.known.goals[:, None])[:, 0]

    def flips(self, z: Tensor, margins: Tensor | None) -> Tensor:
        """Whether hard labels of z (n, d) are where they are to be; the margin tells most that are not."""
        model, known = self.surface.model, self.known
        if margins is None or type(model).labels is not ClusterModel.labels:
            return known.is_moved(model.labels(z))
        is_flipped = margins > -CLEAR
        near = is_flipped.nonzero()[:, 0]
        if len(near):
            is_flipped[near] = known.is_moved(model.labels(z[near]), near)
        return is_flipped

    @torch.enable_grad()
    def ask(self, point: Views, *, gradient: bool = True) -> Answer:
        """Gains and, unless they are not wanted, gradients at the points of those that are left."""
        leaves = tuple(view.detach().requires_grad_(gradient) for view in point)
        moving = [leaf for leaf, does_move in zip(leaves, self.moves, strict=True) if does_move]
        gains, votes = [], torch.zeros_like(self.known.labels)
        sums: list[Tensor] = []
        for _ in range(self.eot):
            embedding = self.surface.embedding_of(leaves)
            gain, margins = self.judged(embedding)
            if gradient and moving:  # of the views only: the model's .grad is not touched
                found = torch.autograd.grad(gain.sum(), moving)
                sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else list(found)
            if self.best is not None:
                with torch.no_grad():
                    votes += self.flips(embedding.z.detach(), margins)
            gains.append(gain.detach())
        self.queries += self.eot * len(self.known)
        gain = gains[0] if self.eot == 1 else torch.stack(gains).mean(dim=0)
        means = iter(sums if self.eot == 1 else [total / self.eot for total in sums])
        pairs = zip(point, self.moves, strict=True)
        gradients = tuple(next(means) if m and gradient else torch.zeros_like(v) for v, m in pairs)
        return self.parted(point, gain, gradients, 2 * votes > self.eot)

    def parted(self, point: Views, gain: Tensor, gradients: Views, is_flipped: Tensor) -> Answer:
        """The answer, without those that have changed their cluster; these are kept."""
        if self.best is None or not is_flipped.any():
            return Answer(gain, gradients, None)
        self.best.offer(self.rows, point, torch.where(is_flipped, gain, -torch.inf), is_flipped)
        if self.surface.bn == "batch":
            return Answer(gain, gradients, None)
        stays = (~is_flipped).nonzero()[:, 0]
        self.known, self.rows = self.known.take(stays), self.rows[stays]
        self.goals = None if self.goals is None else self.goals[stays]
        return Answer(gain[stays], cut(gradients, stays), stays)

    def offer(self, point: Views, gain: Tensor) -> None:
        """Points of all that are left, which change no label, and their gains."""
        if self.best is not None:
            self.best.offer(self.rows, point, gain, torch.zeros_like(self.known.labels, dtype=torch.bool))


def cut(views: Views, rows: Tensor | None) -> Views:
    """Some rows of every view; all of them for None."""
    return views if rows is None else tuple(view[rows] for view in views)


def column(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,) in a shape (n, 1, ...) that multiplies a view (n, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def direction(gradient: Tensor, norm: Norm | None) -> Tensor:
    """The step of length 1 that climbs most: signs in L-infinity, each sample's gradient over its norm in L2."""
    if norm == "linf":
        return gradient.sign()
    return gradient / column(gradient.flatten(1).norm(dim=1).clamp_min(1e-12), gradient)


def draw_in_ball(known: Known, budget: Budget, seed: int, stream: tuple[int, ...]) -> Views:
    """A uniform draw from the ball around every view of every sample, inside the range of valid values."""
    moved = []
    for number, view in enumerate(known.point):
        radius, shape, own = budget.radius(number), view.shape[1:], (*stream, number)
        if budget.norm == "linf":
            delta = radius * (2 * uniform(seed, known.index, shape, own) - 1)
        else:
            length = uniform(seed, known.index, (), (*own, 1)) ** (1 / max(shape.numel(), 1))
            delta = direction(normal(seed, known.index, shape, own), "l2") * column(radius * length, view)
        moved.append(view + delta.to(view.dtype))
    return budget.clip(known.point, tuple(moved))


class GradientAttack(BoundedAttack):
    """A bounded attack that climbs an objective, again from other starts and to other targets while samples hold out.

    `gain`: another objective in place of the config's, f(model, clean embedding, moved embedding, clean labels), (n,)
    with each sample's own. Samples that flip leave, except where batch norm takes statistics of the batch.
    """

    option: ClassVar[str] = "objective"
    aims: ClassVar[bool] = True
    config: GradientConfig

    def __init__(self, config: GradientConfig, surface: Surface, *, gain: Gain | None = None) -> None:
        super().__init__(config, surface)
        self.objective: Objective | Gain = gain or config.objective

    def search(self, surface: Surface, known: Known) -> Views:
        """The best points over restarts and targets."""
        others = nearest_others(known.log_y, known.labels) if known.target is None else known.goals[:, None]
        moves = tuple(radius > 0 for radius in self.budget.radii(len(known.point)))
        best = Best(
            known, Ascent(surface, known, self.objective, moves=moves, goals=others[:, 0]).gain(known.embedding)
        )
        targets = min(self.config.targets, others.shape[1]) if self.objective == "targeted" else 1
        for run in (divmod(turn, targets) for turn in range(self.config.restarts * targets)):
            rows = best.open() if surface.bn == "eval" else torch.arange(len(known), device=known.labels.device)
            if not len(rows):
                break
            part = known.take(rows)
            start = draw_in_ball(part, self.budget, self.seed, run) if self.config.random_start else part.point
            ascent = Ascent(
                surface,
                part,
                self.objective,
                moves=moves,
                goals=others[rows, run[1]],
                rows=rows,
                best=best,
                eot=self.config.eot,
            )
            self.ascend(ascent, start)
            self.queries += ascent.queries
        return best.point

    @abstractmethod
    def ascend(self, ascent: Ascent, start: Views) -> None:
        """One run; the ascent keeps what flips and is offered the best of the rest."""
