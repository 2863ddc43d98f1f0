"""Train, attack, defend and attack again: how robust is a clustering model?"""

from robust_cluster.evaluation import Record, evaluate

__all__ = ["Record", "evaluate"]
__version__ = "0.1.0"
