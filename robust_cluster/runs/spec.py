"""What one run is: strings and numbers only, no torch. Two runs with equal specs have equal numbers and one key."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

Stage = Literal["pretrain", "cluster", "attack", "defend", "reattack", "certify"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Precision = Literal["highest", "medium", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Normalize = Literal["alrdc", "adec", "none", "standard", "minmax"]
LATEST = ("id_column", "drop", "no_header", "noise_label")  # fields of DataRef that older prepared copies do not know
LATER = ("split", "size", "subset", "label_column", "text_column", *LATEST)  # that stand in a run's key only when used
UNDEFENDED = "none"  # as the defense of a certify run: certify the model as it was clustered


@dataclass(frozen=True)
class DataRef:
    """A data set as the user names it, with the choices that change its numbers.

    `limit`: rows of a class-balanced seeded subset, None for all. `flatten`: images become vectors.
    `normalize`: scaling of vectors by one constant: mean ||x||^2 becomes 88 ("alrdc") or d ("adec"); by column: mean 0
    and variance 1 ("standard"), or values from 0 to 1 ("minmax").
    `n_clusters`: given where there are no labels. Paths are not part of it.
    `split`: "halves" trains models on one half and attacks the other, "N/M" trains on the first N rows and attacks the
    last M; "none", like None, uses all rows for both.
    `size`: pixels a side of images; a folder's are resized to it, others pooled. `subset`: the classes that are kept.
    `label_column`, `text_column`: of a user's table or corpus. `id_column`, `drop`, `no_header`: of a user's table.
    `noise_label`: of samples that belong to no class; they are not scored.
    """

    name: str
    limit: int | None = None
    flatten: bool = False
    normalize: Normalize = "alrdc"
    n_clusters: int | None = None
    split: str | None = None
    size: int | None = None
    subset: str | None = None
    label_column: str | None = None
    text_column: str | None = None
    id_column: str | None = None
    drop: str | None = None
    no_header: bool = False
    noise_label: str | None = None

    @property
    def label(self) -> str:
        """A short name for folders and tables: `mnist10k-vector`, `fashion-mnist-10000`, `mnist-50000+10000`."""
        parts = [
            self.name.replace(":", "-"),
            f"only-{re.sub(r'[^A-Za-z0-9]+', '.', self.subset)[:40]}" if self.subset else "",
            f"{self.size}px" if self.size else "",
            "vector" if self.flatten else "",
            str(self.limit) if self.limit else "",
            self.split.replace("/", "+") if self.split and "/" in self.split else "",
        ]
        return "-".join(part for part in parts if part)

    def decided_split(self, n_views: int) -> str | None:
        """The split of data of so many views: where it is left open, halves for several (AR-DMVC), none for one."""
        return "halves" if self.split is None and n_views > 1 else self.split


@dataclass(frozen=True)
class RunSpec:
    """One stage of one experiment: every field that changes a number, and none that does not.

    `settings`: the resolved hyper-parameters of this stage, plain JSON, e.g. {"model": {...}} or {"attack": {...}}.
    `versions`: method name -> its `version`; raising a version gives every later run a new key.
    `precision`: "medium" allows reduced float32 products in gradients, "highest" does not; "bf16" has bfloat16 layers
    in every training step of a pretraining or a clustering, the only stages with it. Scores never have any of them.
    `parent`: the run whose checkpoint this one starts from; its whole spec is inside.
    `packages`: what its methods of installed packages are, "models/mine" -> "my-package 1.2 SHA-256".
    `weights`: SHA-256 of the file that a pretraining takes its weights from, None where it trains.
    """

    stage: Stage
    data: DataRef
    data_sha256: str
    model: str
    latent_dim: int
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    precision: Precision = "medium"
    attack: str | None = None
    attack_seed: int | None = None
    defense: str | None = None
    parent: "RunSpec | None" = None
    packages: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None

    @cached_property
    def key(self) -> str:
        """12 hexadecimal digits: SHA-256 of the canonical JSON, the parent standing in by its own key."""
        content = self.to_json()
        content["parent"] = self.parent.key if self.parent else None
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def directory(self) -> str:
        """The run's folder below the runs directory: `<stage>/<model>-<data>-d<dim>-s<seed>-<key>`."""
        return f"{self.stage}/{self.model}-{self.data.label}-d{self.latent_dim}-s{self.seed}-{self.key}"

    def lineage(self) -> Iterator["RunSpec"]:
        """The run and its ancestors, youngest first."""
        spec: RunSpec | None = self
        while spec is not None:
            yield spec
            spec = spec.parent

    def ancestor(self, stage: Stage) -> "RunSpec":
        """The nearest run of `stage` in the lineage. Raises: LookupError when there is none."""
        for spec in self.lineage():
            if spec.stage == stage:
                return spec
        raise LookupError(f"{self.directory} has no {stage} run before it")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON content, the parent's included. Fields that came later stand there only when used."""
        content = asdict(self)
        run: dict[str, Any] | None = content
        while run is not None:
            for name in LATER:
                if run["data"][name] in (None, False):
                    del run["data"][name]
            for name in ("packages", "weights"):
                if not run[name]:
                    del run[name]
            run = run["parent"]
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunSpec":
        """The spec that `to_json` wrote. Raises: TypeError for unknown or missing fields."""
        fields = dict(content)
        fields["data"] = DataRef(**fields["data"])
        fields["parent"] = cls.from_json(fields["parent"]) if fields.get("parent") else None
        return cls(**fields)
