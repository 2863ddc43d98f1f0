"""`rc runs`: what is there, one run, what it takes, and how to be rid of it."""

import json
from pathlib import Path

import pytest

from robust_cluster.cli.runs import VERBS
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from tests.cli.command import check_help, rc, refused
from tests.made import MADE


@pytest.fixture
def chain() -> list[RunSpec]:
    """Pretraining, clustering and attack, each finished, and a second clustering that was begun."""
    ref = DataRef("digits")
    pretrain = RunSpec("pretrain", ref, "0" * 64, "ae_kmeans", 64, 0, settings={"model": {"hidden": [8, 8]}})
    cluster = RunSpec("cluster", ref, "0" * 64, "graph", 64, 0, settings={"model": {"neighbors": 5}}, parent=pretrain)
    attack = RunSpec(
        "attack",
        ref,
        "0" * 64,
        "graph",
        64,
        0,
        settings={"attack": {}},
        attack="latent_net",
        attack_seed=0,
        parent=cluster,
    )
    store = RunStore(Path("runs"))
    for spec in (pretrain, cluster, attack):
        with store.own(spec) as run:
            run.finish({**MADE, "metrics": {"ACC": 0.5}})
    begun = RunSpec("cluster", ref, "0" * 64, "dec", 64, 1)
    with store.own(begun) as run:
        run.log({"epoch": 1})
    return [pretrain, cluster, attack, begun]


def listed(words: str = "") -> list[str]:
    return [row["key"] for row in json.loads(rc(f"runs ls --json {words}").stdout)]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_the_help_of_a_verb_leads_with_its_examples(verb: object) -> None:
    check_help(f"runs {verb.name}", verb)  # type: ignore[attr-defined]


def test_runs_are_listed_by_stage_model_data_and_state(chain: list[RunSpec]) -> None:
    pretrain, cluster, attack, begun = (spec.key for spec in chain)
    assert set(listed()) == {pretrain, cluster, attack, begun}
    assert listed("--stage attack") == [attack]
    assert set(listed("--model graph,dec")) == {cluster, attack, begun}
    assert listed("--data mnist") == []
    assert listed("--failed") == [begun]
    assert listed("--running") == []
    with RunStore(Path("runs")).own(chain[3]):
        assert (listed("--running"), listed("--failed")) == ([begun], [])
    assert "unfinished, 1 epochs" in rc("runs ls --failed").stdout
    assert [row["key"] for row in json.loads(rc("ls runs --json").stdout)] == listed()
    assert "no runs found" in rc("runs ls --runs-dir nowhere").stderr


def test_a_run_is_shown_with_its_lineage_and_the_settings_that_differ(chain: list[RunSpec]) -> None:
    pretrain, cluster, attack, _ = chain
    shown = rc(f"runs show {attack.key[:6]}").stdout
    assert shown.splitlines()[:3] == [f"done       {spec.directory}" for spec in (pretrain, cluster, attack)]
    rows = [line.split() for line in shown.splitlines() if "model." in line]
    assert [row[:3] for row in rows] == [["pretrain", "model.hidden", "[8,8]"], ["cluster", "model.neighbors", "5"]]
    assert rows[1][3] == "3"
    assert json.loads(rc(f"runs show runs/{attack.directory} --json").stdout)["key"] == attack.key
    assert "There is no run zzz (rc runs ls)" in refused("runs show zzz", 3)
    assert "is not finished" in refused(f"runs show {chain[3].key} --json", 3)


def test_a_run_that_others_start_from_is_not_removed_alone(chain: list[RunSpec]) -> None:
    pretrain, cluster, attack, begun = chain
    sentence = refused(f"runs rm {pretrain.key} --yes")
    assert (
        f"{pretrain.key} cannot go alone: runs/attack/{attack.directory[7:]} starts from it, and so do 1 more"
        in sentence
    )
    assert "--with-children" in sentence
    assert len(listed()) == 4
    assert rc(f"runs rm {cluster.key} --with-children --yes").exit_code == 0
    assert set(listed()) == {pretrain.key, begun.key}
    assert not Path("runs/attack").exists(), "an empty stage goes too"


def test_removing_is_asked_for_and_never_done_to_a_run_at_work(chain: list[RunSpec]) -> None:
    attack, begun = chain[2:]
    assert rc(f"runs rm {attack.key}").exit_code != 0, "no terminal answers: nothing is removed"
    assert attack.key in listed()
    with RunStore(Path("runs")).own(begun):
        assert "is being run by process" in rc(f"runs rm {begun.key} --yes").stderr
    assert begun.key in listed()


def test_orphans_are_folders_without_a_record_that_nobody_works_on(chain: list[RunSpec]) -> None:
    Path("runs/cluster/left").mkdir()
    with RunStore(Path("runs")).own(chain[3]):
        assert rc("runs rm --orphans --yes").stderr == "runs/cluster/left\n"
    assert rc("runs rm --orphans --yes").stderr == f"runs/{chain[3].directory}\n"
    assert set(listed()) == {spec.key for spec in chain[:3]}
    assert rc("runs rm --orphans --yes").stderr == "nothing to remove\n"
    assert "takes runs, or --orphans" in refused("runs rm")
    assert "takes runs, or --orphans" in refused(f"runs rm --orphans {chain[0].key}")


def test_what_runs_take_is_counted(chain: list[RunSpec]) -> None:
    found = json.loads(rc("runs du --json").stdout)
    assert [(row["stage"], row["model"], row["runs"]) for row in found] == [
        ("pretrain", "ae_kmeans", 1),
        ("cluster", "dec", 1),
        ("cluster", "graph", 1),
        ("attack", "graph", 1),
    ]
    files = [path for path in Path("runs").rglob("*") if path.is_file()]
    assert sum(row["bytes"] for row in found) == sum(path.stat().st_size for path in files)
