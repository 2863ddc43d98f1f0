"""How long the phases of a method train, and in what portions."""

from dataclasses import dataclass

from robust_cluster.errors import check_at_least, check_positive, check_share


@dataclass(frozen=True)
class Schedule:
    """How long and in what portions one phase trains.

    An epoch is one pass over the shuffled data, or, with `steps_per_epoch`, that many independent draws of a batch.
    Training ends after `epochs`, or when the mean loss of the last `window` epochs is less than `tolerance` (relative)
    below that of the `window` epochs before it; `window` 0 never ends early. No rule reads labels.
    """

    epochs: int = 50  # at most; 0: no training
    batch_size: int = 256  # samples
    steps_per_epoch: int | None = None  # draws of a batch in an epoch; None: one pass over the data
    window: int = 0  # epochs whose mean loss is compared with that of as many before; 0: never ends early
    tolerance: float = 1e-3  # relative improvement below which that comparison ends the phase
    lr: float = 1e-3  # step size of the phase's optimizers, where they have none of their own

    def __post_init__(self) -> None:
        check_at_least(0, self, "epochs", "window", "tolerance")
        check_at_least(1, self, "batch_size", "steps_per_epoch")
        check_positive(self, "lr")

    def lr_ratio(self, epoch: int) -> float:
        """What every learning rate is multiplied by before epoch 1, 2, ...; 1 here: `StepwiseSchedule` lowers it."""
        return 1.0

    def batch(self, n_samples: int) -> int:
        """Samples per batch for a data set of `n_samples`: `batch_size`, or a fifth of the data if that is smaller."""
        return max(1, min(self.batch_size, n_samples // 5))


@dataclass(frozen=True)
class StepwiseSchedule(Schedule):
    """A schedule whose learning rates fall: lr * lr_decay^floor(epoch / lr_epochs), epochs counted from 1."""

    lr_decay: float = 1.0  # what lr is multiplied by, in (0, 1]
    lr_epochs: int = 10  # after each of which many epochs

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "lr_epochs")
        check_share(self, "lr_decay")

    def lr_ratio(self, epoch: int) -> float:
        """`lr_decay` before every epoch whose number `lr_epochs` divides, else 1."""
        return self.lr_decay if epoch % self.lr_epochs == 0 else 1.0
