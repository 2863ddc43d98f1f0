"""The checks by number, and how they are run: eight quick ones inside every attack, the others by an audit."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import torch

from robust_cluster.audit import mechanics, recorded, strength, validity
from robust_cluster.audit.base import Check, Evidence, Finding, Verdict, When, not_run
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import finite
from robust_cluster.nn.precision import precision

QUICK_ROWS = 64
FULL_ROWS = 1000

CHECKS = (
    Check(1, "eps = 0 identity", "quick", mechanics.identity),
    Check(2, "budget and box", "quick", mechanics.within_budget),
    Check(3, "clean reproduction", "quick", mechanics.reproduction),
    Check(4, "frozen victim", "quick", mechanics.frozen_victim),
    Check(5, "determinism", "quick", mechanics.determinism),
    Check(6, "gradient health", "quick", mechanics.gradient_health),
    Check(7, "gradient is right", "quick", mechanics.gradient_right),
    Check(8, "loss goes up", "quick", mechanics.loss_rises),
    Check(9, "iterative beats one step", "full", strength.beats_one_step),
    Check(10, "converged", "full", strength.converged),
    Check(11, "monotone in eps", "full", strength.monotone),
    Check(12, "unbounded reaches the floor", "full", strength.unbounded),
    Check(13, "real points flip", "full", strength.real_points),
    Check(14, "beats weaker attacks", "full", strength.beats_weaker),
    Check(15, "beats transfer", "full", strength.beats_transfer),
    Check(16, "per-point worst case", "full", strength.worst_case),
    Check(17, "hyper-parameter sweep", "full", strength.sweep),
    Check(18, "planted point found", "full", validity.planted),
    Check(19, "undefended twin breaks", "full", validity.twin_breaks),
    Check(20, "adaptive gap", "full", validity.adaptive_gap),
    Check(21, "fair use", "full", validity.fair_use),
    Check(22, "re-fit control", "full", validity.refit_control),
    Check(23, "gradient-free head", "full", validity.surrogate_agrees),
    Check(24, "certificate holds", "full", validity.certificate_holds),
    Check(25, "seeds and leakage", "full", validity.seeds_and_leakage),
    Check(26, "semantics bound", "full", validity.semantics),
    Check(27, "record is what is measured", "full", recorded.as_recorded),
)


def run(evidence: Evidence, which: When, progress: Callable[[Check], None] | None = None) -> list[Finding]:
    """All 27 findings. "quick" runs checks 1 to 8 on at most 64 rows, "full" these and the others on at most 1,000.

    `progress` is told of every check before it runs. Model and attacker are copied, and torch's global generator stays
    as it was. Where an attack refuses a changed setting with a ConfigError, the check is "not run" with that sentence.
    """
    surface = replace(evidence.surface, model=copy.deepcopy(evidence.surface.model))
    evidence = replace(evidence, surface=surface, attacker=copy.deepcopy(evidence.attacker))
    probes = {"quick": evidence.probe(QUICK_ROWS), "full": evidence.probe(FULL_ROWS)}
    findings = []
    with torch.random.fork_rng(), precision("highest"):
        for check in CHECKS:
            if which == "quick" and check.when == "full":
                findings.append(finding(check, not_run("rc audit runs it"), 0.0))
                continue
            if progress is not None:
                progress(check)
            began = time.perf_counter()
            verdict = judged(check, probes[check.when])
            findings.append(finding(check, verdict, time.perf_counter() - began))
    return findings


def judged(check: Check, evidence: Evidence) -> Verdict:
    """What a check says, or why it could not be run where the attack refuses the settings that it needs.

    A fault inside a check, or inside the attack or the model that it asks, fails this check and no other.
    """
    try:
        return check.run(evidence)
    except ConfigError as error:
        return not_run(str(error))
    except Exception as error:
        return Verdict("fail", n=len(evidence), note=f"it ended in {type(error).__name__}: {error}")


def finding(check: Check, verdict: Verdict, seconds: float) -> Finding:
    """The entry for the record; JSON has no infinity and no NaN, so its value is None there."""
    value = None if verdict.value is None else finite(float(verdict.value))
    return Finding(check.id, check.name, seconds=round(seconds, 3), **asdict(replace(verdict, value=value)))
