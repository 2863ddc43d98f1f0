"""What is drawn of an attack: pixels, titles and lines by value, and files that are the same every time."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from robust_cluster.errors import ConfigError, RobustClusterError, StoreError
from robust_cluster.measure.images import Sheet
from robust_cluster.measure.portraits import Decodings, Strip
from robust_cluster.report import canvas, run_figures
from robust_cluster.runs.spec import DataRef, RunSpec
from tests.report.toy import lines

CLUSTER = RunSpec("cluster", DataRef("noisy:mine", limit=300), "ab" * 32, "simvc", 64, 0)
SPEC = replace(CLUSTER, stage="attack", attack="view_gan", attack_seed=0, parent=CLUSTER)
DEFENDED = replace(CLUSTER, stage="defend", defense="ar_dmvc", parent=SPEC)
METRICS = {
    "ACC": 0.92,
    "ACC_pgd_rows": 0.9,
    "ACC*_noise": 0.85,
    "ACC*_pgd": 0.2,
    "noise_flip": 0.05,
    "pgd_flip": 0.75,
    "eps": 0.3,
    "samples": 7000,
    "pgd_samples": 500,
}
POINTS = [{"flip": 0.25, "ACC*": 0.7}, {"flip": 0.5, "ACC*": 0.4}]


def made(columns: int = 2, *, shapes: Any = ((1, 4, 4), (1, 4, 4)), eps: float = 0.25, **more: Any) -> Sheet:
    """Random images moved by -eps, 0 or eps, of the classes 0, 1, ... taken for the next."""
    random = np.random.default_rng(0)
    clean = tuple(random.uniform(0.3, 0.7, (columns, *shape)).astype(np.float32) for shape in shapes)
    moved = tuple((v + eps * random.integers(-1, 2, v.shape)).astype(np.float32) for v in clean)
    own = np.arange(columns)
    fields: dict[str, Any] = {"has_classes": True, "n_scored": 1200, "n_misled": columns, "n_before": 0, "flip": 0.5}
    return Sheet(SPEC, eps, clean, moved, rows=own, own=own, found=own + 1, **(fields | more))


def record(**changes: Any) -> dict[str, Any]:
    return {"spec": SPEC.to_json(), "metrics": METRICS, "curve": POINTS} | changes


def pixels(axes: Axes) -> Any:
    """What an image's axes show."""
    (image,) = axes.get_images()
    assert image.get_clim() == (0, 1)
    return np.asarray(image.get_array())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_a_column_shows_clean_perturbation_and_moved_of_every_view() -> None:
    sheet = made()
    axes = run_figures.images(sheet).axes
    assert len(axes) == 2 * 3 * 2
    for view in range(2):
        for column in range(2):
            clean, delta, moved = (pixels(axes[(3 * view + row) * 2 + column]) for row in range(3))
            assert np.array_equal(clean, sheet.clean[view][column, 0])
            assert np.array_equal(moved, sheet.moved[view][column, 0])
            expected = 0.5 + (sheet.moved[view][column, 0] - sheet.clean[view][column, 0]) / 0.5
            np.testing.assert_allclose(delta, expected, atol=1e-6)
            assert {0.0, 1.0} <= {round(float(value), 3) for value in delta.flat} <= {0.0, 0.5, 1.0}
            assert 0 <= delta.min() <= delta.max() <= 1, "rounding does not leave the range of pixels"
    assert [axes[2 * row].get_ylabel() for row in range(6)] == [
        *("view 1, clean", "perturbation", "moved"),
        *("view 2, clean", "perturbation", "moved"),
    ]


def test_colors_are_drawn_as_colors() -> None:
    sheet = made(shapes=((3, 4, 2),))
    shown = pixels(run_figures.images(sheet).axes[1])
    assert shown.shape == (4, 2, 3)
    for channel in range(3):
        assert np.array_equal(shown[:, :, channel], sheet.clean[0][1, channel])


def test_without_a_budget_the_perturbation_is_gray() -> None:
    assert set(pixels(run_figures.images(made(eps=0.0)).axes[2]).flat) == {0.5}


def test_a_column_is_titled_by_its_class_and_the_one_it_is_taken_for() -> None:
    axes = run_figures.images(replace(made(3), found=np.array([7, -1, 0]))).axes
    assert [one.get_title() for one in axes[:4]] == ["0 → 7", "1 → none", "2 → 0", ""]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "all 2 samples wrong under the attack; 1,200 scored"),
        ({"n_misled": 532}, "first 2 of 532 samples wrong under the attack; 1,200 scored"),
        (
            {"n_misled": 532, "n_before": 210},
            "first 2 of 532 samples wrong under the attack, 210 of them wrong before it; 1,200 scored",
        ),
        ({"has_classes": False}, "all 2 samples that change cluster under the attack; 1,200 scored"),
    ],
)
def test_the_heading_says_which_samples_are_shown_of_how_many(changes: dict[str, Any], expected: str) -> None:
    first, second = run_figures.heading(made(**changes))
    assert first == f"view_gan on simvc, noisy-mine-300, run {SPEC.key}"
    assert second == expected


def test_the_heading_names_the_defense_of_the_attacked_model() -> None:
    spec = replace(SPEC, stage="reattack", parent=DEFENDED)
    assert run_figures.title(spec) == f"view_gan on simvc after ar_dmvc, noisy-mine-300, run {spec.key}"


def test_the_notes_below_say_what_columns_and_grays_mean() -> None:
    sheet = made()
    drawn = "pixels in [0, 1]; perturbation δ drawn as 0.5 + δ / 2ε, ε = 0.25"
    assert run_figures.notes(sheet) == ["columns: true class → predicted", drawn]
    shown = [text.split("\n") for text in texts(run_figures.images(sheet))]
    assert shown == [run_figures.heading(sheet), run_figures.notes(sheet)]
    clusters = run_figures.notes(made(has_classes=False))
    assert clusters[0] == "columns: cluster before → under the attack"


@pytest.mark.parametrize(
    ("has_classes", "sentence"),
    [
        (True, "there is nothing to draw: none of 1,200 samples is in a wrong cluster under view_gan"),
        (False, "there is nothing to draw: none of 1,200 samples changes its cluster under view_gan"),
    ],
)
def test_an_attack_that_misleads_nobody_is_refused(has_classes: bool, sentence: str) -> None:
    with pytest.raises(RobustClusterError, match=sentence) as error:
        run_figures.images(made(0, has_classes=has_classes))
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    "sheet",
    [
        made(1, n_misled=15320, n_before=12100, n_scored=35000),
        pytest.param(made(10, shapes=((3, 32, 16), (3, 32, 16)), n_misled=5320), marks=pytest.mark.slow),
        made(3, shapes=((1, 8, 8), (1, 8, 16), (1, 16, 8))),
    ],
    ids=["one column", "ten", "unequal"],
)
def test_nothing_overlaps_or_leaves_the_figure(sheet: Sheet) -> None:
    figure = run_figures.images(sheet)
    boxes = [axes.get_position() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    check_extent(figure)
    for axes in figure.axes:
        height, width = pixels(axes).shape[:2]
        box = axes.get_window_extent()
        assert box.height / box.width == pytest.approx(height / width, rel=1e-3), "pixels are square"


def check_extent(figure: Figure) -> None:
    """Every text and image lies inside the figure, and no text on another."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    whole = figure.bbox
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    extents = [text.get_window_extent(renderer) for text in shown]
    for text, box in zip(shown, extents, strict=True):
        assert whole.x0 <= box.x0, text
        assert box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0, text
        assert box.y1 <= whole.y1, text
    for i, box in enumerate(extents):
        touched = [shown[j].get_text() for j in range(i) if box.overlaps(extents[j])]
        assert touched == [], shown[i].get_text()


def test_the_curve_starts_at_the_clean_score_and_has_noise_and_pgd_beside_it() -> None:
    figure = run_figures.curve(record())
    accuracy, flips = figure.axes
    assert lines(accuracy) == {
        "attack": ([0, 1, 2], [90, 70, 40]),
        "PGD": ([0, 1], [20, 20]),
        "worst noise": ([0, 1], [85, 85]),
    }
    assert lines(flips) == {
        "attack": ([0, 1, 2], [0, 25, 50]),
        "PGD": ([0, 1], [75, 75]),
        "worst noise": ([0, 1], [5, 5]),
    }
    assert (accuracy.get_ylabel(), flips.get_ylabel()) == ("ACC (%)", "samples that change cluster (%)")
    assert {axes.get_xlabel() for axes in figure.axes} == {"attack epoch"}
    assert {axes.get_xlim() for axes in figure.axes} == {(0, 2)}
    assert {axes.get_ylim() for axes in figure.axes} == {(-2, 102)}
    check_extent(figure)


def test_the_caption_of_the_curve_says_on_how_many_samples() -> None:
    first, second = run_figures.caption(record()).split("\n")
    assert first == f"view_gan on simvc, noisy-mine-300, run {SPEC.key}"
    assert second == "ε = 0.3, pixels in [0, 1]; 7,000 samples; attack and PGD on 500 of them"
    few = record(metrics={**METRICS, "samples": 300, "pgd_samples": 300})
    assert run_figures.caption(few).endswith("; 300 samples")


def test_where_pgd_was_not_run_the_curve_starts_at_acc() -> None:
    metrics = {name: value for name, value in METRICS.items() if "pgd" not in name}
    accuracy, flips = run_figures.curve(record(metrics=metrics)).axes
    assert lines(accuracy)["attack"][1] == [92, 70, 40]
    assert set(lines(accuracy)) == set(lines(flips)) == {"attack", "worst noise"}


def test_without_labels_only_flips_are_drawn() -> None:
    metrics = METRICS | dict.fromkeys(("ACC", "ACC_pgd_rows", "ACC*_noise", "ACC*_pgd"))
    figure = run_figures.curve(record(metrics=metrics, curve=[{"flip": 0.25}, {"flip": 0.5}]))
    (flips,) = figure.axes
    assert lines(flips)["attack"] == ([0, 1, 2], [0, 25, 50])
    check_extent(figure)


def test_epochs_are_whole_numbers() -> None:
    figure = run_figures.curve(record(curve=POINTS[:1]))
    ticks = figure.axes[0].get_xticks()
    assert all(float(tick).is_integer() for tick in ticks)


@pytest.mark.parametrize("content", [{"curve": []}, {"curve": None}])
def test_a_run_without_a_curve_is_refused(content: dict[str, Any]) -> None:
    spec = replace(SPEC, attack="latent_net").to_json()
    with pytest.raises(ConfigError, match="latent_net has no curve: only attackers trained on the views are scored"):
        run_figures.curve(record(spec=spec, **content))


@pytest.mark.parametrize("suffix", [".svg", *(pytest.param(kind, marks=pytest.mark.slow) for kind in (".png", ".pdf"))])
def test_the_same_figure_is_the_same_file_whatever_the_users_settings(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("first", "folder/second")]
    before = dict(matplotlib.rcParams)
    canvas.save(run_figures.images(made()), paths[0])
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"lines.linewidth": 9, "savefig.dpi": 30, "font.size": 30, "svg.hashsalt": "other"}):
        canvas.save(run_figures.images(made()), paths[1])
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert len(first) > 5000
    for trace in (b"atplotlib version", b"Matplotlib v", b"CreationDate", b"dc:date", b"dc:creator"):
        assert trace not in first


@pytest.mark.slow
def test_a_dollar_in_a_name_is_a_dollar(tmp_path: Path) -> None:
    sheet = replace(made(), spec=replace(SPEC, data=DataRef("cost$_$x")))
    canvas.save(run_figures.images(sheet), tmp_path / "figure.png")
    assert "cost$_$x" in texts(run_figures.images(sheet))[0]


@pytest.mark.parametrize("name", ["figure.jpg", "figure", "figure.PNG"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"must end in \.png, \.pdf, \.svg, got '{name}' \(--output FILE\)"):
        canvas.save(run_figures.curve(record()), tmp_path / name)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    figure = run_figures.curve(record())
    for path in (tmp_path / "file" / "figure.png", tmp_path / "folder.png"):
        with pytest.raises(StoreError, match=f"The figure cannot be written to {path}: "):
            canvas.save(figure, path)


def test_without_matplotlib_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RobustClusterError) as error:
        run_figures.curve(record())
    assert str(error.value) == "figures need matplotlib (pip install -e '.[figures]')"


def test_figures_need_no_display_and_are_imported_without_matplotlib(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from robust_cluster.report import canvas, run_figures
assert not {{"matplotlib", "torch"}} & set(sys.modules)
canvas.save(run_figures.curve({record()!r}), Path({str(tmp_path / "curve.png")!r}))
assert "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
"""
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    env["MPLBACKEND"] = "TkAgg"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


CERTIFIED = {"radii": [0.0, 0.5], "share": [0.9, 0.25], "ACC": [0.8, 0.2], "radius_cap": 0.61}
NOISE = {"sigma": 0.25, "n": 10_000, "alpha": 0.001, "rows": 200, "space": "input"}


def certified(own: float | None = 0.85, **changes: Any) -> dict[str, Any]:
    spec = replace(SPEC, stage="certify", attack=None, attack_seed=None, parent=DEFENDED)
    return {"spec": spec.to_json(), "metrics": {"ACC_rows": own}, "certified": {**CERTIFIED, **NOISE, **changes}}


def test_a_certificate_shows_both_curves_the_clean_acc_and_the_largest_radius() -> None:
    figure = run_figures.certificate(certified())
    (axes,) = figure.axes
    assert lines(axes) == {
        "certified stable": ([0, 0.5], [90, 25]),
        "certified ACC": ([0, 0.5], [80, 20]),
        "ACC without noise or attack": ([0, 1], [85, 85]),
        "largest radius of so many draws": ([0.61, 0.61], [0, 1]),
    }
    first, second = run_figures.certificate_caption(certified()).split("\n")
    assert first.startswith("simvc after ar_dmvc smoothed, noisy-mine-300, run ")
    assert second == "σ = 0.25, 10,000 draws a point, each certificate right with 99.90%; 200 points"
    assert axes.get_xlabel() == "L2 radius, share of the value range"
    check_extent(figure)


def test_a_certificate_without_labels_shows_stability_alone() -> None:
    (axes,) = run_figures.certificate(certified(None, ACC=None, space="latent")).axes
    assert set(lines(axes)) == {"certified stable", "largest radius of so many draws"}
    assert axes.get_xlabel() == "L2 radius, embedding units"


def swept(gamma: float, seed: int = 0) -> RunSpec:
    attack = {"attack": {"gamma": gamma, "schedule": {"epochs": 3}}}
    return replace(SPEC, attack="latent_net", attack_seed=seed, settings=attack)


def decoded_of(n_moved: int) -> Decodings:
    """Two columns of a sample, its decoding and those of two attacks."""
    random, columns = np.random.default_rng(0), min(2, n_moved)
    strips = [
        Strip(label, random.random((columns, 4, 4, 1), np.float32), np.arange(columns), np.array([3, 5 + i])[:columns])
        for i, label in enumerate(("sample", "decoded", "γ = 20", "γ = 40"))
    ]
    return Decodings(strips, (0.12, 0.5), n_moved, 1200)


def test_runs_of_a_sweep_stand_in_its_order_with_what_they_differ_in() -> None:
    specs = [swept(160), swept(20), swept(80), swept(40), swept(20)]
    ordered = run_figures.in_order(specs)
    assert [label for label, _ in ordered] == ["γ = 20", "γ = 40", "γ = 80", "γ = 160"]
    assert [spec.settings["attack"]["gamma"] for _, spec in ordered] == [20, 40, 80, 160]
    assert [label for label, _ in run_figures.in_order([swept(40)])] == ["γ = 40"], "of one run its γ"
    seeds = run_figures.in_order([swept(40, 1), swept(40)])
    assert [label for label, _ in seeds] == ["attack seed = 0", "attack seed = 1"]
    assert run_figures.in_order([replace(swept(40), settings={})])[0][0] == "moved"
    pgd = replace(swept(40), attack="latent_pgd", settings={"attack": {"eps": 1.0, "norm": None}})
    both = [label for label, _ in run_figures.in_order([pgd, swept(40)])]
    assert both == ["attack = latent_net", "attack = latent_pgd"], "settings that one of them lacks tell nothing"


def test_decodings_of_a_sweep_are_rows_under_the_clean_ones() -> None:
    figure = run_figures.decoded(decoded_of(41), [swept(20), swept(40)])
    assert len(figure.axes) == 4 * 2
    shown = texts(figure)
    assert {"sample", "decoded", "γ = 20\n12 % flip", "γ = 40\n50 % flip"} <= set(shown)
    heading = shown[-1].splitlines()
    assert heading[0] == f"latent_net on simvc, noisy-mine-300, run {swept(20).key}, {swept(40).key}"
    assert heading[1].startswith("first 2 of 41 samples that change cluster, 1,200 scored; ")
    assert [axes.get_title() for axes in figure.axes] == ["3", "5", "3", "6", "3", "7", "3", "8"]
    check_extent(figure)


def test_attacks_that_move_nobody_are_refused() -> None:
    sentence = "there is nothing to draw: none of 1,200 samples changes its cluster under latent_net$"
    with pytest.raises(RobustClusterError, match=sentence):
        run_figures.decoded(decoded_of(0), [swept(20), swept(40)])
