from pathlib import Path

import pytest

from robust_cluster.errors import DataError
from robust_cluster.report.compare import load_published
from robust_cluster.report.spec import load_spec, requests
from robust_cluster.runs.spec import DataRef

STL, REUTERS = DataRef("stl10"), DataRef("reuters10k")
DIMS = (64, 128, 256, 512)
STARRED = ("DEC*", "IDEC*", "ADEC")
MARKED = {"reuters10k": "‡", "mice-protein": "†"}
CELLS = [(data, model, dim) for data in (STL, REUTERS) for model in ("ConvAE", "MIE", "Graph") for dim in DIMS]


def paper(table: int, metric: str, suffix: str = "") -> list[float]:
    """One metric of all 24 cells of a published table."""
    published = load_published(f"table{table}")
    values = [published.value(data, method=model + suffix, latent_dim=dim, metric=metric) for data, model, dim in CELLS]
    assert None not in values
    return [value for value in values if value is not None]


@pytest.mark.parametrize(
    ("table", "data", "method", "dim", "metric", "value"),
    [
        ("table1", STL, "ConvAE", 64, "ACC", 84.7),
        ("table1", STL, "ConvAE", 512, "ACC*", 65.8),
        ("table1", STL, "MIE", 128, "NMI*", 80.4),
        ("table1", STL, "Graph", 512, "D", 4.24),
        ("table1", REUTERS, "MIE", 256, "ACC", 76.3),
        ("table1", REUTERS, "Graph", 64, "NMI*", 39.6),
        ("table2", STL, "ConvAE+", 64, "ACC*", 87.6),
        ("table2", STL, "Graph+", 128, "NMI*", 88.7),
        ("table2", REUTERS, "ConvAE+", 256, "NMI*", 53.9),
        ("table2", REUTERS, "Graph+", 512, "ACC", 82.7),
        ("table3", STL, "ConvAE+", 128, "ACC*", 79.5),
        ("table3", STL, "Graph+", 64, "D", 7.01),
        ("table3", REUTERS, "MIE+", 512, "NMI*", 51.4),
        ("table3", REUTERS, "Graph+", 512, "D", 3.19),
        ("lpvdn1", DataRef("mnist"), "LPVDN", 10, "ARI", 0.9385),
        ("lpvdn1", DataRef("fashion-mnist"), "ClusterGAN", 10, "NMI", 0.6423),
        ("lpvdn2", DataRef("reuters"), "VAE+k-means", 10, "ACC", 0.6922),
        ("lpvdn3", DataRef("reuters"), "G+MI", 10, "NMI", 0.5969),
        ("adec1", DataRef("mice-protein"), "ADEC", 10, "NMI", 0.604),
        ("adec1", DataRef("usps"), "SC", 10, "NMI", 0.794),
        ("adec2", DataRef("mnist-test"), "DEC*", 10, "NMI", 0.920),
        ("adec3", DataRef("mnist"), "VaDE", 10, "training.total_seconds", 123000),
        ("adec4", DataRef("usps"), "IDEC*", 10, "training.total_seconds", 7693),
        ("dcan2", DataRef("cifar10"), "DCAN", 10, "ACC", 0.5844),
    ],
)
def test_published_cells_equal_those_read_by_eye(
    table: str, data: DataRef, method: str, dim: int, metric: str, value: float
) -> None:
    assert load_published(table).value(data, method=method, latent_dim=dim, metric=metric) == value


def test_all_published_cells_are_there() -> None:
    assert [len(load_published(f"table{n}").cells) for n in (1, 2, 3)] == [24 * 5, 24 * 4, 24 * 3]
    assert load_published("gamma").cells == {}


@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_every_published_cell_has_a_place_in_its_table(name: str) -> None:
    asked = {(r.data.name, r.place["method"], r.latent_dim) for r in requests(load_spec(name), "paper")}
    assert {key[:3] for key in load_published(name).cells} <= asked


OURS = {"DCAN, 500 steps", "DCAN, mean", "GMM, spherical", "LSNMF, k-means"}


@pytest.mark.parametrize(
    ("table", "count", "without"),
    [
        ("lpvdn1", 7 * 6, 0),
        ("lpvdn2", 7 * 6, 0),
        ("lpvdn3", 4 * 6, 0),
        ("adec1", 19 * 12, 8 + 4 * 4),
        ("adec2", 3 * 12, 0),
        ("adec3", 9 * 6, 4 * 2),
        ("adec4", 3 * 6, 0),
        ("dcan2", 7 * 3, 2),
    ],
)
def test_every_published_cell_is_there_and_has_a_place_in_its_table(table: str, count: int, without: int) -> None:
    published, spec = load_published(table), load_spec(table)
    texts = {place: note for place, note in published.notes.items() if place not in published.cells}
    assert (len(published.cells) + len(texts), len(texts)) == (count, without)
    assert set(texts.values()) <= {"OOM", "NA", "-"}
    asked = [*requests(spec, "paper"), *requests(spec, "paper", published_only=True)]
    metrics = {str(metric) for cell in spec.cells for metric in cell.values}
    places = {(r.data.name, r.place["method"], None, metric) for r in asked for metric in metrics}
    assert set(published.cells) | set(texts) <= places
    methods = {place[1] for place in published.cells}
    rows = {method.label for method in spec.methods} - OURS
    assert methods == rows, "no row without a number of the paper's, but for our variants"


def test_what_a_published_number_does_not_say_is_kept_beside_it() -> None:
    adec, lpvdn = load_published("adec1"), load_published("lpvdn1")
    mice, mnist = DataRef("mice-protein"), DataRef("mnist", flatten=True)
    assert adec.value(mice, method="GMM", latent_dim=10, metric="NMI") == 1.0
    assert adec.note(mice, method="GMM", latent_dim=10, metric="NMI").startswith("impossible")
    assert adec.value(mnist, method="RBF k-means", latent_dim=10, metric="ACC") is None
    assert adec.note(mnist, method="RBF k-means", latent_dim=10, metric="ACC") == "OOM"
    assert lpvdn.note(mnist, method="VaDE", latent_dim=10, metric="ACC") == "copied from VaDE's paper"
    assert lpvdn.note(mnist, method="LPVDN", latent_dim=10, metric="ACC") == ""
    assert lpvdn.note(DataRef("mnist", limit=10), method="VaDE", latent_dim=10, metric="ACC") == ""


def test_the_daggers_of_adec_are_kept_in_all_four_tables() -> None:
    """‡: pretrained without augmentation and interpolation; †: without augmentation."""
    for name, rows in {"adec1": ["ADEC"], "adec3": ["ADEC"], "adec2": [*STARRED], "adec4": [*STARRED]}.items():
        published = load_published(name)
        found = {(place[0], place[1], note[0]) for place, note in published.notes.items() if note[0] in "†‡"}
        assert found == {(data, row, mark) for row in rows for data, mark in MARKED.items()}, name


def test_the_published_attack_lowers_accuracy_in_all_24_cells() -> None:
    drops = [clean - moved for clean, moved in zip(paper(1, "ACC"), paper(1, "ACC*"), strict=True)]
    assert len(drops) == 24
    assert (min(drops), max(drops)) == pytest.approx((4.7, 14.8))


def test_the_published_defense_closes_the_gap_under_the_old_attacker() -> None:
    gains = [after - before for after, before in zip(paper(2, "ACC", "+"), paper(1, "ACC"), strict=True)]
    gaps = [abs(clean - moved) for clean, moved in zip(paper(2, "ACC", "+"), paper(2, "ACC*", "+"), strict=True)]
    assert (min(gains), max(gains)) == pytest.approx((0.0, 6.0))
    assert max(gaps) <= 0.6 + 1e-9


def test_the_published_reattack_needs_larger_moves_in_all_24_cells() -> None:
    ratios = [second / first for second, first in zip(paper(3, "D", "+"), paper(1, "D"), strict=True)]
    below = [clean - moved for clean, moved in zip(paper(2, "ACC", "+"), paper(3, "ACC*", "+"), strict=True)]
    above = [second - first for second, first in zip(paper(3, "ACC*", "+"), paper(1, "ACC*"), strict=True)]
    assert [round(min(ratios), 2), round(max(ratios), 2)] == [1.07, 5.92]
    assert (min(below), max(below)) == pytest.approx((2.0, 8.3))
    assert (min(above), max(above)) == pytest.approx((1.2, 15.7))


def test_a_subset_of_a_published_data_set_is_another_data_set() -> None:
    published = load_published("table1")
    assert published.has(STL)
    assert not published.has(DataRef("stl10", limit=1000))
    assert published.value(DataRef("stl10", limit=1000), method="ConvAE", latent_dim=64, metric="ACC") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data,model,value\n", "must have the columns data, model, latent_dim, metric, value, notes"),
        ("data,model,latent_dim,metric,value,notes\nstl10,MIE,64,ACC,8o.1,\n", "line 2: could not convert string"),
    ],
)
def test_a_broken_file_of_published_numbers_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "toy.published.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=sentence):
        load_published("toy", tmp_path)
