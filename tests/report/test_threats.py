"""One column, one threat model."""

from typing import Any

import pytest

from robust_cluster.errors import ConfigError
from robust_cluster.report.table import build
from robust_cluster.report.threats import stated
from robust_cluster.runs.spec import DataRef
from tests.report.toy import Load, Table, record

LINF = {"space": "input", "norm": "linf", "eps_model": 0.1, "knowledge": "white", "stage": "frozen"}


def attacked(model: str, data: str = "stl10", **changes: Any) -> dict[str, Any]:
    return {**record(model=model, data=DataRef(data), metrics={"ACC": 0.9, "ACC*": 0.5}), "threat": LINF | changes}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"space": "latent"}, "space input and latent"),
        ({"norm": "l2"}, "norm linf and l2"),
        ({"knowledge": "label"}, "knowledge white and label"),
        ({"stage": "re-fit"}, "stage frozen and re-fit"),
        ({"eps_model": 0.2}, "eps 0.1 and 0.2"),
        ({"views": [0]}, r"views None and \[0\]"),
        ({"bn": "batch"}, "bn None and batch"),
        ({"view_eps": [0.1, 0.3]}, r"view_eps None and \[0.1, 0.3\]"),
        ({"box": [0.0, 2.0]}, r"box \[0.0, 1.0\] and \[0.0, 2.0\]"),
        ({"train_share": 1.0}, "train_share 0.8 and 1.0"),
        ({"sigma": 0.2}, "sigma 0.1 and 0.2"),
        ({"norm": "l2", "sigma": 0.2}, "norm linf and l2, sigma 0.1 and 0.2"),
    ],
)
def test_two_threat_models_in_one_column_are_refused(table: Table, changes: dict[str, Any], difference: str) -> None:
    full = {"view_eps": None, "box": [0.0, 1.0], "train_share": 0.8, "sigma": 0.1}
    records = [attacked("kmeans", **full), attacked("convae", **full | changes)]
    with pytest.raises(ConfigError, match=rf"toy puts different threat models into one column \(64\): .*{difference}"):
        table(records)


def test_rows_that_scale_the_same_images_differently_share_a_column(table: Table) -> None:
    """0.1 of the range of pixels is 0.1 of 255 and 0.1 of 2."""
    raw = {"eps_model": 25.5, "eps_pixels": 0.1, "box": [0.0, 255.0], "sigma": 0.4}
    scaled = {"eps_model": 0.2, "eps_pixels": 0.1, "box": [0.0, 2.0], "sigma": 0.4}
    table([attacked("kmeans", **raw), attacked("convae", **scaled)])
    for changes, difference in (
        ({"eps_model": 0.4, "eps_pixels": 0.2}, "eps 0.1 and 0.2"),
        ({"box": [0.0, 1.0]}, r"box \[0.0, 1.0\] and \[0.0, 0.5\]"),
        ({"box": None}, r"box \[0.0, 1.0\] and None"),
        ({"sigma": 0.2}, "sigma 0.4 and 0.2"),  # recorded as a share
    ):
        with pytest.raises(ConfigError, match=difference):
            table([attacked("kmeans", **raw), attacked("convae", **scaled | changes)])


def test_what_older_records_do_not_state_is_not_compared(table: Table) -> None:
    later = {"view_eps": [0.1], "box": [0.0, 1.0], "train_share": 1.0, "sigma": 0.1}
    table([attacked("kmeans"), attacked("convae", **later)])
    learns_nothing = attacked("kmeans", train_share=None)
    table([learns_nothing, attacked("convae", train_share=1.0)])


def test_an_attacker_that_learned_from_the_undefended_model_transfers_to_the_defended_one() -> None:
    def defended(**changes: Any) -> dict[str, Any]:
        one = attacked("convae", **changes)
        return {**one, "spec": {**one["spec"], "stage": "defend"}}

    assert stated(defended(train_share=1.0))["knowledge"] == "transfer"
    assert stated(defended(train_share=None))["knowledge"] == "white"


def test_a_radius_that_a_method_pins_is_compared_too(load_toy: Load) -> None:
    pinned = '\n\n[[methods]]\nlabel = "{model}, wider"\nmodels = ["convae"]\nset = { "attack.eps" = 0.2 }'
    spec = load_toy(('models = ["kmeans", "convae"]', f'models = ["kmeans"]{pinned}'))
    wide = attacked("convae", eps_model=0.2)
    wide["spec"]["settings"] = {"attack": {"eps": 0.2}}
    with pytest.raises(ConfigError, match=r"eps 0\.1 and 0\.2"):
        build(spec, [attacked("kmeans"), wide], profile="smoke")


def test_another_data_set_may_have_another_radius_and_no_other_norm(table: Table) -> None:
    table([attacked("kmeans"), attacked("kmeans", "digits", eps_model=0.3)])
    with pytest.raises(ConfigError, match="norm linf and l2"):
        table([attacked("kmeans"), attacked("kmeans", "digits", norm="l2")])


def test_clean_columns_and_columns_of_their_own_are_not_compared(table: Table) -> None:
    records = [attacked("kmeans"), attacked("convae", norm="l2")]
    table(records, ('values = ["ACC", "ACC*"]', 'values = ["ACC"]'), ('values = ["D"]', 'values = ["NMI"]'))
    table(
        records,
        ('rows = ["data", "method", "metric"]', 'rows = ["data", "metric"]'),
        ('columns = ["latent_dim"]', 'columns = ["latent_dim", "method"]'),
    )


def test_a_swept_radius_is_the_tables_own(load_toy: Load) -> None:
    spec = load_toy(
        ('columns = ["latent_dim"]', 'columns = ["latent_dim", "attack.eps"]'),
        ("seed = [0, 1]\n", 'seed = [0, 1]\n"attack.eps" = [0.1, 0.2]\n'),
    )
    records = []
    for eps in (0.1, 0.2):
        one = attacked("kmeans", eps_model=eps)
        one["spec"]["settings"] = {"attack": {"eps": eps}}
        records.append({**one, "key": str(eps)})
    build(spec, records, profile="smoke")


def test_rows_of_clusters_fitted_anew_may_stand_under_rows_that_keep_them(table: Table) -> None:
    both = ('values = ["D"]', 'values = ["ACC*_refit"]')
    table([attacked("kmeans"), attacked("convae")], both)
    with pytest.raises(ConfigError, match="stage frozen and adaptive"):
        table([attacked("kmeans"), attacked("convae", stage="adaptive")], both)
