"""A model that was trained elsewhere as a finished clustering, from which attacks, audits and certificates go on."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_cluster.data import prepare
from robust_cluster.data.base import DataInfo, Dataset, Raw
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.adopted import Adopted, Estimator
from robust_cluster.models.base import ClusterModel
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import chain, device, methods
from robust_cluster.stages.cluster import describe_model
from robust_cluster.stages.context import Context, record

NAME = "adopted"  # as a run's model


class Adoption(Context):
    """A context whose only model is one that was given."""

    given: nn.Module | Estimator

    def new_model(self, spec: RunSpec) -> ClusterModel:
        """The model that was given."""
        return Adopted(self.given, self.info).to(self.torch_device)

    def attacked(self, attack: str, settings: Mapping[str, Any], profile: str, seed: int) -> dict[str, Any]:
        """The record of an attack on the model, which is recorded first. Raises: ConfigError."""
        ref, sha256 = self.dataset.ref, self.info.sha256
        parent = RunSpec("cluster", ref, sha256, NAME, 1, seed, settings={"model": {}}, precision="highest")
        with self.store.own(parent) as run:
            model = self.new_model(parent)
            model.start("cluster", lambda: embed(model, self.views), seed)
            run.save_model(model.state_dict())
            run.finish({**record(self, parent, None), **describe_model(model, self)})
        attacker = methods.method_of("attacks", attack, profile, settings)
        attacker.cls.check_data(self.info, attacker.config)
        spec = RunSpec(
            "attack", ref, sha256, NAME, 1, seed,
            settings={"attack": attacker.settings},
            versions={attack: attacker.version, **chain.measured(attack, attacker.settings)},
            precision="highest", attack=attack, attack_seed=0, parent=parent,
        )  # fmt: skip
        return chain.carry_out(spec, self)


def adopt(given: nn.Module | Estimator, x: Any, y: Any, n_clusters: int | None, root: Path, where: str) -> Adoption:
    """The context of a model and its data. Raises: ConfigError, DataError, ShapeError."""
    given = copy.deepcopy(given) if isinstance(given, nn.Module) else given  # eval() and the device are not its owner's
    values = np.ascontiguousarray(torch.as_tensor(x).detach().cpu().numpy(), dtype=np.float32)
    classes = None if y is None else np.asarray(y)
    raw = Raw((values,), classes, values.ndim > 2, "given")
    prepare.check("x", raw)
    if raw.image:
        values = prepare.pixels("x", values)
    labels = None if classes is None else np.unique(classes, return_inverse=True)[1].astype(np.int64)
    K = n_clusters or width(given, torch.from_numpy(values[:2]).to(device.choose(where)))
    info = DataInfo(
        name="given",
        shapes=(values.shape[1:],),
        n_samples=len(values),
        n_clusters=K,
        bounds=(0.0, 1.0) if raw.image else None,
        scale=1.0,
        sha256=prepare.digest([values], labels),
        mean_square=float(np.square(values, dtype=np.float64).mean()),
    )
    ref = DataRef("given", n_clusters=K, normalize="none", split="none")
    dataset = Dataset(ref, info, (torch.from_numpy(values),), labels, "given")
    context = Adoption(RunStore(root), dataset, device=where)
    context.given = given
    return context


def width(given: nn.Module | Estimator, probe: torch.Tensor) -> int:
    """How many clusters a model has. Raises: ConfigError where it does not say."""
    if not isinstance(given, nn.Module):
        known = getattr(given, "n_clusters", None) or getattr(given, "n_components", None)
        if not known:
            raise ConfigError("the estimator does not say how many clusters it has", hint="n_clusters=K")
        return int(known)
    try:
        with torch.no_grad():
            found = given.to(probe.device).eval()(probe)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"the model fails on samples of shape {tuple(probe.shape)}: {error}") from error
    if not isinstance(found, torch.Tensor) or found.ndim != 2:
        raise ConfigError(f"the model must give (n, K), got {getattr(found, 'shape', type(found).__name__)}")
    return int(found.shape[1])
