"""What is doubtful about a run, and the letter that a table writes for it."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from robust_cluster.audit.marks import Mark, mark
from robust_cluster.measure import convergence
from robust_cluster.report.answers import Record, trained_at

LEAST = 0.01  # of the samples that a mixture's component must own, as a cluster must that counts as used
NOT_OWN = "settings not the method's own"
BFLOAT16 = "precision bf16"
SAW_CLASSES = "oracle that saw the classes"
MARKS = {  # flag -> its letter
    "collapsed": "c",
    "components lost": "g",
    NOT_OWN: "h",
    "adversarial term inactive": "d",
    "not imperceptible": "i",
    "masked": "m",
    "no better than noise": "n",
    "unconverged": "u",
    "radius beyond the data's range": "r",
    "victim changed": "v",
    "adopted": "t",
    "own weights": "b",
    SAW_CLASSES: "l",
    BFLOAT16: "p",
    "smoothing loses clusters": "s",
    "audit fails": "x",
    "audit warns": "w",
    "audit not run in full": "o",
    "audit passes": "a",
}
MEANING = {  # what a flag says, for people who look at a table
    "collapsed": "the model uses too few clusters",
    "components lost": "components of its mixture own less than a hundredth of the samples",
    NOT_OWN: "some of its settings are not the method's own",
    "adversarial term inactive": "its adversarial term does nothing",
    "not imperceptible": "the attack moves further than one would overlook",
    "masked": "PGD finds far more than the attack: what it found says little",
    "no better than noise": "random moves of the same size do as much",
    "unconverged": "the attacker still learned when it ended",
    "radius beyond the data's range": "the radius is beyond the range of the data",
    "victim changed": "the model was changed while it was attacked",
    "smoothing loses clusters": "smoothed, the model has fewer clusters than before",
    "adopted": "the model was trained elsewhere",
    "own weights": "its pretraining is weights of a file",
    BFLOAT16: "its networks were trained with bfloat16 products (--precision bf16)",
    SAW_CLASSES: "the true classes reached its training: no result of a method",
    "audit fails": "a check of its audit fails",
    "audit warns": "a check of its audit warns",
    "audit not run in full": "its audit was not run in full",
    "audit passes": "it passes every check of its audit",
}
AUDITS: Mapping[Mark, str] = {
    "fail": "audit fails",
    "warn": "audit warns",
    "not run": "audit not run in full",
    "pass": "audit passes",
}


def flags_of(record: Record, departed: Sequence[str]) -> list[str]:
    """A record's own flags, what its audit says, and whether the run `departed` from its methods' settings.

    Also whether it was trained with bfloat16 products, whether a mixture lost components, which labels of k-means
    beside it do not show, and whether an attacker that logged its flips was unconverged, of which older records have no
    flag. An attack from before there were audits has none.
    """
    found = [*record["flags"], *([AUDITS[mark(record["audit"])]] if "audit" in record else [])]
    if (record.get("health") or {}).get("smallest_component", 1.0) < LEAST:
        found.append("components lost")
    if "unconverged" not in found and convergence.of_record(record):
        found.append("unconverged")
    if trained_at(record) == "bf16":
        found.append(BFLOAT16)
    return [*found, NOT_OWN] if departed else found


def merged(flags: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The flags of several runs, each once, in the order of `MARKS`; those without a letter come last."""
    return tuple(sorted(set(chain(*flags)), key=lambda flag: ([*MARKS, flag].index(flag), flag)))
