"""The report in a real browser, Debian's Chromium driven by Playwright: what people do with it, and axe-core's rules.

A page answers some events a moment later (`toggle`, `hashchange`), so what a click brings is waited for.
`make test-report` runs these; where there is no browser they are skipped with a sentence.
"""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from robust_cluster.report.html import one, page
from robust_cluster.report.html.gather import Gathered
from robust_cluster.report.html.parts import Chosen
from tests.report.test_html import attack_with_radii, evil_run, some, write_toys
from tests.report.toy import record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]
NAMES = ("chromium", "chromium-browser", "google-chrome")
PAGES = ("overview", "paper-toys", "attacks", "methods", "runs")
PHONE = {"width": 390, "height": 844}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    sync = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -e '.[browser]'")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which axe-playwright-python carries."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.origin:
        pytest.skip("no axe-core: pip install -e '.[browser]'")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with marks, differences, a curve with noise, an audit, damaged records and markup in names."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "tables").mkdir()
    many = [record("cluster", model="kmeans", seed=seed, metrics={"ACC": seed / 200}) for seed in range(150)]
    many[0]["drift"] = {"steps": [0, 5], "ACC": [0.2, 0.4], "delta_FR": [None, None]}
    records = [*some(), attack_with_radii(1, (0.2, 0.6), model="graph"), evil_run(), *many]
    text = page.report(Gathered(tuple(records), ("a.json is damaged",)), Chosen(folder=write_toys(folder / "tables")))
    page.write(folder / "report.html", text)
    return folder / "report.html"


class Opened:
    """A page of the report, and all that went wrong on it."""

    def __init__(self, browser: "Browser", file: Path, place: str = "", **choices: Any) -> None:
        self.page: Page = browser.new_context(**choices).new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", lambda request: self.requested(request.url))
        self.page.goto(f"{file.as_uri()}{place}")

    def requested(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.wrong.append(url)

    def __enter__(self) -> "Page":
        return self.page

    def __exit__(self, *_: object) -> None:
        self.page.context.close()
        assert self.wrong == []


def rows(opened: "Page") -> list[list[str]]:
    """The texts of the listed runs."""
    found: list[list[str]] = opened.evaluate(
        "[...document.querySelectorAll('#run-list tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    return found


def violations(opened: "Page", axe: str) -> list[str]:
    opened.evaluate(axe)
    found = opened.evaluate("rules => axe.run(document, rules)", RULES)["violations"]
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_alone_without_an_error_or_a_request(browser: "Browser", file: Path, name: str) -> None:
    with Opened(browser, file, f"#{name}") as opened:
        visible = opened.evaluate("[...document.querySelectorAll('section.page:not([hidden])')].map(s => s.id)")
        assert visible == [name]
        assert opened.locator(f"#{name} h1").is_visible()
        assert opened.locator(".top [aria-current=page]").get_attribute("href") == f"#{name}"


def test_a_link_to_a_table_shows_its_page_and_going_back_the_one_before(browser: "Browser", file: Path) -> None:
    with Opened(browser, file) as opened:
        opened.locator("#overview a[href='#toy-smoke']").click()
        opened.locator("#toy-smoke").wait_for()
        opened.locator("#overview").wait_for(state="hidden")
        opened.go_back()
        opened.locator("#overview h1").wait_for()
        opened.locator("#toy-smoke").wait_for(state="hidden")


def test_a_cell_opens_its_runs_by_keyboard_and_gives_the_focus_back(browser: "Browser", file: Path) -> None:
    with Opened(browser, file, "#paper-toys", permissions=["clipboard-read", "clipboard-write"]) as opened:
        cell = opened.locator("#toy-smoke td a").first
        cell.focus()
        opened.keyboard.press("Enter")
        dialog = opened.get_by_role("dialog", name="STL-10, ConvAE, d = 64")
        dialog.wait_for()
        runs = dialog.locator("details.run")
        assert runs.count() == 2
        assert "ACC 80.0" in runs.first.locator("summary").inner_text()
        runs.first.locator("summary").press("Enter")
        command = runs.first.locator(".command")
        command.wait_for()
        assert command.inner_text().startswith("rc attack --model convae --data stl10 --dim 64 --seed 0")
        assert "unconverged: the attacker still learned when it ended" in runs.first.inner_text()
        runs.first.get_by_role("button", name="Copy").click()
        runs.first.get_by_role("button", name="Copied").wait_for()
        assert opened.evaluate("navigator.clipboard.readText()") == command.inner_text()
        opened.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        assert opened.evaluate("document.activeElement.dataset.place") == cell.get_attribute("data-place")


def test_curves_of_a_run_are_drawn_and_markup_in_it_is_text(browser: "Browser", file: Path) -> None:
    with Opened(browser, file, "#runs") as opened:
        opened.get_by_role("searchbox").fill("alert(1)")
        opened.locator("#run-list tbody a").click()
        dialog = opened.locator("dialog")
        dialog.locator(".panels svg circle").wait_for()  # exactly one, or this raises
        assert dialog.locator(".panels svg polyline").count() == 1
        assert "samples that change cluster (%)" in dialog.inner_text()
        assert "<script>alert(1)</script>" in dialog.inner_text()
        assert dialog.locator("script").count() == 0


def test_every_run_can_be_opened(browser: "Browser", file: Path) -> None:
    with Opened(browser, file, "#runs") as opened:
        count = opened.evaluate("data.rows.map((row, i) => told(row, data.details[i])).length")
        assert count == len(opened.evaluate("data.details.filter(Boolean)"))


def test_runs_are_sorted_in_both_directions_those_without_a_number_last(browser: "Browser", file: Path) -> None:
    with Opened(browser, file, "#runs") as opened:
        column = opened.evaluate("[...document.querySelectorAll('#run-list th')].map(h => h.textContent)").index("ACC")
        button = opened.get_by_role("button", name="ACC", exact=True)
        for direction in ("ascending", "descending"):
            button.click()
            assert opened.locator("#run-list th[aria-sort]").get_attribute("aria-sort") == direction
            shown = [row[column] for row in rows(opened)]
            known = [float(text) for text in shown if text != "–"]
            assert known == sorted(known, reverse=direction == "descending")
            assert len(shown) == 100  # and a button for more
        opened.get_by_role("button", name="Show 55 more").click()
        assert [row[column] for row in rows(opened)][-2:] == ["–", "–"]


def test_a_search_leaves_the_runs_that_have_all_words_and_says_how_many(browser: "Browser", file: Path) -> None:
    with Opened(browser, file, "#runs") as opened:
        opened.get_by_role("searchbox").fill("convae REATTACK")
        assert [row[1:3] for row in rows(opened)] == [["reattack", "convae"]]
        assert opened.get_by_role("status").inner_text().startswith("1 of 155 runs")
        opened.get_by_role("searchbox").fill("nothing of the kind")
        assert rows(opened) == []


def test_a_methods_runs_are_found_by_its_link(browser: "Browser", file: Path) -> None:
    with Opened(browser, file, "#methods") as opened:
        opened.locator("#method-models-kmeans a").first.click()
        assert opened.get_by_role("searchbox").input_value() == "cluster kmeans"
        assert opened.get_by_role("status").inner_text().startswith("150 of 155 runs")


@pytest.mark.parametrize("look", [{}, {"color_scheme": "dark"}, {"viewport": PHONE}], ids=["light", "dark", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_wrong(browser: "Browser", file: Path, axe: str, name: str, look: dict[str, Any]) -> None:
    with Opened(browser, file, f"#{name}", **look) as opened:
        opened.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert violations(opened, axe) == []
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_an_opened_run(browser: "Browser", file: Path, axe: str, scheme: str) -> None:
    with Opened(browser, file, "#runs", color_scheme=scheme) as opened:
        opened.get_by_role("searchbox").fill("alert(1)")
        opened.locator("#run-list tbody a").click()
        opened.locator("dialog .command").wait_for()
        assert violations(opened, axe) == []


def test_the_first_tab_leads_to_the_content(browser: "Browser", file: Path) -> None:
    with Opened(browser, file) as opened:
        opened.keyboard.press("Tab")
        assert opened.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert opened.evaluate("document.activeElement.getBoundingClientRect().left >= 0")


def test_without_scripts_all_tables_are_there_with_the_keys_of_their_runs(browser: "Browser", file: Path) -> None:
    with Opened(browser, file, "#toy-smoke", java_script_enabled=False) as opened:
        assert opened.locator("#toy-smoke table").is_visible()
        assert opened.locator("#overview h1").is_visible()
        assert "need JavaScript" in opened.locator("noscript").inner_text()
        behind = opened.locator("#toy-smoke .behind")
        behind.locator("summary").click()
        assert some()[0]["key"] in behind.inner_text()


def test_on_paper_all_pages_stand_in_light_and_nothing_is_cut(browser: "Browser", file: Path) -> None:
    with Opened(browser, file, "#attacks", color_scheme="dark") as opened:
        opened.emulate_media(media="print")
        assert opened.locator("#overview h1").is_visible()
        assert opened.locator("#toy-smoke table").is_visible()
        assert not opened.locator(".top").is_visible()
        assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert opened.evaluate("getComputedStyle(document.querySelector('.scroll')).overflow") == "visible"


def test_a_runs_own_report_opens_and_axe_finds_nothing_wrong(browser: "Browser", tmp_path: Path, axe: str) -> None:
    from robust_cluster.report.html import attacks

    (panel,) = attacks.panels([attack_with_radii(0, (0.2, 0.6))])
    figures = [one.drawn("curve", lambda: attacks.draw(panel)), one.drawn("losses", lambda: attacks.draw(panel))]
    page.write(tmp_path / "run.html", one.report(evil_run(), figures))
    for scheme in ("light", "dark"):
        with Opened(browser, tmp_path / "run.html", color_scheme=scheme) as opened:
            assert opened.get_by_role("button", name="Copy").is_visible()
            assert violations(opened, axe) == []
