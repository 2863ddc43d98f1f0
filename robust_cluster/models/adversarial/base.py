"""What the adversarial methods share beside the networks of `nn`: batches that estimate a distribution."""

from dataclasses import dataclass

from robust_cluster.models.schedule import Schedule


@dataclass(frozen=True)
class SampleSchedule(Schedule):
    """A schedule whose batches are samples to estimate from: `batch_size` rows of small data sets too, or all rows."""

    def batch(self, n_samples: int) -> int:
        """Rows per batch: `batch_size`, or the whole data set if that is smaller."""
        return max(1, min(self.batch_size, n_samples))
