"""Train, attack, defend and attack again: how robust is a clustering model?"""

__version__ = "0.1.0"
