"""Train, attack, defend and attack again: how robust is a clustering model?"""

from robust_cluster.evaluation import Record, evaluate
from robust_cluster.verbs import Run, cluster

__all__ = ["Record", "Run", "cluster", "evaluate"]
__version__ = "0.1.0"
