"""Which runs a request takes, which of them are shared, and which are carried out."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import DataInfo, Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError, RobustClusterError, UnknownNameError
from robust_cluster.measure import embeddings
from robust_cluster.models.shallow.kmeans import KMeansModel
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.runs.store import Run, RunStore
from robust_cluster.stages import chain, methods
from robust_cluster.stages.chain import Plan, Request, carry_out, execute, plan
from robust_cluster.stages.context import Context, frozen_surface
from robust_cluster.stages.profiles import PROFILES
from tests.made import MADE

HALF = {"metrics": {"ACC": 0.5}}
# Owns the run, says so, and when its standard input ends, finishes the run.
OWNER = """
import json, sys
from pathlib import Path
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import RunStore
with RunStore(Path(sys.argv[1])).own(RunSpec.from_json(json.loads(sys.argv[2]))) as run:
    print("owned", flush=True)
    sys.stdin.read()
    run.finish(json.loads(sys.argv[3]))
"""


@pytest.fixture
def context(store: RunStore, digits: Dataset) -> Context:
    return Context(store, digits, "smoke", device="cpu")


@pytest.fixture
def ask(digits: Dataset) -> Any:
    """The planned runs of a request for the digits."""

    def planned(stage: Stage = "reattack", model: str = "convae", **fields: Any) -> list[RunSpec]:
        return plan(Request(stage, digits.ref, model, **({"profile": "smoke"} | fields)), digits.info)

    return planned


def stages(specs: list[RunSpec]) -> list[str]:
    return [spec.stage for spec in specs]


def keys(specs: list[RunSpec]) -> list[str]:
    return [spec.key for spec in specs]


def test_a_reattack_takes_five_runs_each_on_the_one_before(ask: Any) -> None:
    specs = ask()
    assert stages(specs) == ["pretrain", "cluster", "attack", "defend", "reattack"]
    assert [spec.parent for spec in specs] == [None, *specs[:-1]]


@pytest.mark.parametrize(("stage", "count"), [("pretrain", 1), ("cluster", 2), ("attack", 3), ("defend", 4)])
def test_an_earlier_stage_takes_the_beginning_of_the_same_chain(ask: Any, stage: Stage, count: int) -> None:
    assert keys(ask(stage)) == keys(ask())[:count]


def test_methods_that_are_compared_share_one_pretraining_run(ask: Any) -> None:
    shared = {model: ask("cluster", model)[0] for model in ("ae_kmeans", "convae", "mie", "graph")}
    assert len({spec.key for spec in shared.values()}) == 1
    assert {spec.model for spec in shared.values()} == {"ae_kmeans"}
    assert len({ask("cluster", model)[1].key for model in shared}) == 4


def test_settings_of_the_clustering_leave_the_pretraining_alone(ask: Any) -> None:
    plain = ask("cluster")
    for name, value in {"model.cluster.epochs": 3, "model.head": [8], "model.prior_weight": 2.0}.items():
        pretrain, cluster = ask("cluster", overrides={name: value})
        assert pretrain.key == plain[0].key, name
        assert cluster.key != plain[1].key, name


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"overrides": {"model.pretrain.epochs": 3}}, 0),
        ({"overrides": {"model.hidden": [8]}}, 0),
        ({"overrides": {"model.warmup": "vae"}}, 0),
        ({"latent_dim": 8}, 0),
        ({"seed": 1}, 0),
        ({"precision": "highest"}, 0),
        ({"overrides": {"model.cluster.lr": 0.1}}, 1),
        ({"overrides": {"attack.gamma": 20}}, 2),
        ({"overrides": {"attack.schedule.epochs": 3}}, 2),
        ({"attack": "latent_pgd"}, 2),
        ({"overrides": {"defense.mode": "control"}}, 3),
        ({"overrides": {"defense.weight": 1}}, 3),
        ({"attack_seed": 1}, 4),
    ],
)
def test_a_change_gives_new_keys_from_the_first_run_that_it_touches(
    ask: Any, change: dict[str, Any], first: int
) -> None:
    same = [before == after for before, after in zip(keys(ask()), keys(ask(**change)), strict=True)]
    assert same == [True] * first + [False] * (5 - first)


def test_a_value_that_equals_the_default_keeps_every_key(ask: Any) -> None:
    assert keys(ask(overrides={"attack.gamma": 40, "model.hidden": [128, 128]})) == keys(ask())


def test_other_data_give_other_keys(digits: Dataset) -> None:
    info = replace(digits.info, sha256="cd" * 32)
    request = Request("reattack", digits.ref, "convae")
    assert not set(keys(plan(request, info))) & set(keys(plan(request, digits.info)))


def test_mode_paper_trains_from_scratch_and_has_no_pretraining(ask: Any) -> None:
    specs = ask("cluster", overrides={"model.mode": "paper"})
    assert stages(specs) == ["cluster"]
    assert specs[0].parent is None
    with pytest.raises(ConfigError, match="convae has no pretraining"):
        ask("pretrain", overrides={"model.mode": "paper"})


def test_kmeans_has_no_pretraining(ask: Any) -> None:
    assert stages(ask("attack", "kmeans")) == ["cluster", "attack"]
    with pytest.raises(ConfigError, match="kmeans has no pretraining"):
        ask("pretrain", "kmeans")


def test_attackers_of_a_reattack_meet_one_defended_model(ask: Any) -> None:
    chains = [ask(attack_seed=attack_seed) for attack_seed in (0, 1, 2)]
    assert len({specs[-1].key for specs in chains}) == 3
    assert len({specs[-2].key for specs in chains}) == 1
    assert [specs[2].attack_seed for specs in chains] == [0, 0, 0]


@pytest.mark.parametrize("attack_seed", [0, 1])
def test_t13_a_reattack_starts_from_other_weights_with_the_same_budget_and_gamma(
    ask: Any, context: Context, attack_seed: int
) -> None:
    _, cluster, attack, _, reattack = ask(attack_seed=attack_seed, overrides={"attack.gamma": 23.0})
    assert attack.settings == reattack.settings
    surface = frozen_surface(context.new_model(cluster), "latent", None)
    old, new, again = (context.new_attack(spec, surface) for spec in (attack, reattack, reattack))
    assert not any(torch.equal(a, b) for a, b in zip(weights(old), weights(new), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(weights(new), weights(again), strict=True))
    assert old.budget == new.budget
    assert old.config == new.config  # type: ignore[attr-defined]
    assert new.config.gamma == 23.0  # type: ignore[attr-defined]


def weights(attack: Attack) -> list[torch.Tensor]:
    """The matrices of an attacker's network; its biases start at zero."""
    parameters = attack.state()["network"].state_dict()
    return [tensor for name, tensor in parameters.items() if name.endswith("weight")]


def test_the_three_victims_start_from_their_own_seeds(ask: Any, context: Context) -> None:
    first = {seed: context.new_model(ask("cluster", seed=seed)[-1]).state_dict() for seed in (0, 1)}
    again = context.new_model(ask("cluster", seed=0)[-1]).state_dict()
    assert all(torch.equal(first[0][name], again[name]) for name in again)
    assert not torch.equal(first[0]["head.0.weight"], first[1]["head.0.weight"])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"latent_dim": 0}, "dim must be >= 1, got 0"),
        ({"profile": "smok"}, "Unknown profile 'smok'. Did you mean 'smoke'?"),
        ({"model": "grahp"}, "Unknown model 'grahp'. Did you mean 'graph'?"),
        ({"attack": "latent_nett"}, "Unknown attack 'latent_nett'. Did you mean 'latent_net'?"),
        ({"defense": "mutual_inf"}, "Unknown defense 'mutual_inf'. Did you mean 'mutual_info'?"),
        (
            {"overrides": {"modle.head": [8]}},
            "Unknown setting 'modle'. Known: attack.<field>, certify.<field>, defense.<field>, model.<field>.",
        ),
        (
            {"overrides": {"attack": 3}},
            "Unknown setting 'attack'. Known: attack.<field>, certify.<field>, defense.<field>, model.<field>.",
        ),
        (
            {"overrides": {"attack.gama": 3}},
            "Unknown setting 'attack.gama'. Did you mean 'attack.gamma'?",
        ),
        (
            {"attack": "latent_pgd", "overrides": {"attack.foo": 3}},
            "Unknown setting 'attack.foo'. Known: attack.eps, attack.relative_step, attack.steps.",
        ),
        (
            {"overrides": {"defense.wieght": 3}},
            "Unknown setting 'defense.wieght'. Did you mean 'defense.weight'?",
        ),
        ({"overrides": {"attack.gamma": float("nan")}}, "attack.gamma must be a finite number, got nan"),
        (
            {"stage": "cluster", "overrides": {"attack.gama": 3}},
            "Unknown setting 'attack.gama'. Did you mean 'attack.gamma'?",
        ),
        (
            {"stage": "cluster", "overrides": {"attack.gamma": "high"}},
            "attack.gamma must be float, got 'high'",
        ),
        (
            {"stage": "cluster", "overrides": {"attack.norm": "l3"}},  # a setting of attacks other than the default one
            "attack.norm must be one of 'linf', 'l2', got 'l3'",
        ),
        ({"stage": "cluster", "overrides": {"certify.alpha": "x"}}, "certify.alpha must be float, got 'x'"),
        ({"model": "ae_kmeans"}, "ae_kmeans is not trained while clustering: no defense can train it on"),
        *(
            (
                {"model": model, "attack": attack, "defense": defense},
                f"{model} trains networks against each other: no defense, which descends one loss, can train it on",
            )
            for model, attack, defense in (
                ("dcan", "latent_net", "mutual_info"),
                ("aae", "latent_net", "mutual_info"),
                ("eamc", "view_gan", "ar_dmvc"),
            )
        ),
        (
            {"model": "kmeans", "stage": "cluster", "overrides": {"model.cluster.epochs": 1}},
            "kmeans is not trained by descent: cluster.epochs must be 0, got 1",
        ),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_runs(ask: Any, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(**fields)
    assert caught.value.message == sentence
    assert isinstance(caught.value, UnknownNameError) == sentence.startswith("Unknown")


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"overrides": {"model.gama": 3}}, "rc ls models convae"),
        ({"overrides": {"attack.gama": 3}}, "rc ls attacks latent_net"),
        ({"overrides": {"defense.wieght": 3}}, "rc ls defenses mutual_info"),
        ({"stage": "certify", "defense": "none", "overrides": {"defense.wieght": 3}}, None),
        ({"stage": "defend", "attack": "apgd"}, "another --attack or --defense"),
        ({"stage": "reattack", "against": "apgd"}, "another --against or --defense"),
    ],
)
def test_what_is_refused_comes_with_what_to_look_at(ask: Any, fields: dict[str, Any], hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(**fields)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("fields", "known", "sentence"),
    [
        ({"model": "convae"}, {"shapes": ((1, 28, 28),)}, "AR-DMVC sets views against each other and needs at least 2"),
        ({"overrides": {"defense.mode": "paper"}}, {"shapes": ((1, 28, 28),) * 3}, "pairs = first moves the first 2"),
        ({"stage": "attack"}, {"bounds": None}, "attacks on the views move pixels, so they need image data"),
        ({"stage": "attack"}, {"shapes": ((784,),) * 2}, "the attack's generator and discriminator take images"),
        (
            {"attack": "latent_pgd", "defense": "mutual_info"},
            {},
            "mutual_info learns from decoded images, and CoMVC has",
        ),
        ({"stage": "cluster", "model": "aecoddc"}, {"n_samples": 98}, "the clustering loss needs batches of at least"),
        ({"overrides": {"defense.schedule.batch_size": 9}}, {}, "AR-DMVC needs batches of at least n_clusters = 10"),
        (
            {"stage": "attack", "attack": "apgd", "overrides": {"attack.space": "latent"}},
            {},
            "an embedding has no range of values, so its radius has no default",
        ),
        (
            {"stage": "attack", "attack": "apgd", "overrides": {"attack.views": [2]}},
            {},
            "views must be in 0 to 1, got 2",
        ),
        ({"stage": "attack", "attack": "apgd"}, {"n_clusters": 1}, "an attack moves samples to another cluster"),
        *(
            (
                {"stage": "cluster", "model": model, "overrides": {"model.output": "sigmoid"}},
                {"shapes": ((64,),), "bounds": None},
                "output 'sigmoid' needs data in [0, 1]",
            )
            for model in ("vae_kmeans", "vade", "lpvdn")
        ),
        (
            {"stage": "cluster", "model": "dcan", "overrides": {"model.side": 7}},
            {"shapes": ((64,),)},
            "side must divide the vectors' length 64, got 7",
        ),
        *(
            (
                {"stage": stage, "model": model, "attack": "apgd", "defense": "none", "overrides": overrides},
                {},
                f"{model} clusters the data themselves: it has no latent space",
            )
            for model in ("kmeans", "gmm")
            for stage, overrides in (
                ("attack", {"attack.space": "latent", "attack.norm": "l2", "attack.eps": 1.0}),
                ("certify", {"certify.space": "latent"}),
            )
        ),
    ],
)
def test_data_and_methods_that_do_not_fit_are_refused_before_anything_is_trained(
    fields: dict[str, Any], known: dict[str, Any], sentence: str
) -> None:
    asked = {"stage": "reattack", "model": "comvc", "attack": "view_gan", "defense": "ar_dmvc", "profile": "smoke"}
    pair = DataInfo("pair", ((1, 28, 28),) * 2, 200, 10, (0.0, 1.0), 1.0, "")
    request = Request(data=DataRef("pair", split="halves"), **(asked | fields))
    with pytest.raises(RobustClusterError) as caught:
        plan(request, replace(pair, **known))
    assert caught.value.message.startswith(sentence)


VECTORS = DataInfo("digits", ((64,),), 1797, 10, None, 1.2, "ab" * 32, scaled_bounds=(0.0, 1.2))
PAIR = DataInfo("pair", ((1, 28, 28),) * 2, 200, 10, (0.0, 1.0), 1.0, "cd" * 32)
EMBEDDED = {"attack.space": "latent", "attack.norm": "l2", "attack.eps": 1.0}
VIEWS = {"attack.norm": "linf", "attack.view_eps": [0.1, 0.2]}


def unversioned(spec: RunSpec) -> RunSpec:
    return replace(spec, versions={}, parent=unversioned(spec.parent) if spec.parent else None)


@pytest.mark.parametrize(
    ("info", "stage", "model", "fields", "key"),
    [
        (VECTORS, "pretrain", "lpvdn", {}, "eecbe4c6fe6d"),
        (VECTORS, "cluster", "kmeans", {"profile": "paper"}, "6a45ec6b1c48"),
        (VECTORS, "cluster", "graph",
         {"overrides": {"model.mode": "paper", "model.neighbors": 5}, "precision": "highest"}, "1c9ca5241451"),
        (VECTORS, "attack", "convae", {"profile": "cpu", "attack_seed": 2, "latent_dim": 8, "seed": 3}, "504cd9b734eb"),
        (VECTORS, "attack", "dcan", {"attack": "ensemble", "overrides": EMBEDDED}, "72820a9907cb"),
        (VECTORS, "defend", "mie", {"profile": "short", "overrides": {"defense.mode": "alternating"}}, "90437dc1f307"),
        (VECTORS, "reattack", "graph", {"overrides": {"attack.gamma": 20}, "own": {"attack.gamma": 80}},
         "326e63507284"),
        (VECTORS, "reattack", "convae", {"attack": "apgd", "overrides": {"attack.rows": 30}}, "bfb960a843d7"),
        (VECTORS, "reattack", "convae", {"attack": "pgd", "against": "latent_pgd"}, "a75ab1d71c88"),
        (VECTORS, "certify", "kmeans", {"defense": "none", "overrides": {"certify.sigma": 0.5}}, "cc7012692770"),
        (VECTORS, "certify", "convae", {"overrides": {"certify.space": "latent", "defense.weight": 2}}, "48870e87a805"),
        (PAIR, "reattack", "comvc", {"attack": "view_gan", "defense": "ar_dmvc"}, "374fcd6de8fc"),
        (PAIR, "attack", "simvc", {"attack": "pgd", "overrides": VIEWS}, "76de502f4774"),
    ],
)  # fmt: skip
def test_a_request_has_the_key_that_it_had_before_but_for_versions(
    info: DataInfo, stage: Stage, model: str, fields: dict[str, Any], key: str
) -> None:
    """A new field of a `Config`, or another default, gives runs new keys, and they are written here anew."""
    data = DataRef(info.name, split="halves" if len(info.shapes) > 1 else None)
    last = Plan(Request(stage, data, model, **({"profile": "smoke"} | fields)), info).asked
    assert unversioned(last).key == key


def test_settings_of_the_asked_run_alone_leave_the_runs_before_it_as_they_were(ask: Any) -> None:
    gentle, strong = ask(overrides={"attack.gamma": 20}), ask(overrides={"attack.gamma": 20}, own={"attack.gamma": 80})
    assert keys(strong)[:-1] == keys(gentle)[:-1]
    assert [spec.settings["attack"]["gamma"] for spec in (strong[2], strong[-1])] == [20, 80]


@pytest.mark.parametrize(
    ("stage", "model", "attack", "following"),
    [
        ("pretrain", "convae", "latent_net", "cluster"),
        ("cluster", "convae", "latent_net", "attack"),
        ("cluster", "convae", "view_gan", None),  # needs images
        ("attack", "convae", "latent_net", "defend"),
        ("attack", "convae", "apgd", None),  # in input space, where mutual_info does not defend
        ("attack", "kmeans", "apgd", None),
        ("defend", "convae", "latent_net", "reattack"),
        ("reattack", "convae", "latent_net", None),
        ("certify", "convae", "latent_net", None),
    ],
)
def test_a_plan_says_which_stage_its_methods_can_go_on_with(
    stage: Stage, model: str, attack: str, following: str | None
) -> None:
    made = Plan(Request(stage, DataRef("digits"), model, attack=attack, profile="smoke"), VECTORS)
    before = list(made.runs)
    assert made.following == following
    assert made.runs == before


@pytest.mark.parametrize("stage", ["attack", "defend", "reattack", "certify"])
def test_a_model_that_labels_only_what_it_was_fitted_on_is_clustered_and_no_more(
    ask: Any, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    monkeypatch.setattr(KMeansModel, "transductive", True)
    assert stages(ask("cluster", "kmeans")) == ["cluster"]
    with pytest.raises(ConfigError, match="labels only the data that it was fitted on, so a moved point has no label"):
        ask(stage, "kmeans")


def test_every_run_survives_a_round_trip_through_json(ask: Any) -> None:
    for spec in ask():
        again = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert again.key == spec.key


def test_training_of_models_and_attacks_on_images_may_use_reduced_products(ask: Any) -> None:
    assert [spec.precision for spec in ask()] == ["medium", "medium", "highest", "medium", "highest"]
    assert {spec.precision for spec in ask(precision="highest")} == {"highest"}
    pixels = load(DataRef("digits-28", limit=60), Folders())
    request = Request("attack", pixels.ref, "simvc", attack="view_gan", profile="smoke")
    assert [spec.precision for spec in plan(request, pixels.info)] == ["medium", "medium"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that were really carried out; they compute nothing here."""
    called: list[str] = []

    def stage(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
        called.append(spec.stage)
        return {**MADE, "metrics": {"number": len(called)}}

    for name in chain.STAGES:
        monkeypatch.setitem(chain.STAGES, name, stage)
    return called


def test_the_second_call_returns_the_same_records_without_running(ask: Any, context: Context, calls: list[str]) -> None:
    first = execute(ask(), context)
    assert calls == ["pretrain", "cluster", "attack", "defend", "reattack"]
    assert execute(ask(), context) == first
    assert len(calls) == 5


def test_a_longer_chain_runs_only_what_is_missing(ask: Any, context: Context, calls: list[str]) -> None:
    execute(ask("cluster"), context)
    execute(ask("attack"), context)
    assert calls == ["pretrain", "cluster", "attack"]


def test_force_makes_only_the_last_run_anew(ask: Any, context: Context, calls: list[str]) -> None:
    before = execute(ask("attack"), context)
    after = execute(ask("attack"), replace(context, force=True))
    assert calls == ["pretrain", "cluster", "attack", "attack"]
    assert after[:2] == before[:2]
    assert after[2]["metrics"] == {"number": 4}
    assert context.store.record(ask("attack")[-1]) == after[2]


def test_a_stage_that_fails_leaves_no_record_and_runs_again(
    ask: Any, context: Context, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
        raise ConfigError("no")

    with monkeypatch.context() as patch:
        patch.setitem(chain.STAGES, "attack", fails)
        with pytest.raises(ConfigError, match="no"):
            execute(ask("attack"), context)
    assert context.store.record(ask("attack")[-1]) is None
    execute(ask("attack"), context)
    assert calls == ["pretrain", "cluster", "attack"]


def test_a_parent_made_anew_with_other_weights_makes_its_children_anew(
    ask: Any, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = iter((1.0, 2.0, 3.0, 3.0))
    called: list[str] = []

    def stage(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
        called.append(spec.stage)
        run.save_model({"weight": torch.tensor(next(weights))})
        return {**MADE, "parent_checkpoint": context.parent_checkpoint(spec)}

    for name in chain.STAGES:
        monkeypatch.setitem(chain.STAGES, name, stage)
    child = ask("cluster")
    execute(child, context)
    execute(child[:1], replace(context, force=True))
    execute(child, context)
    execute(child, context)
    assert called == ["pretrain", "cluster", "pretrain", "cluster"]


def test_the_key_of_an_attack_holds_the_version_of_its_measurement(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(ask("attack"))
    monkeypatch.setattr(embeddings, "VERSION", embeddings.VERSION + 1)
    after = keys(ask("attack"))
    assert after[:2] == before[:2]
    assert after[2] != before[2]


class Frees(Silent):
    """Lets the process that owns the run finish it once it is said that one waits for it."""

    def __init__(self, owner: "subprocess.Popen[str]") -> None:
        self.owner = owner
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        assert self.owner.stdin is not None
        self.owner.stdin.close()


@contextmanager
def another_process(store: RunStore, spec: RunSpec) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", OWNER, str(store.root), json.dumps(spec.to_json()), json.dumps(MADE | HALF)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "owned\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_run_that_another_process_is_making_is_waited_for_and_read(
    ask: Any, context: Context, calls: list[str]
) -> None:
    (spec,) = ask("cluster", "kmeans")
    with another_process(context.store, spec) as owner:
        progress = Frees(owner)
        record = carry_out(spec, replace(context, progress=progress))
    assert record["metrics"] == {"ACC": 0.5}
    assert calls == []
    assert len(progress.notes) == 1
    assert f"is being run by process {owner.pid}" in progress.notes[0]


def test_every_method_folder_can_be_planned(digits: Dataset) -> None:
    settings: Mapping[str, Any]
    for model in ("kmeans", "ae_kmeans", "convae", "mie", "graph"):
        for profile in PROFILES:
            settings = plan(Request("cluster", digits.ref, model, profile=profile), digits.info)[-1].settings["model"]
            assert settings == methods.plain(methods.resolve("models", model, profile, {}))


def test_a_setting_that_came_later_stands_in_a_run_only_where_it_is_not_its_default(digits: Dataset) -> None:
    """Runs from before it keep their keys, and so the order of their batches."""

    def specs(**asked: Any) -> list[RunSpec]:
        return plan(Request("cluster", digits.ref, "vade", overrides={"model.mode": "images", **asked}), digits.info)

    before, usual = specs(), specs(**{"model.corruption": 0.0, "model.mixture_starts": 1})
    assert [spec.key for spec in usual] == [spec.key for spec in before]
    assert not {"corruption", "mixture_starts", "log_var_start", "prior_start"} & before[-1].settings["model"].keys()
    pretrain, cluster = specs(**{"model.corruption": 0.2})
    assert (pretrain.settings["model"]["corruption"], cluster.settings["model"]["corruption"]) == (0.2, 0.2)
    assert pretrain.key != before[0].key
    pretrain, cluster = specs(**{"model.mixture_starts": 20})
    assert (pretrain.key, cluster.settings["model"]["mixture_starts"]) == (before[0].key, 20)
    assert cluster.key != before[1].key
