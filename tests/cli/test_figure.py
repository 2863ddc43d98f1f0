"""`rc figure`: what it draws of which runs, what goes to stdout, and the sentence for everything else."""

import csv
import json
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_cluster.cli import figure
from robust_cluster.measure import embeddings
from robust_cluster.measure.images import Sheet
from robust_cluster.report.spec import CellRequest, load_spec, requests
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import auditing
from robust_cluster.stages import finished as sheets
from robust_cluster.stages.settings import nested
from tests.cli.command import printed_without, rc, refused
from tests.made import MADE

METRICS = {"ACC": 0.9, "ACC*_noise": 0.8, "noise_flip": 0.1, "flip": 0.6, "eps": 0.3, "samples": 60}
SMOKE = "--model simvc --data noisy:mine.npz --attack pgd --norm linf --eps 0.9 --profile smoke --threads 1 --quiet"


@dataclass
class Made:
    """A finished attack by PGD on a user's own images, and where those are."""

    folder: Path
    run: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("figure")
    random = np.random.default_rng(0)
    np.savez(folder / "mine.npz", x=random.random((60, 16, 16), np.float32), y=np.arange(60) % 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(auditing, "findings", lambda *_: [])  # seconds, and of no use here
        assert rc(f"attack {SMOKE}").exit_code == 0
    (run,) = (folder / "runs" / "attack").iterdir()
    return Made(folder, run)


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Finished attacks on the embedding of one network, which decodes, at three radii."""
    folder = tmp_path_factory.mktemp("decoded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(auditing, "findings", lambda *_: [])
        patch.setattr(embeddings, "latent_pgd", lambda *_: {})
        few = "--data digits --limit 100 --set model.pretrain.epochs=1 --set model.hidden=[8] --set attack.steps=2"
        words = f"--model ae_kmeans --attack latent_pgd --sweep attack.eps=0.2,0.1,0.4 {few}"
        assert rc(f"attack {words} --profile smoke --threads 1 --quiet").exit_code == 0
    return sorted((folder / "runs" / "attack").iterdir())


def finish(record: dict[str, Any] | None = None, **fields: Any) -> Path:
    """The folder of a made-up run, finished with `record` or not finished."""
    first = RunSpec("cluster", DataRef("noisy:digits-28"), "ab" * 32, "simvc", 64, 0)
    spec = replace(first, stage="attack", attack="view_gan", attack_seed=0, parent=first)
    spec = replace(spec, **fields)
    store = RunStore(Path("runs"))
    with store.own(spec) as run:
        if record is not None:
            run.finish({**MADE, **record})
    return store.path(spec)


def trained(**fields: Any) -> Path:
    return finish({"metrics": METRICS, "curve": [{"flip": 0.6, "ACC*": 0.4}]}, **fields)


def certified() -> Path:
    curve = {"radii": [0.0, 0.3, 0.6], "share": [0.9, 0.5, 0.0], "ACC": [0.8, 0.4, 0.0]}
    noise = {"sigma": 0.25, "n": 1000, "alpha": 0.001, "rows": 200, "space": "input", "radius_cap": 0.61}
    record = {"metrics": {"ACC_rows": 0.85}, "certified": {**curve, **noise}}
    return finish(record, stage="certify", attack=None, attack_seed=None)


@pytest.mark.slow
@pytest.mark.parametrize("example", [line for line in figure.VERB.examples.split("\n") if "-*" in line])
def test_every_example_of_the_help_runs_as_typed_for_a_finished_run(
    example: str, made: Made, latent: list[Path]
) -> None:
    words = shlex.split(example)[1:]
    (place,) = (i for i, word in enumerate(words) if word.startswith("runs/") and word.endswith("-*"))
    finished = {"curve": trained, "certificate": certified, "decoded": lambda: latent[0]}
    words[place] = str(next((make() for name, make in finished.items() if name in words), made.run))
    result = rc(shlex.join([*words, *(["--data-dir", str(made.folder)] if {"images", "embedding"} & {*words} else [])]))
    assert result.exit_code == 0, result.stderr
    assert Path(result.stdout.strip()).stat().st_size > 1000


@pytest.mark.slow
def test_the_example_of_a_papers_figure_runs_as_typed() -> None:
    (example,) = (line for line in figure.VERB.examples.split("\n") if line and "-*" not in line)
    write_all("lpvdn_noise", "cpu", lambda spec, request: {"metrics": {"ACC*_refit": 0.5, "ACC*_clean_map": 0.4}})
    words = shlex.split(example)[1:]
    assert "--from" not in words
    result = rc(shlex.join([*words, "--from", "records"]))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "lpvdn_noise.png\nlpvdn_noise.csv\n", "")
    rows = list(csv.DictReader(Path("lpvdn_noise.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 * 5 * 2 * 7  # data, methods, readings, sigma
    assert {row["n"] for row in rows} == {"3"}


def test_help_imports_neither_torch_nor_matplotlib() -> None:
    assert printed_without({"torch", "numpy", "matplotlib"}, "figure", "--help")


def test_images_of_a_run_lie_beside_it_and_stdout_carries_their_path(made: Made) -> None:
    result = rc(f"figure images {made.run} --data-dir {made.folder} --threads 1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{made.run}/images.png\n", "")
    first = (made.run / "images.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert rc(f"figure images {made.run} --data noisy:{made.folder}/mine.npz --output again.png").exit_code == 0
    assert Path("again.png").read_bytes() == first


@pytest.mark.slow
def test_decodings_of_a_sweep_are_one_picture_with_a_row_for_each_run(latent: list[Path]) -> None:
    runs = " ".join(map(str, latent))
    result = rc(f"figure decoded {runs} --count 3 --output four.svg --threads 1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "four.svg\n", "")
    text = Path("four.svg").read_text(encoding="utf-8")
    assert text.count("<image") == (2 + 3) * 3
    result = rc(f"figure decoded {latent[0]} --threads 1")
    assert (result.exit_code, result.stdout) == (0, f"{latent[0]}/decoded.png\n")


def test_what_cannot_be_decoded_is_refused_in_one_sentence(made: Made, latent: list[Path]) -> None:
    words = f"figure decoded {made.run} --data-dir {made.folder}"
    sentence = "error: decodings can only be drawn of attacks on the embedding, pgd moves the views (an attack or"
    assert refused(words, 2).startswith(sentence)
    without = finish({"metrics": METRICS}, attack="latent_net", data=DataRef("digits"))
    sentence = "error: decodings can only be drawn of a model that decodes, simvc has no decoder\n"
    assert refused(f"figure decoded {without}", 2) == sentence
    assert refused("figure decoded", 2) == "error: decoded needs a run's folder (rc figure decoded runs/attack/...)\n"
    assert refused(f"figure curve {latent[0]} {latent[1]}", 2) == "error: curve is drawn of one run, got 2\n"
    expected = "error: decoded is drawn of given runs: it takes no --profile\n"
    assert refused(f"figure decoded {latent[0]} --profile cpu", 2) == expected


def test_count_and_output_are_the_users(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(*arguments: Any) -> Sheet:
        counts.append(arguments[2])
        return made_sheet(*arguments)

    made_sheet = sheets.sheet
    monkeypatch.setattr(sheets, "sheet", counted)
    result = rc(f"figure images {made.run} --data {made.folder}/mine.npz --count 3 --output new/figure.svg")
    assert (result.exit_code, result.stdout) == (0, "new/figure.svg\n")
    text = Path("new/figure.svg").read_text()
    assert counts == [3]
    assert text.count("<image") == 3 * 3 * 2


@pytest.mark.slow
def test_the_data_may_be_named_as_the_run_names_them(made: Made) -> None:
    """As for every verb whose RC_DATA is set."""
    result = rc(f"figure images {made.run} --data-dir {made.folder} --output a.png", RC_DATA="noisy:mine")
    assert (result.exit_code, result.stdout) == (0, "a.png\n")


def test_the_curve_of_a_run_needs_no_data() -> None:
    run = trained(data=DataRef("noisy:nowhere"))
    result = rc(f"figure curve {run}")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{run}/curve.png\n", "")
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert rc(f"figure curve {run} --output curve.pdf").stdout == "curve.pdf\n"
    assert Path("curve.pdf").read_bytes().startswith(b"%PDF")


def test_the_curve_of_a_reattack_is_drawn_too() -> None:
    assert rc(f"figure curve {trained(stage='reattack')} --output curve.png").stdout == "curve.png\n"


def test_a_run_can_be_named_from_inside_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained())
    assert rc("figure curve .").stdout == "curve.png\n"


@pytest.mark.slow
def test_labels_that_are_not_those_of_the_record_are_noted(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = sheets.sheet
    monkeypatch.setattr(sheets, "sheet", lambda *arguments: replace(drawn(*arguments), flip=0.123))
    result = rc(f"figure images {made.run} --data-dir {made.folder} --output a.png")
    recorded = json.loads((made.run / "result.json").read_text())["metrics"]["flip"]
    note = f"note: 12.3 % of the samples change cluster here, {100 * recorded:.1f} % in the record: another device or"
    assert (result.exit_code, result.stdout) == (0, "a.png\n")
    assert result.stderr.startswith(note)


def test_where_there_is_no_run_the_exit_code_is_3() -> None:
    assert refused("figure curve runs/attack/nothing", 3) == (
        "error: There is no run in runs/attack/nothing (rc ls runs)\n"
    )


@pytest.mark.parametrize("kind", ["images", "curve"])
def test_an_unfinished_run_gets_exit_code_3(kind: str) -> None:
    run = finish()
    expected = f"error: The run {run} is not finished (the same rc attack resumes it)\n"
    assert refused(f"figure {kind} {run}", 3) == expected


@pytest.mark.parametrize("stage", ["pretrain", "cluster", "defend"])
def test_a_run_of_another_stage_is_refused(stage: str) -> None:
    run = trained(stage=stage)
    expected = f"error: a figure is drawn of an attack or reattack run, {run} is a {stage} run\n"
    assert refused(f"figure images {run}", 2) == expected


def test_a_certificate_is_drawn_of_its_own_runs_alone() -> None:
    run = trained()
    expected = f"error: a figure is drawn of a certify run, {run} is an attack run\n"
    assert refused(f"figure certificate {run}", 2) == expected
    assert "an attack or reattack run" in refused(f"figure curve {certified()}", 2)
    assert refused("figure certificate", 2).endswith("(rc figure certificate runs/certify/...)\n")


def test_an_attack_on_embeddings_has_neither_images_nor_curve() -> None:
    run = finish({"metrics": METRICS, "curve": []}, attack="latent_net")
    assert "only be drawn of attacks on the views, latent_net moves embeddings" in refused(f"figure images {run}", 2)
    assert "latent_net has no curve: only attackers trained on the views" in refused(f"figure curve {run}", 2)


def test_an_unknown_suffix_is_refused() -> None:
    expected = "error: a figure's file must end in .png, .pdf, .svg, got 'curve.jpg' (--output FILE)\n"
    assert refused(f"figure curve {trained()} --output curve.jpg", 2) == expected


def test_a_file_that_cannot_be_written_is_named() -> None:
    Path("file").write_text("")
    sentence = refused(f"figure curve {trained()} --output file/curve.png", 1)
    assert sentence.startswith("error: The figure cannot be written to file/curve.png: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--count 0", "error: --count must be in [1, 100], got 0\n"),
        ("--count 101", "error: --count must be in [1, 100], got 101\n"),
        ("--threads 0", "error: --threads must be >= 1, got 0\n"),
        ("--data digits", "error: --data takes the file that the run had, noisy:mine, got 'digits'\n"),
    ],
)
def test_a_wrong_value_gets_one_sentence_and_exit_code_2(made: Made, words: str, sentence: str) -> None:
    assert refused(f"figure images {made.run} {words}", 2) == sentence


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    expected = "error: Unknown figure 'imagse'. Did you mean 'images'? (rc ls figures)\n"
    assert refused("figure imagse runs/attack/any", 2) == expected
    assert "Unknown figure 'table1'. Known: " in refused("figure table1", 2), "a table is not drawn"


@pytest.mark.parametrize("words", ["curve --count 5", "certificate --from records", "images --profile cpu"])
def test_a_figure_of_one_run_takes_no_option_of_others(words: str) -> None:
    name, option, value = words.split()
    expected = f"error: {name} is drawn of one run: it takes no {option}\n"
    assert refused(f"figure {name} runs/attack/any {option} {value}", 2) == expected


def test_a_run_is_given_for_a_figure_of_a_run_and_for_no_other() -> None:
    assert refused("figure curve", 2) == "error: curve needs a run's folder (rc figure curve runs/attack/...)\n"
    expected = "error: lpvdn_noise is drawn of all its runs (rc figure lpvdn_noise --runs-dir DIR)\n"
    assert refused("figure lpvdn_noise runs/attack/any", 2) == expected


ONLY_RECORDS = (
    "error: tiny is drawn of the runs themselves, and --from has their records alone "
    "(--runs-dir DIR in place of --from)\n"
)
TINY = """
title = "Tiny"
source = "Nobody"
stage = "cluster"
statistic = "mean±std"
rows = ["data", "method"]
columns = ["metric"]

[figure]
{figure}

[axes]
data = [{{ name = "digits", limit = 200 }}]
latent_dim = [6]
seed = [0, 1]

[[methods]]
label = "{{model}}"
models = [{models}]
set = {{ "model.n_init" = 1 }}

[[cells]]
label = "ACC"
values = ["ACC"]

[profile.smoke]
"""


def tiny(monkeypatch: pytest.MonkeyPatch, figure: str, models: str = '"kmeans"') -> None:
    """Make TINY, drawn as `figure` says, the only figure."""
    Path("tables").mkdir(exist_ok=True)
    Path("tables/tiny.figure.toml").write_text(TINY.format(figure=figure, models=models), encoding="utf-8")
    folder = Path("tables").resolve()
    monkeypatch.setattr("robust_cluster.report.spec.tables_folder", lambda: folder)


def made_up(request: CellRequest) -> RunSpec:
    """The run that a request asks for, with the settings that it names and no others."""
    base: dict[str, Any] = {
        **{name: getattr(request, name) for name in ("data", "model", "latent_dim", "seed")},
        "data_sha256": "0",
    }
    given = nested({**request.settings, **request.own_settings})
    first = RunSpec(stage="cluster", settings={"model": given.get("model", {})}, **base)
    if request.stage == "cluster":
        return first
    own = {"attack": request.attack, "attack_seed": 0, "settings": {"attack": given.get("attack", {})}}
    return RunSpec(stage=request.stage, parent=first, **own, **base)


def write_all(name: str, profile: str, content: Any, *, left_out: int = 0) -> None:
    """Made-up records of the runs of a figure, but for the first few, in the folder `records`."""
    spec = load_spec(name)
    records = []
    for request in requests(spec, profile)[left_out:]:
        run = made_up(request)
        own = {**MADE, "key": run.key, "spec": run.to_json(), "profile": profile}
        records.append({**own, **content(spec, request)})
    Path("records").mkdir(exist_ok=True)
    Path("records/all.json").write_text(json.dumps(records))


def test_a_figure_without_any_run_names_the_missing_and_how_to_make_them() -> None:
    sentence = refused("figure lpvdn_noise --profile smoke", 3)
    assert sentence == (
        "error: 35 of 35 runs of lpvdn_noise are missing: G+MI+LP, digits, d = 10, σ = 0, seed 0; "
        "G+MI+LP, digits, d = 10, σ = 0.05, seed 0; G+MI+LP, digits, d = 10, σ = 0.1, seed 0; "
        "G+MI+LP, digits, d = 10, σ = 0.2, seed 0; and 31 more (rc table lpvdn_noise --profile smoke makes them)\n"
    )
    assert not Path("lpvdn_noise.png").exists()


def test_what_there_is_is_drawn_and_the_rest_is_listed_with_exit_code_3() -> None:
    write_all("lpvdn_alpha", "smoke", lambda spec, request: {"metrics": {"ACC": 0.5}}, left_out=1)
    result = rc("figure lpvdn_alpha --profile smoke --from records --format json --output new/alpha.svg")
    assert (result.exit_code, result.stdout) == (3, "new/alpha.svg\nnew/alpha.json\n")
    assert result.stderr.startswith("error: 1 of 16 runs of lpvdn_alpha are missing: LPVDN, digits, d = 10, α₀ = 0.01,")
    content = json.loads(Path("new/alpha.json").read_text())
    accuracies = [point["mean"] for point in content["points"] if point["metric"] == "ACC"]
    assert accuracies.count(0.5) == 15
    assert accuracies.count(None) == 1
    assert Path("new/alpha.svg").read_text().count("<image") == 3 * 2  # maps and their scales


def test_a_learning_curve_is_drawn_from_the_logs_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(monkeypatch, 'kind = "learning"\nlogged = ["ACC"]')
    store = RunStore(Path("runs"))
    for request in requests(load_spec("tiny"), "smoke"):
        with store.own(made_up(request)) as run:
            for epoch in (1, 2):
                run.log({"epoch": epoch, "steps": 10, "health": {"ACC": 0.1 * epoch + request.seed}})
            run.finish({**MADE, "profile": "smoke", "metrics": {"ACC": 0.5}})
    result = rc("figure tiny --profile smoke --format json")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "tiny.png\ntiny.json\n", "")
    points = json.loads(Path("tiny.json").read_text())["points"]
    assert [(point["x"], round(point["mean"], 6), point["n"]) for point in points] == [(10, 0.6, 2), (20, 0.7, 2)]
    Path("records").mkdir()
    Path("records/all.json").write_text(json.dumps(store.records()))
    assert refused("figure tiny --profile smoke --from records", 2) == ONLY_RECORDS
    kept = [{**record, "drift": {"steps": [0, 10], "ACC": [0.3, 0.5]}} for record in store.records()]
    Path("records/all.json").write_text(json.dumps(kept))
    assert rc("figure tiny --profile smoke --from records --output a.png").stdout == "a.png\n"


@pytest.mark.slow
def test_rc_table_makes_a_learning_curve_also_where_the_runs_were_finished_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny(monkeypatch, 'kind = "scatter"', '"convae"')
    assert rc("table tiny --profile smoke --threads 1 --seed 0 --quiet").exit_code == 0
    tiny(monkeypatch, 'kind = "learning"\nlogged = ["ACC"]', '"convae"')
    assert "--curve" in refused("figure tiny --profile smoke", 2)
    for state in ("to run", "done"):
        result = rc("table tiny --profile smoke --threads 1 --seed 0")
        assert f"  {state:8}cluster/convae-" in result.stderr
    assert "1 of 2 runs of tiny are missing" in rc("figure tiny --profile smoke --format csv").stderr
    assert Path("tiny.csv").read_text().count("\n") > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "count"),
    [
        pytest.param('kind = "scatter"', 2 * 200, marks=pytest.mark.slow),
        pytest.param('kind = "top"\ncount = 3', 2 * 10 * 3, marks=pytest.mark.slow),
        ('kind = "outputs"', 10 + 2 * 10),
        pytest.param('kind = "neighbors"\nquery = [8, 1]\ncount = 3', 1 + 3 * 3, marks=pytest.mark.slow),
    ],
)
def test_pictures_are_made_from_the_checkpoints_that_rc_table_left(
    finished_tiny: Path, monkeypatch: pytest.MonkeyPatch, section: str, count: int
) -> None:
    tiny(monkeypatch, section, '"kmeans", "ae_kmeans"')
    result = rc(f"figure tiny --profile smoke --runs-dir {finished_tiny} --threads 1 --format csv")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "tiny.png\ntiny.csv\n", "")
    assert Path("tiny.png").read_bytes().startswith(b"\x89PNG")
    assert len(Path("tiny.csv").read_text().splitlines()) == 1 + count


@pytest.mark.slow
def test_the_columns_of_a_figure_are_its_own_or_the_users(finished_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(monkeypatch, 'kind = "neighbors"\nquery = [8, 1]\ncount = 3', '"kmeans", "ae_kmeans"')
    result = rc(f"figure tiny --profile smoke --runs-dir {finished_tiny} --threads 1 --format csv --count 2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(Path("tiny.csv").read_text().splitlines()) == 1 + 1 + 3 * 2


def test_columns_are_counted_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "error: lpvdn_noise has no columns of images to count (leave out --count)\n"
    assert refused("figure lpvdn_noise --count 5", 2) == expected
    tiny(monkeypatch, 'kind = "outputs"')
    assert refused("figure tiny --count 5", 2).startswith("error: tiny has no columns of images to count")


@pytest.mark.parametrize("kind", ["scatter", "top", "outputs", "neighbors"])
def test_a_figure_of_checkpoints_is_not_drawn_from_records(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """That is said before any run is looked for."""
    tiny(monkeypatch, f'kind = "{kind}"')
    assert refused("figure tiny --profile smoke --from nowhere", 2) == ONLY_RECORDS


@pytest.fixture(scope="module")
def finished_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of TINY, as `rc table` makes them, of the first seed."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny(patch, 'kind = "scatter"', '"kmeans", "ae_kmeans"')
        assert rc("table tiny --profile smoke --threads 1 --quiet").exit_code == 0
    return folder / "runs"


def test_data_that_are_not_there_are_asked_for(made: Made) -> None:
    sentence = refused(f"figure images {made.run}", 1)
    assert sentence == (
        "error: The run's data noisy:mine are a file of yours, which is not there "
        "(--data FILE, or --data-dir with the folder that it is in)\n"
    )


def test_other_data_of_the_same_name_are_refused(made: Made) -> None:
    np.savez("mine.npz", x=np.random.default_rng(1).random((60, 16, 16), np.float32), y=np.arange(60) % 3)
    sentence = refused(f"figure images {made.run} --data-dir .", 1)
    assert "noisy:mine is not the data that the run had: their SHA-256 begins" in sentence


def test_when_nobody_is_misled_there_is_nothing_to_draw(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = sheets.sheet
    monkeypatch.setattr(sheets, "sheet", lambda *arguments: replace(drawn(*arguments), rows=np.zeros(0, np.int64)))
    sentence = refused(f"figure images {made.run} --data-dir {made.folder} --output none.png", 1)
    assert sentence == "error: there is nothing to draw: none of 30 samples is in a wrong cluster under pgd\n"
    assert not Path("none.png").exists()


def test_without_matplotlib_nothing_is_computed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(sheets, "sheet", lambda *arguments: pytest.fail("computed"))
    expected = "error: figures need matplotlib (pip install -e '.[figures]')\n"
    assert refused(f"figure images {made.run} --data-dir {made.folder}", 1) == expected


def test_a_renamed_run_is_refused() -> None:
    run = trained()
    right = f"{run.parent.name}/{run.name}"
    sentence = refused(f"figure curve {run.rename(run.with_name('mine'))}", 1)
    assert sentence == (
        f"error: runs/attack/mine was renamed or moved alone, its parents are not found (its place is {right})\n"
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"stage": "attack"}', '{"data": {"name": "a"}, "stagge": 1}'])
def test_a_spec_that_cannot_be_read_is_named(content: str) -> None:
    run = trained()
    (run / "spec.json").write_text(content)
    assert refused(f"figure curve {run}", 1) == f"error: {run}/spec.json is not the spec of a run\n"
