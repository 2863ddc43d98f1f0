import json
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.cli.options import chosen_part
from robust_cluster.errors import ConfigError, DataError, UnknownNameError
from robust_cluster.measure.metric import Metric
from robust_cluster.report import spec as report_spec
from robust_cluster.report.compare import load_published
from robust_cluster.report.spec import (
    CellRequest,
    figure_names,
    load_spec,
    narrowed,
    requests,
    table_names,
    tables_folder,
)
from robust_cluster.runs.spec import DataRef
from robust_cluster.stages import methods
from robust_cluster.stages.profiles import PROFILES
from robust_cluster.stages.settings import nested
from tests.report.toy import Load

RECORDED = {"ACC", "NMI", "ARI", "ACC*", "NMI*", "ARI*", "ACC*_clean_map", "flip", "noise_flip", "D", "D_norm"} | {
    "delta_norm",
    "pgd_flip",
}


def test_requests_are_every_combination_of_the_axes(load_toy: Load) -> None:
    asked = requests(load_toy(), "smoke")
    assert len(asked) == 2 * 2 * 2 * 2  # methods, data, dims, seeds
    assert len({json.dumps([r.model, r.data.name, r.latent_dim, r.seed]) for r in asked}) == 16
    assert {r.attack_seed for r in asked} == {None}
    assert {(r.stage, r.attack, r.defense) for r in asked} == {("attack", "latent_net", None)}
    assert len(requests(load_toy(), "one")) == 8


def test_only_reattacks_are_asked_for_once_per_attack_seed(load_toy: Load) -> None:
    asked = requests(load_toy(('stage = "attack"', 'stage = "reattack"')), "one")
    assert len(asked) == 24
    assert {r.attack_seed for r in asked} == {0, 1, 2}
    assert {r.defense for r in asked} == {"mutual_info"}


def test_settings_of_a_profile_override_those_of_a_method_and_of_the_table(load_toy: Load) -> None:
    spec = load_toy(
        ('stage = "attack"\n', 'stage = "attack"\nset = { "attack.gamma" = 1, "attack.steps" = 1, "model.lr" = 1 }\n'),
        ("[[methods]]\n", '[[methods]]\nset = { "attack.gamma" = 2, "attack.steps" = 2 }\n'),
        ("[profile.one]\n", '[profile.one]\nset = { "attack.gamma" = 3 }\n'),
    )
    assert requests(spec, "one")[0].settings == {"attack.gamma": 3, "attack.steps": 2, "model.lr": 1}


def test_a_data_set_may_be_a_name_or_a_table_and_is_shown_by_its_label() -> None:
    spec = load_spec("table1")
    asked = [*requests(spec, "cpu"), *requests(spec, "short"), *requests(spec, "smoke")]
    assert {r.data for r in asked} == {
        DataRef("mnist10k", flatten=True),
        DataRef("fashion-mnist", limit=10000),
        DataRef("digits"),
    }
    assert {r.place["data"] for r in asked} == {"MNIST (10,000)", "Fashion-MNIST (10,000)", "digits"}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seed = [0, 1]\n", "sed = [0, 1]\nseed = [0]\n", "toy.toml [smoke]: 'sed'. Did you mean 'seed'?"),
        ('title = "Toy"', 'titel = "Toy"', "toy.toml: 'titel'. Did you mean 'title'?"),
        ("scale = 100", "scal = 100", "toy.toml [[cells]]: 'scal'. Did you mean 'scale'?"),
        ("models =", "modles =", "toy.toml [[methods]]: 'modles'. Did you mean 'models'?"),
        ('"digits"]', '{ nam = "digits" }]', "data: 'nam'. Did you mean 'name'?"),
        ("mean±std", "mean+std", "Unknown statistic of toy.toml 'mean+std'. Did you mean 'mean±std'?"),
        ('[[cells]]\nlabel = "ACC"', '[methods.on.stl1]\n[[cells]]\nlabel = "ACC"', "'stl1'. Did you mean 'stl10'?"),
        (
            '[[cells]]\nlabel = "ACC"',
            '[methods.on.stl10]\nnormalize = "nome"\n[[cells]]\nlabel = "ACC"',
            "'nome'. Did you mean 'none'?",
        ),
        ('stage = "attack"', 'stage = "atack"', "Unknown stage of toy.toml 'atack'. Did you mean 'attack'?"),
    ],
)
def test_an_unknown_key_or_word_is_refused_with_the_nearest(load_toy: Load, old: str, new: str, sentence: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_toy((old, new))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('title = "Toy"', "", "toy.toml needs the key 'title'"),
        ("seed = [0]", "seed = 0", "toy.toml [one]: seed must be a list, got 0 (seed = [0])"),
        (
            '[[cells]]\nlabel = "ACC"',
            '[methods.on.one]\nseed = 7\n[[cells]]\nlabel = "ACC"',
            "toy.toml [methods.on]: seed must be a list, got 7 (seed = [7])",
        ),
        (
            '"method", "metric"]',
            '"metric"]',
            "must share out data, latent_dim, method, metric, got data, metric, latent_dim",
        ),
        ('label = "D"', 'label = "ACC"', "two entries of metric have one label in profile smoke: ACC, ACC"),
        ('title = "Toy"', "title = Toy", "toy.toml is not valid TOML"),
    ],
)
def test_a_file_that_describes_no_table_is_refused(load_toy: Load, old: str, new: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_toy((old, new))
    assert sentence in str(caught.value)


def test_a_data_set_or_profile_may_have_settings_a_dimension_and_a_scale_of_its_own(
    load_toy: Load,
) -> None:
    own = '[methods.on.one]\n"model.lr" = 4\n[methods.on.stl10]\n"model.lr" = 2\nlatent_dim = 5\nnormalize = "none"\n'
    spec = load_toy(
        ("[axes]\n", '[on.digits]\n"model.j" = 7\n\n[axes]\n'),
        ("[[methods]]\n", '[[methods]]\nset = { "model.lr" = 1, "model.k" = 1 }\n'),
        ('[[cells]]\nlabel = "ACC"', f'{own}[[cells]]\nlabel = "ACC"'),
        ("[profile.one]\n", '[profile.one]\nlatent_dim = [64]\nset = { "model.k" = 3 }\n'),
    )
    found = {(r.data.name, r.latent_dim, r.settings["model.lr"], r.settings["model.k"]) for r in requests(spec, "one")}
    assert found == {("stl10", 5, 2, 3), ("digits", 64, 4, 3)}
    assert {(r.data.name, r.settings["model.lr"]) for r in requests(spec, "smoke")} == {("stl10", 2), ("digits", 1)}
    assert {(r.place["data"], r.data.normalize) for r in requests(spec, "one")} == {
        ("STL-10", "none"),
        ("digits", "alrdc"),
    }
    assert not any({"latent_dim", "normalize"} & set(r.settings) for r in requests(spec, "one"))
    assert {(r.data.name, r.settings.get("model.j")) for r in requests(spec, "one")} == {("stl10", None), ("digits", 7)}


def test_a_method_may_have_seeds_of_its_own_and_a_part_of_the_table_has_those_asked_for(load_toy: Load) -> None:
    own = '[[methods]]\nlabel = "more"\nmodels = ["kmeans"]\n\n[methods.on.one]\nseed = [0, 7]\n\n'
    spec = load_toy(
        ('[[cells]]\nlabel = "ACC"', f'{own}[[cells]]\nlabel = "ACC"'),
        ("[profile.one]\nseed = [0]", "[profile.one]\nseed = [0, 1]"),
    )

    def seeds(*only: str) -> set[tuple[str, int]]:
        part = narrowed(spec, "one", {"method": {"ConvAE", "more"}, **({"seed": only} if only else {})})
        return {(r.place["method"], r.seed) for r in requests(part, "one")}

    assert seeds() == {("ConvAE", 0), ("ConvAE", 1), ("more", 0), ("more", 7)}
    assert seeds("1", "7") == {("ConvAE", 1), ("more", 7)}
    assert seeds("7") == {("more", 7)}
    with pytest.raises(UnknownNameError, match="0, 1, 7"):
        seeds("8")
    assert not any("seed" in r.settings for r in requests(spec, "one"))


@pytest.mark.parametrize("profile", ["cpu", "paper"])
def test_the_models_of_lpvdn_and_adec_that_are_attacked_are_those_of_their_tables(profile: str) -> None:
    def asked(name: str, *models: str) -> set[str]:
        found = [r for r in requests(load_spec(name), profile) if r.model in models and r.data.name.startswith("mnist")]
        told = {r.model: [r.data, r.latent_dim, resolved(r)] for r in found if r.data.name != "mnist-test"}
        assert set(told) == set(models)
        return {f"{model} {how}" for model, how in told.items()}

    def resolved(request: CellRequest) -> Any:
        own = nested(request.settings).get("model", {})
        return methods.resolve("models", request.model, profile, {k: v for k, v in own.items() if v != "none"})

    theirs = asked("lpvdn1", "dec", "vade", "lpvdn") | asked("adec1", "idec") | asked("adec2", "adec")
    assert asked("robust_linf", "dec", "vade", "lpvdn", "idec", "adec") == theirs


def test_methods_of_the_paper_alone_ask_for_no_runs(load_toy: Load) -> None:
    spec = load_toy(("[[methods]]\n", "[[methods]]\npublished_only = true\n"))
    assert requests(spec, "smoke") == []
    assert len(requests(spec, "one", published_only=True)) == 8


def test_a_method_asks_for_no_runs_on_data_that_it_cannot_take(load_toy: Load) -> None:
    spec = load_toy(("[[methods]]\n", '[[methods]]\nwithout = ["stl10"]\n'))
    every = requests(load_toy(), "one")
    assert {r.data.name for r in every} == {"stl10", "digits"}
    assert requests(spec, "one") == [r for r in every if r.data.name == "digits"]
    assert requests(spec, "one", published_only=True) == [r for r in every if r.data.name == "stl10"]


def test_an_unknown_table_or_profile_is_refused_with_the_nearest(load_toy: Load, folder: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown table 'table4'. Did you mean 'table"):
        load_spec("table4")
    with pytest.raises(UnknownNameError, match=r"Unknown profile of toy 'smok'. Did you mean 'smoke'?"):
        requests(load_toy(), "smok")
    assert table_names(folder) == ["toy"]


def test_a_package_without_its_checkout_says_how_to_get_the_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report_spec, "__file__", str(tmp_path / "a" / "b" / "spec.py"))
    with pytest.raises(DataError, match="pip install -e"):
        tables_folder()


def test_every_table_of_the_checkout_loads_and_has_every_profile_and_the_yardsticks() -> None:
    assert {"gamma", "table1", "table2", "table3"} <= set(table_names())
    for name in ("gamma", "table1", "table2", "table3"):
        spec = load_spec(name)
        assert set(spec.profiles) == set(PROFILES)
        assert {m.model for m in spec.methods} == {"kmeans", "ae_kmeans", "convae", "mie", "graph"}
        assert {m.stage for m in spec.methods if m.model in ("kmeans", "ae_kmeans")} == {"attack"}
        assert {str(metric) for cell in spec.cells for metric in cell.values} <= RECORDED
        assert [cell for cell in spec.cells if Metric.parse("noise_flip") in cell.values], (
            "no starred number without its control"
        )


@pytest.mark.parametrize(
    ("name", "profile", "count"),
    [
        ("table1", "paper", 5 * 6 * 4 * 5),
        ("table2", "paper", 11 * 6 * 4 * 5),
        ("table3", "paper", (2 + 9 * 3) * 6 * 4 * 5),
        ("table3", "cpu", (2 + 9 * 3) * 3),
        ("table3", "smoke", (2 + 9 * 3) * 2),
        ("gamma", "smoke", 14 * 2 * 4),
    ],
)
def test_the_tables_ask_for_as_many_runs_as_their_axes_say(name: str, profile: str, count: int) -> None:
    assert len(requests(load_spec(name), profile)) == count


def test_a_gamma_sweep_moves_the_attack_measured_and_not_the_one_the_defense_met() -> None:
    asked = [r for r in requests(load_spec("gamma"), "smoke") if r.place["method"] == "Graph+" and r.seed == 0]
    assert [r.own_settings for r in asked] == [{"attack.gamma": gamma} for gamma in (20, 40, 80, 160)]
    assert {json.dumps(r.settings) for r in asked} == {json.dumps({"defense.mode": "frozen", "attack.gamma": 40})}


def test_a_method_may_have_a_defense_of_its_own(load_toy: Load) -> None:
    spec = load_toy(('stage = "attack"', 'stage = "reattack"'), ("[[methods]]\n", '[[methods]]\ndefense = "other"\n'))
    assert {r.defense for r in requests(spec, "one")} == {"other"}


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("lpvdn1", 7 * 2),
        ("lpvdn2", 7 * 2),
        ("lpvdn3", 4 * 2),
        ("adec1", 17 * 6 + 4 * 4),  # 4 want images, which 4 of the data sets are
        ("adec2", 3 * 6),
        ("adec3", 5 * 6 + 4 * 4),  # the same 4
        ("adec4", 3 * 6),
        ("dcan2", 9 * 3),
    ],
)
def test_the_tables_of_lpvdn_adec_and_dcan_ask_for_every_method_of_ours_on_every_data_set_of_theirs(
    name: str, cells: int
) -> None:
    spec = load_spec(name)
    assert set(spec.profiles) == {"paper", "cpu", "smoke"}
    assert len(requests(spec, "paper")) == cells * 5
    assert {(r.data.limit, r.data.normalize) for r in requests(spec, "paper")} == {(None, "none")}
    assert {r.data.name for r in requests(spec, "cpu")} <= {"fashion-mnist", "mnist10k", "reuters10k"}
    dims = {(r.seed, r.latent_dim) for r in requests(spec, "cpu") if r.model != "dcan"}
    assert dims == {(seed, 10) for seed in range({"adec1": 10, "lpvdn1": 5, "dcan2": 5}.get(name, 3))}
    assert {r.data.name for r in requests(spec, "smoke")} == {"digits"}


def test_terms_that_an_ablation_leaves_out_have_weight_0() -> None:
    for profile, weight in (("smoke", 1e-4), ("paper", 0.01)):
        asked = [r for r in requests(load_spec("lpvdn3"), profile) if r.data.name in ("digits", "reuters")]
        weights = {r.place["method"]: (r.settings["model.alpha0"], r.settings["model.alpha1"]) for r in asked}
        assert weights == {"G+MI+LP": (1, weight), "G+LP": (0, weight), "G+MI": (1, 0), "G": (0, 0)}


def test_the_autoencoder_of_k_means_is_that_of_the_other_rows() -> None:
    for name in ("lpvdn1", "lpvdn2", "adec1"):
        for profile in ("paper", "cpu"):
            asked = {r.model: r for r in requests(load_spec(name), profile) if r.model in ("ae_kmeans", "dec")}
            found = {
                model: methods.resolve("models", model, profile, nested(r.settings)["model"])
                for model, r in asked.items()
            }
            assert found["ae_kmeans"].hidden == found["dec"].hidden == (500, 500, 2000)
            assert found["ae_kmeans"].n_init == 10
            assert found["ae_kmeans"].pretrain.epochs == (100 if profile == "paper" else 50)


def test_starred_rows_have_adecs_pretraining_interval_and_images() -> None:
    asked = requests(load_spec("adec2"), "paper")
    rows = {(r.place["method"], r.model, r.settings.get("model.mode")) for r in asked}
    assert rows == {("DEC*", "dec", "star"), ("IDEC*", "idec", "star"), ("ADEC", "adec", None)}
    for name, expected in (
        ("mnist", ("acai", [1, 28, 28], None)),
        ("usps", ("acai", [1, 16, 16], 30)),
        ("reuters10k", ("vanilla", None, 30)),
        ("mice-protein", ("acai", None, 30)),
    ):
        keys = ("model.pretraining", "model.image_shape", "model.cluster.steps_per_epoch")
        found = {tuple(map(str, map(r.settings.get, keys))) for r in asked if r.data.name == name and r.model != "adec"}
        assert found == {tuple(map(str, expected))}
        own = {tuple(map(str, map(r.settings.get, keys[1:]))) for r in asked if r.data.name == name}
        assert own == {tuple(map(str, expected[1:]))}, "the same pretrained network for all"
    assert {r.settings["model.alpha"] for r in asked} == {"unit"}, "the paper's"


@pytest.mark.parametrize("profile", ["paper", "cpu", "smoke"])
def test_tables_and_figures_of_adec_ask_for_the_same_runs(profile: str) -> None:
    """One method on one data set with one seed has one set of settings, wherever it is shown."""
    names = [name for name in [*table_names(), *figure_names()] if name.startswith("adec")]
    asked = [(name, request) for name in names for request in requests(load_spec(name), profile)]
    found: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name, request in asked:
        settings = {**request.settings, **request.own_settings}
        place = request.place["method"], request.place["data"], str(request.seed), str(settings.get("model.gamma"))
        found.setdefault(place, {}).setdefault(json.dumps(settings, sort_keys=True), []).append(name)
    assert len(names) == 4 + 9
    assert not [users for users in found.values() if len(users) > 1]


def test_dcan_has_the_papers_network_on_each_data_set() -> None:
    asked = [r for profile in ("paper", "cpu") for r in requests(load_spec("dcan2"), profile) if r.model == "dcan"]
    networks = {(r.data.name, r.latent_dim, str(r.settings.get("model.hidden"))) for r in asked}
    assert networks == {
        *((name, 256, "None") for name in ("mnist", "mnist10k", "fashion-mnist")),
        ("reuters10k", 500, "[100]"),
        ("cifar10", 128, "[1024, 512]"),
    }
    assert {r.place["method"]: (r.settings.get("model.mode"), r.settings.get("model.draw")) for r in asked} == {
        "DCAN": ("clean", "sample"),
        "DCAN, 500 steps": ("paper", None),
        "DCAN, mean": (None, "mean"),
    }


def test_an_axis_of_one_value_may_be_left_out_of_rows_and_columns() -> None:
    spec = load_spec("ardmvc1")
    assert "latent_dim" not in spec.rows + spec.columns
    assert len(requests(spec, "cpu")) == (7 + 2) * 2 * 2 * 3  # victims and defended, data, batch norm, seeds
    assert {(r.model, r.stage, r.defense) for r in requests(spec, "cpu") if r.place["method"].startswith("AR")} == {
        ("comvc", "reattack", "ar_dmvc"),
        ("comvc", "reattack", "ar_dmvc_am"),
    }


def test_a_sweep_over_a_defense_holds_for_the_defense_before_a_reattack() -> None:
    asked = requests(load_spec("ardmvc_grid"), "smoke")
    assert {(r.settings["defense.lam"], r.settings["defense.gamma"]) for r in asked} == {
        (lam, gamma) for lam in (0.1, 1.0, 10.0, 100.0) for gamma in (0.1, 1.0)
    }
    assert {json.dumps(r.own_settings) for r in asked} == {'{"attack.bn": "batch"}'}


def test_the_sweeps_of_ar_dmvc_attack_the_models_that_its_table_1_defends() -> None:
    def defended(name: str) -> set[str]:
        asked = [r for r in requests(load_spec(name), "paper") if r.defense]
        kept = [{path: r.settings[path] for path in r.settings if not path.startswith("attack.")} for r in asked]
        return {f"{r.defense} {r.data.name} {r.seed} {json.dumps(own)}" for r, own in zip(asked, kept, strict=True)}

    for name in ("ardmvc_eps", "ardmvc_terms"):
        assert defended(name) < defended("ardmvc1")


def test_the_data_sets_of_ar_dmvc_have_the_schedules_of_its_code() -> None:
    for name in ("ardmvc1", "ardmvc1_code", "ardmvc_eps", "ardmvc_terms"):
        asked = [r for r in requests(load_spec(name), "paper") if r.data.name == "patchedmnist"]
        found = {r.place["method"]: r.settings for r in asked}
        assert found["AR-DMVC"]["defense.schedule.epochs"] == found["AR-DMVC-AM"]["defense.schedule.epochs"] == 40
        assert found["InfoDDC"]["model.pretrain_first"] is True
        names = ("pretrain.epochs", "cluster.epochs", "weights", "reconstruct")
        assert [found["SEM"][f"model.{one}"] for one in names] == [30, 90, "mmd", "denoising"]


def test_the_table_by_the_codes_protocol_has_every_method_in_mode_paper_and_the_published_cells() -> None:
    asked = requests(load_spec("ardmvc1_code"), "paper")
    assert {r.place["method"] for r in asked} == {r.place["method"] for r in requests(load_spec("ardmvc1"), "paper")}
    for request in asked:
        groups = ("model", "attack", "defense") if request.defense else ("model", "attack")
        assert all(request.settings[f"{group}.mode"] == "paper" for group in groups)
    assert load_published("ardmvc1_code") == load_published("ardmvc1")


def test_every_published_cell_of_ardmvc1_is_there() -> None:
    published = load_published("ardmvc1")
    assert len(published.cells) == 9 * 4 * 6
    data = DataRef("noisymnist")
    assert published.value(data, method="AR-DMVC-AM", latent_dim=64, metric="ACC*_refit") == 93
    assert published.value(data, method="CoMVC", latent_dim=64, metric="NMI_refit") == 99
    assert published.value(DataRef("noisymnist", limit=5000), method="CoMVC", latent_dim=64, metric="NMI_refit") is None


def test_a_part_of_a_table_has_the_values_asked_for_under_any_of_their_names() -> None:
    spec = load_spec("lpvdn1")
    part = narrowed(spec, "cpu", {"data": ["MNIST10K-vector"], "method": ["dec", "VaDE"], "seed": ["0", "1"]})
    asked = requests(part, "cpu")
    assert {(one.place["method"], one.data.name, one.seed) for one in asked} == {
        (method, "mnist10k", seed) for method in ("DEC", "VaDE") for seed in (0, 1)
    }
    whole = {(one.place["method"], one.data.name, one.seed): one for one in requests(spec, "cpu")}
    assert all(whole[one.place["method"], one.data.name, one.seed] == one for one in asked)
    assert requests(part, "paper") != requests(spec, "paper"), "methods are those of every profile"
    assert part.profiles["paper"] == spec.profiles["paper"]


def test_a_part_may_be_of_a_sweep_and_of_metrics() -> None:
    spec = load_spec("adec_gamma")
    (axis,) = spec.profile("cpu").sweep
    part = narrowed(spec, "cpu", {axis: ["0.1", "10.0"], "metric": ["acc"]})
    assert part.profile("cpu").sweep[axis] == (0.1, 10.0)
    assert [cell.label for cell in part.cells] == ["ACC"]


@pytest.mark.parametrize(
    ("only", "sentence"),
    [
        ({"dat": ["x"]}, "Unknown axis of lpvdn1 'dat'. Did you mean 'data'?"),
        ({"seed": ["7"]}, "Unknown seed of lpvdn1 in profile cpu '7'. Known: 0, 1, 2, 3, 4."),
        ({"method": ["DECK"]}, "Unknown method of lpvdn1 in profile cpu 'DECK'. Did you mean 'DEC'?"),
    ],
)
def test_an_unknown_part_lists_what_there_is(only: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        narrowed(load_spec("lpvdn1"), "cpu", only)
    assert caught.value.message == sentence


def test_a_name_with_a_comma_is_asked_for_in_quotes_and_shown_in_them() -> None:
    only = chosen_part(['method="IDEC*, 13,000 steps",VaDE, "ADEC, KL summed"', "seed=0,1"])
    assert only == {"method": ["IDEC*, 13,000 steps", "VaDE", "ADEC, KL summed"], "seed": ["0", "1"]}
    part = narrowed(load_spec("trials"), "cpu", {"method": only["method"][:1]})
    assert [method.model for method in part.methods] == ["idec"]
    with pytest.raises(UnknownNameError, match='Known: "ADEC, 13,000 steps", '):
        narrowed(load_spec("trials"), "cpu", {"method": ["IDEC*"]})


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "gamma", "alrdc", "clustering"])
def test_alrdcs_tables_have_mnist_and_fashion_mnist_at_full_size_as_vectors_and_images(name: str) -> None:
    """Its main paper has them; what it printed of them could not be had, so no cell claims to be published."""
    asked = [r for r in requests(load_spec(name), "paper") if r.model == "convae"]
    whole = {(data, flatten) for data in ("mnist", "fashion-mnist") for flatten in (True, False)}
    assert {(r.data.name, r.data.flatten) for r in asked} == {*whole, ("stl10", False), ("reuters10k", False)}
    assert {(r.data.limit, r.data.normalize) for r in asked} == {(None, "alrdc")}
    published = load_published(name)
    assert not published.has(DataRef("mnist"))
    assert not published.has(DataRef("fashion-mnist", flatten=True))


@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_alrdcs_tables_say_how_far_points_moved_and_what_pgd_does_within_one_radius(name: str) -> None:
    spec = load_spec(name)
    shown = {str(metric) for form in spec.cells for metric in form.values}
    assert {"flip", "delta_norm", "pgd_flip"} <= shown
    assert any("PGD, one radius: flips by PGD within the mean size of the attack" in note for note in spec.notes)
    if name != "table1":
        labels = [method.label for method in spec.methods]
        for model in ("ConvAE", "MIE", "Graph"):
            at = labels.index(f"{model}+")
            assert labels[at : at + 3] == [f"{model}+", f"{model} control", f"{model} alternating"], "D beside D"


@pytest.mark.parametrize("name", ["ardmvc1", "ardmvc1_code"])
def test_ar_dmvcs_table_has_pgd_at_the_attacks_radius_and_at_the_one_that_the_defense_trains_at(name: str) -> None:
    spec = load_spec(name)
    shown = {str(metric) for form in spec.cells for metric in form.values}
    assert {"pgd_flip", "pgd_assignment_flip_at_0.2", "pgd_shift_flip_at_0.2"} <= shown
    assert {"training.losses.complementarity", "training.losses.consistency"} <= shown
    assert any("for 200 steps here, for 10,500 in the paper" in note for note in spec.profile("cpu").notes)
