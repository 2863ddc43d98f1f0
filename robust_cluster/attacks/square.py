"""Square: random search by the victim's answers alone (Andriushchenko et al., ECCV 2020), on soft or on hard labels.

A step moves a random square of every sample, whose side falls with the share of the query budget that is used, and is
kept where it helps. L-infinity: the square takes the value plus or minus eps in each channel, the start is vertical
stripes. L2: a pyramid takes over the norm that another square gives up and the norm that is unused (the paper's
Algorithm 3). In vectors and embeddings a square is a block of neighboring coordinates; with several views, they take
turns. feedback "soft" climbs the margin of log y. "hard" knows labels alone: like RayS (Chen and Gu, KDD 2020) it looks
for the nearest point of another cluster along its perturbation, outside the ball too, and keeps the squares that bring
that point nearer, until it is inside. It gives up a sample that came no nearer in 500 queries, in L2 where the point is
a quarter of the radius outside: it flips as many as without that rule, for half of the queries or fewer (DEC and ConvAE
of digits and mnist10k, 5,000 queries). Differs from the paper: a square that changes nothing has its signs turned over.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from robust_cluster.attacks.base import Feedback, Surface
from robust_cluster.attacks.bounded import (
    Best,
    BoundedAttack,
    BoundedConfig,
    Known,
    check_choice,
    column,
    cut,
    direction,
)
from robust_cluster.attacks.budget import Norm
from robust_cluster.data.base import Views
from robust_cluster.errors import check_at_least, check_share
from robust_cluster.nn.draws import Ahead, signs

PROFILES: dict[str, dict[str, Any]] = {"smoke": {"queries": 8}, "cpu": {"queries": 500}, "short": {"queries": 200}}
Labels = Literal["soft", "hard"]
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # steps of 10,000 at which the square's area halves
REACH = 2.0  # factor by which the hard-label search goes outwards until it meets another cluster
FARTHEST = 10  # such steps
BISECTIONS = 4  # after a square that brings the other cluster nearer
NEARER = 0.98  # of the present scale, at which a new square must keep the change of label
TILES = 5  # pyramids along each side of the first perturbation in L2
PATIENCE = 500  # queries without such a square, after which the search gives up a sample
FAR: dict[Norm | None, float] = {"linf": 1.0, "l2": 1.25}  # beyond this scale: in L2 it creeps in where it is near
QUERIES_A_STEP = 3  # about, of the hard-label search, bisections included; the schedule may not depend on the batch
TINY = 1e-12


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of the attack."""

    feedback: Labels = "soft"  # soft labels are read, or the label alone
    queries: int = 5000  # per sample, the clean point included; AutoAttack's
    first_area: float = 0.8  # share of the coordinates in the first squares; AutoAttack's

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("feedback", self.feedback, Labels)
        check_at_least(1, self, "queries")
        check_share(self, "first_area")


class Square(BoundedAttack):
    """Random search; nothing is learned and no gradient is read."""

    feedback: Feedback = "score"
    option: ClassVar[str] = "feedback"
    aims: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config, surface: Surface) -> None:
        super().__init__(config, surface)
        self.feedback = "score" if config.feedback == "soft" else "label"

    def search(self, surface: Surface, known: Known) -> Views:
        """The best points that the budget of queries finds, one of which has gone to the clean point."""
        best = Best(known, known.margin(known.log_y))
        rows = best.open()
        start = self.first(known)
        if self.config.queries > 1:
            (self.climb if self.config.feedback == "soft" else self.approach)(surface, known, rows, start, best)
        return best.point

    def climb(self, surface: Surface, known: Known, rows: Tensor, delta: Views, best: Best) -> None:
        """Random search on the margin: a step is kept where it raises it."""
        highest = torch.full_like(known.log_y[:, 0], -math.inf)
        draws, held = self.draws(known), known.point
        for step in range(self.config.queries - 1):
            proposed = self.proposed(known, delta, step - 1, step / self.config.queries, draws) if step else delta
            point = self.budget.clip(known.point, added(known.point, proposed))
            self.queries += len(known)
            labels, log_y = surface.model.answers(surface.latent(point))
            is_flipped, gain = known.is_moved(labels), known.margin(log_y)
            is_better = gain > highest
            pairs = zip(point, known.point, delta, strict=True)
            delta = tuple(torch.where(column(is_better, d), p - x, d) for p, x, d in pairs)
            held = tuple(torch.where(column(is_better, p), p, h) for p, h in zip(point, held, strict=True))
            highest = torch.where(is_better, gain, highest)
            if not is_flipped.any():
                continue
            best.offer(rows, point, gain, is_flipped)
            if surface.bn == "eval":
                stays = (~is_flipped).nonzero()[:, 0]
                known, rows, highest, delta = known.take(stays), rows[stays], highest[stays], cut(delta, stays)
                held = cut(held, stays)
                for drawn in draws:
                    drawn.cut(stays)
            if not len(rows):
                return
        best.offer(rows, held, highest, torch.zeros_like(rows, dtype=torch.bool))

    def approach(self, surface: Surface, known: Known, rows: Tensor, delta: Views, best: Best) -> None:
        """Random search on the scale of the perturbation at which the label changes; 1 is the edge of the ball."""
        count = torch.ones_like(rows)  # queries of each sample
        scale = torch.full_like(known.log_y[:, 0], math.inf)
        everyone = torch.arange(len(rows), device=rows.device)

        def changes(who: Tensor, moved: Views, scales: Tensor) -> Tensor:
            """Whether the samples numbered `who` change their cluster at `scales` times their perturbation."""
            count[who] += 1
            part, is_inside = known.take(who) if len(who) < len(known) else known, scales <= 1
            point = added(part.point, tuple(column(scales, d) * d for d in moved))
            inside = self.budget.clip(part.point, point)
            if self.budget.bounds is not None:
                point = tuple(view.clamp(*self.budget.bounds) for view in point)
            point = tuple(torch.where(column(is_inside, a), a, b) for a, b in zip(inside, point, strict=True))
            self.queries += len(part)
            is_flipped = part.is_moved(surface.model.labels(surface.latent(point)))
            if (is_found := is_flipped & is_inside).any():
                best.offer(rows[who], point, torch.full_like(scales, -math.inf), is_found)
            return is_flipped

        def bisect(who: Tensor, least: Tensor) -> None:
            """Halve the gap between a scale without a change and the one known to have it."""
            for _ in range(BISECTIONS):
                is_open = (scale[who] > 1) & (count[who] < self.config.queries)
                who, least = who[is_open], least[is_open]
                if not len(who):
                    return
                middle = ((least + scale[who]) / 2).clamp_min(1)
                is_changed = changes(who, cut(delta, who), middle)
                scale[who] = torch.where(is_changed, middle, scale[who])
                least = torch.where(is_changed, least, middle)

        for power in range(FARTHEST + 1):
            who = everyone[scale.isinf() & (count < self.config.queries)]
            if len(who):
                reach = torch.full_like(scale[who], REACH**power)
                scale[who] = torch.where(changes(who, cut(delta, who), reach), reach, scale[who])
        bisect(everyone[scale.isfinite()], (scale / REACH)[scale.isfinite()])
        draws = self.draws(known)
        last = count.clone()  # queries of each sample when it last came nearer
        for step in range(self.config.queries):
            is_hopeful = (scale <= FAR[self.budget.norm]) | (count - last < PATIENCE)
            stays = ((scale > 1) & (count < self.config.queries) & is_hopeful).nonzero()[:, 0]
            if not len(stays):
                return
            if len(stays) < len(rows):
                known, rows, delta = known.take(stays), rows[stays], cut(delta, stays)
                scale, count, last, everyone = scale[stays], count[stays], last[stays], everyone[: len(stays)]
                for drawn in draws:
                    drawn.cut(stays)
            proposed = self.proposed(known, delta, step, QUERIES_A_STEP * step / self.config.queries, draws)
            asked = torch.where(scale.isinf(), 1.0, (NEARER * scale).clamp_min(1))
            is_changed = changes(everyone, proposed, asked)
            delta = tuple(torch.where(column(is_changed, p), p, d) for p, d in zip(proposed, delta, strict=True))
            scale = torch.where(is_changed, asked, scale)
            bisect(everyone[is_changed], (scale / REACH)[is_changed])
            last = torch.where(is_changed, count, last)

    def first(self, known: Known) -> Views:
        """Where the search begins: stripes of plus and minus eps, or in L2 a grid of pyramids with random signs."""
        deltas = []
        for number, view in enumerate(known.point):
            channels, height, width = canvas(view)
            if self.budget.norm == "linf":
                drawn = signs(self.seed, known.index, (channels, 1, width), (0, number))
                delta = self.budget.radius(number) * drawn.expand(-1, -1, height, -1)
            else:
                tall, wide = max(height // TILES, 1), max(width // TILES, 1)
                row = torch.arange(height, device=view.device)
                col = torch.arange(width, device=view.device)
                counts = (channels, -(-height // tall), -(-width // wide))
                drawn = signs(self.seed, known.index, counts, (0, number))[:, :, row // tall][..., col // wide]
                hill = pyramid(tall, wide).to(view.device)[row % tall][:, col % wide]
                delta = self.budget.radius(number) * direction(drawn * hill, "l2")
            deltas.append(delta.reshape(view.shape).to(view.dtype))
        return tuple(deltas)

    def moving(self, step: int, count: int) -> int:
        """The number of the view, of `count`, whose turn it is."""
        moving = [number for number, radius in enumerate(self.budget.radii(count)) if radius > 0]
        return moving[step % len(moving)]

    def draws(self, known: Known) -> tuple[Ahead, Ahead]:
        """The places (n, 5) and, in [0, 1), the signs (n, channels, 1) of the squares of every step."""
        count, channels = len(known.point), max(canvas(view)[0] for view in known.point)
        places = Ahead(self.seed, known.index, (5,), lambda step: (1, step, self.moving(step, count)))
        return places, Ahead(self.seed, known.index, (channels, 1), lambda step: (2, step, self.moving(step, count)))

    def proposed(
        self, known: Known, delta: Views, step: int, used: float, draws: tuple[Ahead, Ahead] | None = None
    ) -> Views:
        """The perturbations with one square of one view drawn anew, after a share `used` of the queries."""
        places, turns = (drawn.at(step) for drawn in draws or self.draws(known))
        number = self.moving(step, len(delta))
        view = delta[number]
        channels, height, width = canvas(view)
        area = self.config.first_area / 2 ** sum(10_000 * used > halving for halving in HALVINGS)
        tall, wide = sides(area, height, width)
        turns = (1 - 2 * (turns[:, :channels] < 0.5).float()).to(view.dtype)
        flat = view.reshape(len(view), channels, height * width)
        radius = self.budget.radius(number)
        window = windows(places[:, :2], (tall, wide), (height, width)).expand(-1, channels, -1)
        old = flat.gather(2, window)
        if self.budget.norm == "linf":
            new = (radius * turns).expand_as(old)
            is_same = ((new - old).abs() <= 1e-6 * radius).all(dim=2).all(dim=1)
            moved = flat.scatter(2, window, torch.where(is_same[:, None, None], -new, new))
        else:
            other = windows(places[:, 2:4], (tall, wide), (height, width)).expand(-1, channels, -1)
            zeros = torch.zeros_like(old)
            rest = flat.scatter(2, window, zeros).scatter(2, other, zeros)
            hill = pyramid(tall, wide).to(old)
            turned = hill.T if tall == wide else hill
            hill = torch.where(places[:, 4, None] < 0.5, hill.flatten(), turned.flatten())[:, None]  # (m, 1, a b)
            new = turns * hill + old / old.norm(dim=2, keepdim=True).clamp_min(TINY)
            unused = (radius**2 - flat.square().sum(dim=(1, 2))).clamp_min(0)[:, None] / channels
            free = (flat.square().sum(dim=2) - rest.square().sum(dim=2)).clamp_min(0) + unused  # (m, c), squared norms
            new = new / new.norm(dim=2, keepdim=True).clamp_min(TINY) * free.sqrt()[:, :, None]
            moved = rest.scatter(2, window, new)
        return (*delta[:number], moved.view_as(view), *delta[number + 1 :])


def canvas(view: Tensor) -> tuple[int, int, int]:
    """Channels, height and width of views (n, ...): vectors are one line of pixels."""
    channels, height, width = view.shape[1:] if view.ndim == 4 else (1, 1, view[0].numel())
    return channels, height, width


def sides(area: float, height: int, width: int) -> tuple[int, int]:
    """Height and width of a square of a share `area` of the pixels, at least 1; of a vector a block of its values."""
    if height == 1:
        return 1, min(max(round(area * width), 1), width)
    side = min(max(round(math.sqrt(area * height * width)), 1), height, width)
    return side, side


def windows(places: Tensor, size: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
    """Pixels (m, 1, a b), counted along the rows of a canvas, of squares a x b at places (m, 2) from [0, 1)."""
    counts, offsets = (made.to(places.device) for made in spots(size, canvas))
    corners = (places * counts).long()
    return (corners[:, :1] * canvas[1] + corners[:, 1:] + offsets)[:, None]


@lru_cache(64)
def spots(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How many places (2,) a square has along either side of a canvas, and its pixels (a b,) at the first place."""
    (tall, wide), (height, width) = size, canvas
    counts = torch.tensor([height - tall + 1.0, width - wide + 1.0])
    return counts, (torch.arange(tall)[:, None] * width + torch.arange(wide)).flatten()


def pyramid(tall: int, wide: int) -> Tensor:
    """Two pyramids (a, b) side by side with opposite signs and one norm of 1 together: the paper's eta.

    Layer m from a pyramid's edge has the value sum_{k <= m} 1 / (M + 1 - k)^2, M the innermost. A single pixel is 1.
    """
    rows, cols = (tall, wide) if tall > 1 else (wide, tall)  # a vector is cut along its length
    half = rows // 2
    parts = [
        hill for count, sign in ((half, -1.0), (rows - half, 1.0)) if count for hill in [sign * mound(count, cols)]
    ]
    both = torch.cat(parts)
    both /= both.norm()
    return both if tall > 1 else both.T


def mound(rows: int, cols: int) -> Tensor:
    """One pyramid of positive values."""

    def depth(count: int) -> Tensor:
        steps = torch.arange(count)
        return torch.minimum(steps, count - 1 - steps)

    layer = torch.minimum(depth(rows)[:, None], depth(cols)[None]) if cols > 1 else depth(rows)[:, None]
    top = int(layer.max())
    values = torch.tensor([1 / (top + 1 - k) ** 2 for k in range(top + 1)]).cumsum(0)
    hill: Tensor = values[layer]
    return hill


def added(clean: Views, delta: Views) -> Views:
    """x + delta of every view."""
    return tuple(view + change for view, change in zip(clean, delta, strict=True))
