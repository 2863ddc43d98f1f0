"""The verbs of the command line from Python: `cluster` arrays, then `attack`, `defend` and ask the model of the run.

>>> import numpy as np, robust_cluster
>>> x = np.random.default_rng(0).normal(size=(60, 4)) + np.repeat([[0.0], [9.0]], 30, axis=0)
>>> run = robust_cluster.cluster("kmeans", x, n_clusters=2)
>>> run.predict(x[:3]).tolist() == run.labels[:3].tolist()
True
>>> run.attack("ensemble", norm="linf", eps=0.1, profile="smoke").record["metrics"]["flip"]
0.0
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from robust_cluster.runs.spec import Normalize, Stage
    from robust_cluster.stages.chain import Plan, Request
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.predict import Prediction


@dataclass(frozen=True)
class Run:
    """A finished run: its `record` and its model. The runs directory is a temporary one unless one was given."""

    record: Mapping[str, Any]
    _plan: Plan = field(repr=False)
    _context: Context = field(repr=False)
    _folder: Any = field(repr=False)  # of a temporary runs directory, which lives as long as its runs

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._context.store.path(self._plan.asked)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The cluster (n,) of every sample that it was fitted on."""
        return self._asked(None).labels  # type: ignore[return-value]

    def predict(self, x: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The cluster (n,) of other samples (n, d) or (n, channels, height, width), scaled as the others were.

        Raises: ShapeError, DataError, ConfigError for a method that labels only the samples that it was fitted on.
        """
        return self._asked(x).labels  # type: ignore[return-value]

    def predict_soft(self, x: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The share of every cluster (n, K) in other samples. Raises: as `predict`."""
        return self._asked(x).soft_labels  # type: ignore[return-value]

    def embed(self, x: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The embedding (n, d) of other samples. Raises: as `predict`."""
        return self._asked(x).embedding  # type: ignore[return-value]

    def attack(
        self,
        attack: str = "latent_net",
        *,
        seed: int = 0,
        norm: str | None = None,
        eps: float | None = None,
        rows: int | None = None,
        target: int | None = None,
        profile: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Run:
        """An attack on the model: `rc attack`, or `rc reattack` of a defended one. `settings`: more of the attack's.

        `target`: the cluster that it moves samples into; `record["metrics"]["reached"]` is the share that it does.
        Raises: ConfigError, UnknownNameError.
        """
        stage: Stage = "reattack" if self._plan.asked.stage == "defend" else "attack"
        budget = {"norm": norm, "eps": eps, "rows": rows, "target": target}
        given = {name: value for name, value in budget.items() if value is not None} | dict(settings or {})
        chosen = {f"attack.{name}": value for name, value in given.items()}
        return self._next(
            stage,
            attack=attack,
            attack_seed=seed,
            profile=profile or self._plan.request.profile,
            **({"own": chosen} if stage == "reattack" else {"overrides": {**self._plan.request.overrides, **chosen}}),
        )

    def defend(self, defense: str = "mutual_info", *, settings: Mapping[str, Any] | None = None) -> Run:
        """The model defended against the attack of this run: `rc defend`. Raises: ConfigError, UnknownNameError."""
        chosen = {f"defense.{name}": value for name, value in (settings or {}).items()}
        return self._next("defend", defense=defense, overrides={**self._plan.request.overrides, **chosen})

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: with a temporary runs directory also the files of this run and of those before it."""
        store = self._context.store
        folders = [store.path(spec) for spec in self._plan.asked.lineage()] if self._folder is not None else []
        files = {
            str(path.relative_to(store.root)): path.read_bytes()
            for folder in folders
            for path in folder.iterdir()
            if not path.name.startswith(".")
        }
        return {"record": self.record, "_plan": self._plan, "_context": self._context, "files": files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A run in a temporary directory of its own, where it was pickled from one."""
        files, context, folder = state.pop("files"), state["_context"], None
        if files:
            folder = tempfile.TemporaryDirectory()
            for name, content in files.items():
                path = Path(folder.name, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            context.store = replace(context.store, root=Path(folder.name))
        for name, value in {**state, "_folder": folder}.items():
            object.__setattr__(self, name, value)

    def _next(self, stage: Stage, **fields: Any) -> Run:
        return _made(replace(self._plan.request, stage=stage, **fields), self._context, self._folder)

    def _asked(self, x: npt.ArrayLike | None) -> Prediction:
        import numpy as np

        from robust_cluster.data.prepare import more_rows
        from robust_cluster.errors import ConfigError
        from robust_cluster.stages.predict import is_transductive, model_of, predict

        spec, context = model_of(self._plan.asked), self._context
        if x is not None:
            if is_transductive(spec):
                raise ConfigError(f"{spec.model} labels only the samples that it was fitted on", hint="run.labels")
            with tempfile.TemporaryDirectory() as folder:
                np.save(path := Path(folder, "x.npy"), np.asarray(x, np.float32))
                dataset = more_rows(spec.data, self.record["data"], path)
            context = replace(context, dataset=dataset)
        return predict(spec, context)


def cluster(
    model: str,
    x: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    *,
    n_clusters: int | None = None,
    latent_dim: int = 64,
    seed: int = 0,
    normalize: Normalize = "none",
    profile: str = "paper",
    settings: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    runs_dir: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Run:
    """A model trained on x: `rc cluster`, after its pretraining where it has one.

    model: a name of `rc ls models`, or a file of your own. x: (n, d) vectors or (n, channels, height, width) images in
    [0, 1]; y: (n,) classes, for scores alone. settings: the model's, e.g. {"pretrain.epochs": 5}.
    weights: a file of weights of your own, in place of the pretraining's training.
    runs_dir: where the run is kept, and resumed from by the same call; without it, for as long as the result lives.
    Raises: ConfigError, UnknownNameError, DataError, ShapeError.
    """
    import numpy as np

    from robust_cluster.data.base import Folders
    from robust_cluster.data.prepare import load
    from robust_cluster.runs.spec import DataRef
    from robust_cluster.runs.store import RunStore
    from robust_cluster.stages.chain import Request
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.own import adopt
    from robust_cluster.stages.weights import read

    own = None if weights is None else read(Path(weights))
    kept = tempfile.TemporaryDirectory() if runs_dir is None else None
    name = adopt("models", Path(model)) if model.endswith(".py") else model
    ref = DataRef("given", n_clusters=n_clusters, normalize=normalize)
    with tempfile.TemporaryDirectory() as folder:
        arrays = {"x": np.asarray(x, np.float32)} | ({} if y is None else {"y": np.asarray(y)})
        np.savez(path := Path(folder, "given.npz"), **arrays)
        dataset = load(ref, Folders(downloads=False), path=path, fresh=True)
    chosen = {f"model.{key}": value for key, value in (settings or {}).items()}
    store = RunStore(Path(kept.name if kept is not None else str(runs_dir)))
    context = Context(store, dataset, profile, device, threads, overrides=chosen, weights=own)
    request = Request("cluster", dataset.ref, name, latent_dim, seed, profile=profile, overrides=chosen)
    if own is not None:
        request = replace(request, weights=own.sha256)
    return _made(request, context, kept)


def _made(request: Request, context: Context, folder: Any) -> Run:
    """The run of a request, and before it those that it needs."""
    from robust_cluster.stages.chain import Plan, execute

    plan = Plan(request, context.info)
    own = replace(context, profile=request.profile, overrides=request.overrides)
    return Run(execute(plan.runs, own)[-1], plan, context, folder)
