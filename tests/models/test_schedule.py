"""How long a phase trains, in what portions."""

import pytest

from robust_cluster.errors import ConfigError
from robust_cluster.models.schedule import Schedule, StepwiseSchedule


def test_a_batch_is_never_more_than_a_fifth_of_the_data_and_never_empty() -> None:
    schedule = Schedule(batch_size=256)
    assert [schedule.batch(n) for n in (10_000, 1000, 4)] == [256, 200, 1]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": -1}, "epochs must be >= 0, got -1"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be >= 1, got 0"),
        ({"lr": 0.0}, "lr must be > 0, got 0.0"),
        ({"window": -1}, "window must be >= 0, got -1"),
        ({"lr_decay": 1.5}, r"lr_decay must be in \(0, 1\], got 1.5"),
    ],
)
def test_a_schedule_that_cannot_train_is_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        StepwiseSchedule(**values)  # type: ignore[arg-type]
