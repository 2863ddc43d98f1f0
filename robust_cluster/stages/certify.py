"""Certify: how far each point may move in L2 before the smoothed model can change its cluster (Cohen et al. 2019).

The frozen model f labels many noisy copies of each point; the smoothed model takes the most frequent cluster, and a
lower confidence bound of its share gives a radius that no attack inside it can break (metrics/certificate). Labels of
the data are read for the certified ACC alone. The certificate is of the smoothed model, not of f, and not of a fit made
anew. Several views are one point: the radius is of the L2 norm over all of them.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robust_cluster.attacks.base import Space, Surface
from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.scores import SHARE, Metrics, batch_of, characters, known, labeled, spaced
from robust_cluster.metrics.accuracy import match
from robust_cluster.metrics.certificate import (
    ABSTAINED,
    Certificates,
    Flags,
    Floats,
    certified_share,
    certify,
    check_draws,
    radius_cap,
)
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import generator, seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import Run
from robust_cluster.stages import settings
from robust_cluster.stages.cluster import describe_model
from robust_cluster.stages.context import Context, fingerprint, frozen_surface, record

VERSION = 2  # of everything below; raise it when the numbers change
VALUES = 2**19  # random numbers drawn at once, about: 2 MB
CURVE = 51  # radii of the curve
MULTIPLES = (0.5, 1.0, 1.5, 2.0)  # of sigma: radii at which the record has the certified shares by name
LISTED = 2000  # most rows that a record lists one by one
DECIMALS = 5  # of a listed radius, which is rounded down: it stays certified

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Config:
    """What is certified, and with how many draws. A certificate is wrong with probability <= alpha, for each point."""

    space: Space = "input"
    sigma: float = 0.25  # of the noise; input: share of the range of valid values, latent: units of the embedding
    samples: int = 10_000  # n, draws that bound the top cluster's probability; Cohen et al.: 100,000
    n0: int = 100  # draws before these that choose the top cluster
    alpha: float = 0.001
    rows: int = 1000  # most points, evenly spaced

    def __post_init__(self) -> None:
        check_at_least(1, self, "n0", "rows")
        check_draws(self.samples, self.alpha, self.sigma)


PROFILES: dict[str, dict[str, Any]] = {"smoke": {"samples": 1000, "rows": 200}}


def certify_model(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
    """The record of a certify run: shares certified by radius, and each point's radius and smoothed label."""
    if spec.parent is None:
        raise ConfigError("a certificate needs a trained model before it")
    context = context.part(2)
    config = settings.build(Config, spec.settings["certify"], "certify")
    if config.space == "input" and context.info.box is None:
        context.progress.note(f"{context.info.name} has no known range of values: sigma is in the units of the data")
    began = time.monotonic()
    with precision("highest"):
        model = context.trained_model(spec.parent)
        description = describe_model(model, context)
        before = fingerprint(model)
        surface = frozen_surface(model, config.space, None)
        rows = labeled(spaced(context.info.n_samples, config.rows), context.labels)
        seed = seed_for(spec.seed, "certify", spec.key)
        found = certificates(surface, context, rows, config=config, seed=seed)
        every = Rows(surface, context.placed).clean.labels
        is_unchanged = fingerprint(model) == before
    clean = every[rows.numpy()]
    stable, right, truth, accuracy = found.labels == clean, None, None, None
    if context.labels is not None:
        truth = context.labels[rows.numpy()]
        mapping = match(*known(context.labels, every), n_clusters=context.info.n_clusters)
        right = has_class(found.labels, mapping, truth)
        accuracy = float(has_class(clean, mapping, truth).mean())
    cap = radius_cap(config.samples, alpha=config.alpha, sigma=config.sigma)
    shares = measured(found, stable, right, config=config)
    health = smoothed_health(found, clean, context.info.n_clusters)
    named = {
        "smoothing loses clusters": health["smoothed_clusters_used"] < health["clusters_used_rows"],
        "victim changed": not is_unchanged,
    }
    return {
        **record(context, spec, None),
        "metrics": description["metrics"] | shares | {"ACC_rows": accuracy, "radius_cap": cap},
        "certified": {
            "sigma": config.sigma,
            "sigma_model": config.sigma * noise_unit(config, context.info),
            "n": config.samples,
            "n0": config.n0,
            "alpha": config.alpha,
            "seed": seed,
            "space": config.space,
            "rows": len(rows),
            "radius_cap": cap,
            **curve(found, stable, right, cap=cap),
            "seconds": time.monotonic() - began,
        },
        "samples": listed(found, clean, truth),
        "health": description["health"] | health,
        "checks": {
            "victim_unchanged": is_unchanged,
            "radius_cap_holds": bool((found.radius <= cap * (1 + 1e-9)).all()),
        },
        "flags": [*description["flags"], *(name for name, holds in named.items() if holds)],
    }


def noise_unit(config: Config, info: DataInfo) -> float:
    """What sigma 1 is in the units that the model sees: see `DataInfo.unit`; 1 for an embedding."""
    return info.unit if config.space == "input" else 1.0


def certificates(surface: Surface, context: Context, rows: Tensor, *, config: Config, seed: int) -> Certificates:
    """The certificates of some rows (m,) of the data.

    Each row has noise of its own, whatever other rows are certified.
    """
    batch = batch_of(context.views, rows.to(context.torch_device))
    with torch.no_grad():
        points = surface.point(batch)
    sigma = config.sigma * noise_unit(config, context.info)
    top, counts = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    title = f"certify {type(surface.model).__name__}, {config.samples:,} draws a point"
    context.progress.start(title, len(rows), 0, unit="point")
    try:
        for i, row in enumerate(rows.tolist()):
            point = tuple(part[i : i + 1] for part in points)
            random = generator(seed_for(seed, row))
            first = cluster_counts(surface, point, config.n0, sigma=sigma, random=random)
            fresh = cluster_counts(surface, point, config.samples, sigma=sigma, random=random)
            top[i] = int(first.argmax())
            counts[i] = int(fresh[top[i]])
            context.progress.epoch(i + 1, {"top cluster's share": counts[i] / config.samples})
    finally:
        context.progress.stop()
    return certify(top, counts, config.samples, alpha=config.alpha, sigma=config.sigma)


def cluster_counts(surface: Surface, point: Views, n: int, *, sigma: float, random: torch.Generator) -> Tensor:
    """How many of `n` noisy copies of one point fall into each cluster, (K,).

    Shapes: each part of the point (1, ...). The noise is drawn on the CPU, so that it is the same on every device.
    """
    portion = max(1, VALUES // sum(part.numel() for part in point))
    total = torch.zeros(surface.model.info.n_clusters, dtype=torch.int64, device=point[0].device)
    with torch.no_grad():
        for done in range(0, n, portion):
            size = min(portion, n - done)
            noisy = tuple(
                part + sigma * torch.randn((size, *part.shape[1:]), generator=random).to(part.device) for part in point
            )
            total += torch.bincount(surface.labels(noisy), minlength=len(total))
    return total.cpu()


def has_class(labels: Ints, mapping: Ints, truth: Ints) -> Flags:
    """(m,), whether a label's class under a mapping (K,) is the true one; a label -1 has none."""
    return np.asarray((labels != ABSTAINED) & (mapping[labels] == truth))


def measured(found: Certificates, stable: Flags, right: Flags | None, *, config: Config) -> Metrics:
    """The headline figures, shares in [0, 1], radii in the units of sigma.

    `certified_share`: not abstained, and the smoothed label is the model's own (`stable`); `_at_1s` at a radius of one
    sigma or more. `mean_radius` and `median_radius` count a point as 0 where that is not so. `ACC_certified`: not
    abstained, and right under the clean matching (`right`); beside it stands ACC_rows, the model's own on these rows.
    """
    radius = np.where(stable, found.radius, 0.0)
    radii = [0.0, *(multiple * config.sigma for multiple in MULTIPLES)]
    named = ["", *(f"_at_{multiple:g}s" for multiple in MULTIPLES)]
    shares = certified_share(found, stable, radii).tolist()
    accuracies = [None] * len(radii) if right is None else certified_share(found, right, radii).tolist()
    return {
        "abstained": float(found.abstained.mean()),
        "mean_radius": float(radius.mean()),
        "median_radius": float(np.median(radius)),
        "samples": len(radius),
        **{f"certified_share{name}": value for name, value in zip(named, shares, strict=True)},
        **{f"ACC_certified{name}": value for name, value in zip(named, accuracies, strict=True)},
    }


def curve(found: Certificates, stable: Flags, right: Flags | None, *, cap: float) -> dict[str, list[float] | None]:
    """Evenly spaced radii from 0 to the largest possible, the certified share and the certified ACC at each."""
    radii = rounded_down(np.linspace(0, cap, CURVE))
    return {
        "radii": radii.tolist(),
        "share": certified_share(found, stable, radii).round(6).tolist(),
        "ACC": None if right is None else certified_share(found, right, radii).round(6).tolist(),
    }


def rounded_down(radius: Floats) -> Floats:
    """Radii with five decimals, none above what is certified."""
    return np.asarray(np.floor(radius * 10**DECIMALS) / 10**DECIMALS)


def listed(found: Certificates, clean: Ints, truth: Ints | None) -> dict[str, Any] | None:
    """Each point's clean and smoothed label (a character; "-" where abstained), class, and radius rounded down.

    None for more than 2,000 points or 36 clusters.
    """
    largest = max(int(part.max()) for part in (clean, found.labels, *([] if truth is None else [truth])))
    if len(clean) > LISTED or largest >= 36:
        return None
    return {
        "rows": len(clean),
        "truth": None if truth is None else characters(truth),
        "clean": characters(clean),
        "smoothed": characters(found.labels),
        "radius": rounded_down(found.radius).tolist(),
    }


def smoothed_health(found: Certificates, clean: Ints, n_clusters: int) -> dict[str, Any]:
    """Label-free: cluster sizes of the smoothed model, and how many clusters it and the model itself use on these rows.

    A model that puts everything into one cluster is certified everywhere, and useless.
    """
    sizes = np.bincount(found.labels[~found.abstained], minlength=n_clusters)
    least = max(1.0, SHARE * len(clean))
    return {
        "smoothed_sizes": sizes.tolist(),
        "smoothed_clusters_used": int((sizes >= least).sum()),
        "clusters_used_rows": int((np.bincount(clean, minlength=n_clusters) >= least).sum()),
    }
