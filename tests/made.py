"""What a made-up record has beside its key and spec: all that a run's record must have."""

from typing import Any

MADE: dict[str, Any] = {
    "profile": "cpu",
    "overrides": {},
    "data": {"name": "digits", "n_samples": 300, "n_clusters": 10, "shapes": [[64]], "scale": 1.0, "labels": True},
    "training": {"epochs": 1, "steps": 5, "seconds": 1.0, "stop_reason": "epochs", "loss": 1.0, "losses": {}},
    "metrics": {},
    "flags": [],
}
