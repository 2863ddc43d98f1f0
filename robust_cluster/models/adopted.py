"""A clustering model that was trained elsewhere: any module or estimator that gives samples labels."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import Embedding, Phase
from robust_cluster.models.shallow.base import Shallow, ShallowConfig

PROBE = 64  # samples that a model is tried on
SUMS = 1e-3  # by how much a row of soft labels may miss the sum of 1


@runtime_checkable
class Estimator(Protocol):
    """Whatever labels an array (n, d) of samples, as scikit-learn's and ClustPy's estimators do."""

    def predict(self, x: Any) -> Any: ...


class Adopted(Shallow):
    """`given` as a model of ours: its embedding is the data, so that attacks move the data.

    A module gets the views and gives (n, K): soft labels, whose rows sum to 1, or logits, of which a softmax makes
    them. An estimator gives labels alone, so that gradients are 0 and only attacks that ask for labels find something.
    Raises: ConfigError for what gives neither, or not the same twice.
    """

    def __init__(self, given: nn.Module | Estimator, info: DataInfo) -> None:
        super().__init__(ShallowConfig(), info, sum(torch.Size(shape).numel() for shape in info.shapes))
        if not isinstance(given, nn.Module | Estimator):
            raise ConfigError(f"a model is a torch module or has predict, got {type(given).__name__}")
        self.module = given if isinstance(given, nn.Module) else None
        self.estimator = None if isinstance(given, nn.Module) else given
        self.has_logits = nn.Buffer(torch.tensor(False))

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Try the model on a few samples; nothing is trained. Raises: ConfigError."""
        self.eval()
        with torch.no_grad():
            probe = self.decode(embed().z[:PROBE])
            first, second = self._checked(probe), self._checked(probe)
        if not torch.equal(first.argmax(dim=1), second.argmax(dim=1)):
            changed = int((first.argmax(dim=1) != second.argmax(dim=1)).sum())
            raise ConfigError(
                f"the model gives {changed} of {len(first)} samples another label when it is asked again",
                hint="dropout or noise that eval() leaves on",
            )
        self.has_logits.fill_(self.module is not None and not sums_to_one(first))
        if self.has_logits and bool((first >= 0).all()) and bool((first <= 1).all()):
            row = float(first.sum(dim=1)[0])
            raise ConfigError(
                f"the model's rows are shares that do not sum to 1: the first sums to {row:.4g}",
                hint="give logits, or divide each row by its sum",
            )

    def health(self, embedding: Embedding) -> dict[str, float]:
        """That nothing was trained here."""
        return {"adopted": 1.0}

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) of the data z (n, d)."""
        found = self._output(self.decode(z))
        return found.softmax(dim=1) if self.has_logits else found

    def log_assign(self, z: Tensor) -> Tensor:
        """Their logarithms, of logits without rounding to 0."""
        return self._output(self.decode(z)).log_softmax(dim=1) if self.has_logits else super().log_assign(z)

    def labels(self, z: Tensor) -> Tensor:
        """The largest of its outputs (n,)."""
        return self._output(self.decode(z)).argmax(dim=1)

    def _output(self, views: Views) -> Tensor:
        if self.module is not None:
            found: Tensor = self.module(*views)
            return found
        assert self.estimator is not None
        x = torch.cat([view.flatten(1) for view in views], dim=1).detach().cpu().numpy()
        labels = torch.as_tensor(self.estimator.predict(x), device=views[0].device).long()
        flat_ground = sum(0 * view.flatten(1).sum(dim=1, keepdim=True) for view in views)  # gradients that are 0
        return F.one_hot(labels, self.info.n_clusters).to(views[0].dtype) + flat_ground

    def _checked(self, probe: Views) -> Tensor:
        """The output for a few samples. Raises: ConfigError for another shape, NaN, or labels beyond K."""
        n, K = len(probe[0]), self.info.n_clusters
        try:
            found = self._output(probe)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            shapes = ", ".join(str(tuple(view.shape)) for view in probe)
            raise ConfigError(f"the model fails on samples of shape {shapes}: {error}") from error
        if not isinstance(found, Tensor) or tuple(found.shape) != (n, K):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ConfigError(f"the model must give ({n}, {K}) for {n} samples and {K} clusters, got {shape}")
        if not bool(found.isfinite().all()):
            raise ConfigError("the model gives NaN or infinite values")
        return found


def sums_to_one(rows: Tensor) -> bool:
    """Whether rows (n, K) are soft labels."""
    return bool((rows >= 0).all()) and bool(((rows.sum(dim=1) - 1).abs() <= SUMS).all())
