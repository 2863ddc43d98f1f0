"""`--target K`: attacks that move samples into one cluster."""

import json
from pathlib import Path

import pytest

from tests.cli.command import rc, refused

WORDS = "attack --model kmeans --data digits --limit 100 --profile smoke --threads 1 --norm linf --eps 0.2 --rows 60"
STRENGTH = (9, 11, 12, 14, 17, 18, 27)


@pytest.mark.slow
def test_the_record_says_the_target_and_who_reached_it_and_an_audit_measures_the_same() -> None:
    result = rc(f"{WORDS} --attack apgd --target 3 --json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    listed, metrics = record["samples"], record["metrics"]
    assert record["threat"]["target"] == record["spec"]["settings"]["attack"]["target"] == 3
    assert "3" not in listed["clean"], "samples that are there from the start are not counted"
    assert metrics["samples"] == len(listed["moved"]) < 60
    assert metrics["reached"] == listed["moved"].count("3") / len(listed["moved"]) > 0
    assert metrics["noise_reached"] < metrics["reached"] <= metrics["flip"]
    assert [one["status"] for one in record["audit"][:8]] == ["pass"] * 8
    (run,) = Path("runs/attack").iterdir()
    audited = json.loads(rc(f"audit {run} --json --quiet --threads 1").stdout)
    # beats one step, monotone, reaches the floor, beats weaker attacks, sweep, planted point, record is as measured
    assert {one["id"]: one["status"] for one in audited if one["id"] in STRENGTH} == dict.fromkeys(STRENGTH, "pass")
    assert "reached" in rc(f"{WORDS} --attack apgd --target 3").stdout


def test_what_cannot_be_aimed_says_so_in_one_sentence() -> None:
    assert "attack.target is for standard attacks: latent_net is none" in refused(
        "attack --model kmeans --data digits --limit 100 --target 3"
    )
    assert "universal cannot be aimed at a cluster" in refused(f"{WORDS} --attack universal --target 3")
    assert "target must be in [0, K - 1] = [0, 9], got 10" in refused(f"{WORDS} --attack pgd --target 10")
