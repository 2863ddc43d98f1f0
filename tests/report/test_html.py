"""The report: one file of the records, the same for the same records, that nothing in a name can break."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from robust_cluster.errors import ConfigError, MissingResultError, RobustClusterError, StoreError, UnknownNameError
from robust_cluster.measure.metric import Metric
from robust_cluster.report.grid import Value
from robust_cluster.report.html import attacks, gather, one, page, runs
from robust_cluster.report.html.gather import Gathered
from robust_cluster.report.html.parts import Chosen
from robust_cluster.report.html.svg import inline
from robust_cluster.report.html.tables import step_of, table_of
from robust_cluster.runs.spec import DataRef, RunSpec
from tests.report.conftest import LABELS, PUBLISHED, TOY
from tests.report.toy import Table, record

EVIL = "<script>alert(1)</script>"
PAPERS = '[[papers]]\nname = "toys"\ntitle = "Toys"\nsource = "Nobody"\ntables = ["toy"]\nfindings = "toys.md"\n'
FINDINGS = "# Toys\n\n[They](../x.md) **move** <b>far</b>.\n\n| | b |\n|---|---|\n| 1 | 2 |\n"


class Parsed(HTMLParser):
    """What of a page could act: its tags and attributes, the content of its data, links, its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.places: list[str] = []
        self.is_data = False
        self.data: dict[str, Any] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.handlers += [name for name in own if name.startswith("on")]
        self.ids += [own["id"]] if "id" in own else []
        self.links += [own[name] for name in ("href", "src", "xlink:href") if name in own]
        self.places += [own["data-place"]] if "data-place" in own else []
        self.is_data = own.get("id") == "data"

    def handle_data(self, data: str) -> None:
        if self.is_data:
            self.data = json.loads(data)
            self.is_data = False


def some() -> list[dict[str, Any]]:
    """Two seeds of an attack on ConvAE, and a re-attack."""
    return [
        record("attack", seed=0, metrics={"ACC": 0.8, "ACC*": 0.5, "flip": 0.4, "D": 1.0}, flags=("unconverged",)),
        record("attack", seed=1, metrics={"ACC": 0.9, "ACC*": 0.7, "flip": 0.2, "D": 2.0}),
        record("reattack", attack_seed=2, metrics={"ACC": 0.8, "ACC*": 0.6, "flip": 0.3}),
    ]


def evil_run() -> dict[str, Any]:
    """An attack that has markup wherever a record has a word."""
    spec = RunSpec(
        "attack", DataRef(EVIL), "0", EVIL, 64, 0, settings={"attack": {EVIL: EVIL}}, attack=EVIL, attack_seed=0
    )
    return {
        **record("attack", metrics={EVIL: 1.0, "flip": 0.5, "<img src=x onerror=alert(1)>": 0.1}, flags=(EVIL,)),
        "spec": spec.to_json(),
        "key": spec.key,
        "audit": [{"id": 1, "name": EVIL, "status": EVIL, "value": 0.0, "threshold": 0.0, "n": 1, "note": EVIL}],
        "environment": {"accelerator": EVIL, "cpu": EVIL, "threads": 1, "commit": EVIL, "dirty": False},
        "own_files": {EVIL: EVIL},
        "radii": [{"eps": 0.1, "attack": "all", "flip": 0.5}],
        "threat": {"norm": "linf", "space": "input", "box": None, "note": EVIL},
    }


def write_toys(folder: Path) -> Path:
    """The folder of the toy table, which is of a paper with findings."""
    (folder / "findings").mkdir()
    files = {"toy.toml": TOY, "toy.published.csv": PUBLISHED, "labels.toml": LABELS, "papers.toml": PAPERS}
    for name, content in {**files, "findings/toys.md": FINDINGS}.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of `some` runs."""
    folder = tmp_path_factory.mktemp("toys")
    write_toys(folder)
    return page.report(Gathered(tuple(some()), ()), Chosen(folder=folder))


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., str]:
    """reported(records, damaged=..., **chosen) is the report's text."""

    (tmp_path / "tables").mkdir()
    toys = write_toys(tmp_path / "tables")

    def made(records: list[dict[str, Any]], damaged: tuple[str, ...] = (), **chosen: Any) -> str:
        return page.report(Gathered(tuple(records), damaged), Chosen(folder=toys, **chosen))

    return made


def test_a_report_shows_tables_findings_methods_and_runs_and_its_links_lead_somewhere(text: str) -> None:
    found = Parsed(text)
    assert len(set(found.ids)) == len(found.ids)
    inner = [link for link in found.links if link != "data:,"]
    assert inner
    assert all(link[0] == "#" and link[1:] in found.ids for link in inner)
    for id_ in ("overview", "paper-toys", "toy-smoke", "paper-toys-findings", "attacks", "methods", "runs"):
        assert id_ in found.ids
    assert 'aria-label="Findings on Toys, table 1"><table>' in text
    assert "<th></th>" not in text
    assert "<strong>move</strong> &lt;b&gt;far&lt;/b&gt;" in text
    assert "85.0±7.1 / 60.0±14.1*" in text


def test_a_cell_opens_the_runs_that_it_is_the_mean_of(text: str) -> None:
    records, found = some(), Parsed(text)
    rows, column = found.data["rows"], [one["name"] for one in found.data["columns"]].index("key")
    label, indices = found.data["places"][int(found.places[0])]
    assert label == "STL-10, ConvAE, d = 64"
    assert [rows[i][column] for i in indices] == [records[0]["key"], records[1]["key"]]
    detail = found.data["details"][indices[0]]
    assert detail["command"].startswith("rc attack --model convae --data stl10 --dim 64 --seed 0")
    assert detail["metrics"]["flip"] == 0.4


def test_equal_records_give_equal_bytes(reported: Callable[..., str], tmp_path: Path) -> None:
    texts = []
    for name, order in (("one", 1), ("other", -1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.json").write_text(json.dumps(some()[::order]), encoding="utf-8")
        texts.append(reported(list(gather.from_folder(tmp_path / name).records)))
    assert texts[0] == texts[1]


def test_markup_in_names_notes_and_paths_stays_text(reported: Callable[..., str]) -> None:
    text = reported([*some(), evil_run()], damaged=(EVIL,))
    found = Parsed(text)
    assert found.tags.count("script") == 2  # the data and the page's own
    assert (found.tags.count("img"), found.handlers) == (0, [])
    assert EVIL not in text
    assert [row for row in found.data["rows"] if row[2] == EVIL]  # and is told as it is
    assert "</script>" not in runs.compact(found.data).replace(EVIL, "")


def test_the_policy_forbids_all_scripts_but_the_pages_own_and_every_request(text: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{page.hash_of(script)}';" in policy
    assert "http:" not in policy
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)


def test_a_large_report_keeps_the_runs_and_says_whose_details_went(
    reported: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [record("attack", seed=seed, metrics={"flip": 0.1, "ACC": 0.5}) for seed in range(60)]
    room = len(reported(many[:2]).encode()) + 12_000
    monkeypatch.setattr(page, "BYTES", room)
    monkeypatch.setattr(page, "SLACK", 1_000)
    text = reported(many)
    details = Parsed(text).data["details"]
    kept = [detail is not None for detail in details]
    assert len(text.encode()) <= room
    assert (len(details), kept[:2], kept[-1]) == (60, [True, True], False)  # those of the table's two seeds come first
    assert f"{kept.count(False)} runs are listed without details" in text
    monkeypatch.setattr(page, "ROWS", 50)
    assert "10 more runs are not listed" in reported(many)
    monkeypatch.setattr(page, "FEWEST", 2)
    monkeypatch.setattr(page, "BYTES", room - 11_000)
    text = reported(many)
    listed = len(Parsed(text).data["rows"])
    assert listed < 50
    assert len(text.encode()) <= room - 11_000
    assert f"{60 - listed} more runs are not listed" in text


@pytest.mark.slow
def test_ten_thousand_runs_fit_into_five_megabytes_and_all_are_listed(reported: Callable[..., str]) -> None:
    first = some()[0]
    health = {f"figure_{i}": i / 7 for i in range(40)}
    many = [
        {**first, "key": f"{seed:012x}", "spec": {**first["spec"], "seed": seed}, "health": health}
        for seed in range(10_000)
    ]
    text = reported(many)
    data = Parsed(text).data
    assert len(text.encode()) <= 5_000_000
    assert len(data["rows"]) == 10_000
    assert 0 < data["details"].count(None) < 10_000


def test_a_damaged_record_is_left_out_and_named_and_one_of_an_older_version_is_shown_as_far_as_it_goes(
    reported: Callable[..., str], tmp_path: Path
) -> None:
    there = tmp_path / "records"
    there.mkdir()
    good, other = ({key: value for key, value in one.items() if key != "training"} for one in some()[:2])
    no_model = {**good, "spec": {**good["spec"], "parent": {**good["spec"]["parent"], "model": None}}}
    (there / "a.json").write_text(json.dumps([good, {**other, "metrics": "high"}, good, no_model]), encoding="utf-8")
    (there / "b.json").write_text("{", encoding="utf-8")
    (there / "c.json").write_bytes(b"\xff\xfe")
    found = gather.from_folder(there)
    assert [one["key"] for one in found.records] == [good["key"]]
    first, second, lineage, third, fourth = found.damaged
    assert lineage == "The record a.json is damaged: spec.model is null, must be text"
    assert first == 'The record a.json is damaged: metrics is "high", must be an object'
    assert second == f"Run {good['key']} is there twice, the second time in a.json"
    assert third.startswith("b.json is not valid JSON: ")
    assert fourth.startswith("c.json is not valid JSON: ")
    text = reported(list(found.records), damaged=found.damaged)
    assert Parsed(text).data["details"][0].keys() >= {"metrics", "command", "lineage"}
    assert "Left out: 5 damaged" in text
    assert "metrics is &#34;high&#34;, must be an object" in text


@pytest.mark.parametrize(
    ("records", "chosen", "sentence"),
    [
        ([], {}, "There is no record of a run (rc table NAME makes a table's runs)"),
        (some(), {"profile": "paper"}, "There is no record of a run of profile paper"),
        (some(), {"only": {"data": ["digits"]}}, "No run of that part exists"),
    ],
)
def test_without_a_run_there_is_no_report(
    reported: Callable[..., str], records: list[dict[str, Any]], chosen: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(MissingResultError, match=re.escape(sentence)):
        reported(records, **chosen)


def test_a_part_has_the_runs_of_its_cells_alone(reported: Callable[..., str]) -> None:
    records = [*some(), record("attack", latent_dim=128, metrics={"ACC": 0.1})]
    found = Parsed(reported(records, only={"latent_dim": ["128"], "paper": ["toys"], "table": ["toy"]}))
    assert [row[0] for row in found.data["rows"]] == [records[-1]["key"]]


@pytest.mark.parametrize(
    ("only", "sentence"),
    [
        ({"table": ["toi"]}, "Unknown table 'toi'. Known: toy."),
        ({"paper": ["toy"]}, "Unknown paper 'toy'. Did you mean 'toys'?"),
        ({"data": ["stl"]}, "Unknown data of toy in profile smoke 'stl'"),
        ({"dta": ["stl10"]}, "Unknown axis of toy 'dta'. Did you mean 'data'?"),
    ],
)
def test_a_part_that_no_table_has_is_refused(
    reported: Callable[..., str], only: dict[str, list[str]], sentence: str
) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(sentence)):
        reported(some(), only=only)


def test_a_table_that_cannot_be_made_is_named_and_the_rest_is_there(reported: Callable[..., str]) -> None:
    text = reported([record("attack", gamma=20.0), record("attack", gamma=30.0)])
    assert "This table cannot be made of these records. Two runs answer one cell" in text
    assert len(Parsed(text).data["rows"]) == 2


def test_headings_span_their_columns_and_labels_their_rows(table: Table) -> None:
    found = table_of(table(some(), compare=True))
    assert [[(one.text, one.span) for one in row] for row in found.headings] == [
        [("d = 64", 3), ("d = 128", 3)],
        [("ours", 1), ("paper", 1), ("difference", 1)] * 2,
    ]
    assert (found.corner, found.width) == (("method", "metric"), 8)
    assert [group.label for group in found.groups] == ["STL-10", "digits"]
    assert [row.labels for row in found.groups[0].rows] == [
        (("kmeans", 2), ("ACC", 1)),
        (("kmeans", 0), ("D", 1)),
        (("ConvAE", 2), ("ACC", 1)),
        (("ConvAE", 0), ("D", 1)),
    ]


def test_a_cell_stands_beside_the_papers_number_with_marks_and_colored_differences(table: Table) -> None:
    row = table_of(table(some(), compare=True)).groups[0].rows[2]
    entry, unrun = row.entries
    assert (entry.ours, entry.paper, entry.marks, entry.place) == ("85.0±7.1 / 60.0±14.1*", "84.7 / 78.1*", "u", 0)
    assert entry.differences is not None
    assert [(one.text, one.step) for one in entry.differences] == [("+0.3", 0), ("−18.1", -3)]
    assert (unrun.ours, unrun.place, unrun.differences) == ("–", None, ())


@pytest.mark.parametrize(
    ("metric", "difference", "scale", "step"),
    [
        ("ACC", 0.9, 100, 0),
        ("ACC*", 1, 100, 1),
        ("NMI", -5, 100, -2),
        ("flip", 12, 100, 3),
        ("ACC", -0.06, 1, -2),
        ("D", -0.2, 1, -1),
        ("training.seconds", 1, 1, 3),
    ],
)
def test_a_difference_is_colored_by_points_or_by_its_part_of_the_papers_number(
    metric: str, difference: float, scale: float, step: int
) -> None:
    value = Value(Metric.parse(metric), 2 + difference, None, 1, 2.0, difference=difference)
    assert step_of(value, scale) == step


def attack_with_radii(seed: int, flips: tuple[float, float], model: str = "convae") -> dict[str, Any]:
    lines = [{"eps": eps, "attack": "all", "flip": flip} for eps, flip in zip((0.1, 0.2), flips, strict=True)]
    noise = [{"eps": eps, "attack": "noise:all", "flip": 0.05} for eps in (0.1, 0.2)]
    threat = {"norm": "l2", "space": "input", "box": [0, 1]}
    return {**record("attack", seed=seed, model=model), "radii": [*lines, *noise], "threat": threat}


def test_curves_are_means_over_runs_with_noise_and_certificates_beside() -> None:
    certify = {
        **record("attack", model="convae"),
        "certified": {"space": "input", "radii": [0.0, 0.5], "share": [1.0, 0.25], "sigma": 0.25},
    }
    (found,) = attacks.panels([attack_with_radii(0, (0.2, 0.6)), attack_with_radii(1, (0.4, 0.8)), certify])
    assert (found.title, found.unit, found.counts) == ("latent_net on stl10", "L2 radius in pixels", "1 to 2 runs")
    (line,), (noise,), (certified,) = found.flips, found.noise, found.certified
    assert line.pairs == [(0.1, pytest.approx(0.3)), (0.2, pytest.approx(0.7))]
    assert (noise.values, certified.pairs) == ((0.05, 0.05), [(0.0, 1.0), (0.5, 0.25)])
    figure = attacks.draw(found)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "L2 radius in pixels",
        "L2 radius, share of the value range; noise σ = 0.25",
    ]
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "samples that change cluster (%)",
        "certified not to change (%)",
    ]


def test_runs_of_two_profiles_and_certificates_of_two_sigmas_stand_apart() -> None:
    certificates = [
        {
            **record("attack", model=model),
            "certified": {"space": "input", "radii": [0.0], "share": [1.0], "sigma": sigma},
        }
        for model, sigma in (("convae", 0.5), ("graph", 0.25))
    ]
    other = {**attack_with_radii(1, (0.4, 0.8)), "profile": "cpu"}
    found = attacks.panels([attack_with_radii(0, (0.2, 0.6)), other, *certificates])
    assert [(one.profile, one.title, [line.victim.model for line in one.certified]) for one in found] == [
        ("cpu", "latent_net on stl10", []),
        ("smoke", "latent_net on stl10", ["graph"]),
        ("smoke", "Certificates on stl10", ["convae"]),
    ]
    assert [line.values for one in found for line in one.flips] == [(0.4, 0.8), (0.2, 0.6)]


def test_a_curve_whose_record_states_no_threat_model_is_drawn_over_the_radius_alone() -> None:
    bare = {key: value for key, value in attack_with_radii(0, (0.2, 0.6)).items() if key != "threat"}
    (found,) = attacks.panels([bare])
    assert (found.unit, found.flips[0].values) == ("radius", (0.2, 0.6))


def test_an_attacks_row_is_the_mean_over_its_runs_in_percent() -> None:
    first, second = attacks.attacked(some())
    assert (first.victim.label, first.n, first.attack) == ("convae", 2, "latent_net, γ = 40")
    assert first.numbers["flips"] == pytest.approx(30.0)
    assert first.numbers["by PGD"] is None
    assert (second.victim.label, second.stage) == ("convae, mutual_info frozen", "reattack")


def test_a_figure_takes_the_pages_color_and_ids_of_its_own() -> None:
    (found,) = attacks.panels([attack_with_radii(0, (0.2, 0.6), model=EVIL)])
    text = inline(attacks.draw(found), "one")
    assert text.startswith('<svg viewBox="0 0 ')
    assert "#000000" not in text
    assert EVIL not in text
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert ids
    assert all(id_.startswith("one-") for id_ in ids)
    assert all(link in ids for link in re.findall(r'href="#([^"]*)"', text))


def test_findings_of_an_audit_that_say_one_thing_stand_once() -> None:
    audit = [{"id": i, "status": "not run", "value": None, "threshold": None, "note": "late"} for i in (9, 10)]
    audit.append({"id": 1, "status": "pass", "value": 0.123456789, "threshold": 0.5, "note": ""})
    assert runs.findings(audit) == [[[9, 10], "not run", None, None, "late"], [[1], "pass", 0.12346, 0.5, ""]]


def test_a_curve_without_a_value_is_not_drawn() -> None:
    drift = {"steps": [0, 5], "ACC": [0.2, 0.4], "NMI": [None, None], "delta_FR": [None, None]}
    (panel,) = runs.detail({**some()[0], "drift": drift}, None)["curves"]
    assert panel["lines"] == {"ACC": [20.0, 40.0]}


def test_a_long_curve_is_thinned_with_its_ends() -> None:
    lines = [{"epoch": i, "losses": {"kl": float(i)}} for i in range(1, 1001)]
    (panel,) = runs.logged_curves(lines)
    assert (len(panel["xs"]), panel["xs"][0], panel["xs"][-1]) == (runs.POINTS, 1, 1000)
    assert panel["lines"]["kl"][-1] == 1000.0


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "r.html"
    page.write(file, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StoreError, match=r"cannot be written to .*: No space left on device"):
        page.write(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert file.read_text() == "old"


def test_without_jinja2_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    page.templates.cache_clear()
    with pytest.raises(RobustClusterError, match=re.escape("a report needs jinja2 (pip install -e '.[report]')")):
        page.templates()


def refused() -> Figure:
    raise ConfigError("the data are not there", hint="--data-dir DIR")


def test_a_runs_report_tells_its_audit_in_words_and_why_a_figure_is_missing() -> None:
    checks = [
        {"id": 2, "name": "budget and box", "status": "pass", "value": 0.5, "threshold": 1.0, "n": 64, "note": EVIL},
        {
            "id": 1,
            "name": "frozen victim",
            "status": "not run",
            "value": None,
            "threshold": None,
            "n": 0,
            "note": "late",
        },
    ]
    figures = [one.drawn("embedding", refused), one.drawn("confusion", Figure)]
    text = one.report({**some()[0], "audit": checks}, figures)
    assert "No figure: the data are not there (--data-dir DIR)" in text
    assert '<figure class="white">' in text
    assert "0.5, held against 1 on 64 samples; &lt;script&gt;" in text
    assert text.index("1 frozen victim") < text.index("2 budget and box")
    assert "rc attack --model convae --data stl10" in text
    assert "<b>unconverged</b>: the attacker still learned when it ended" in text
    found = Parsed(text)
    assert found.tags.count("script") == 1
    assert all(link[1:] in found.ids for link in found.links if link != "data:,")
