"""What stands below a table: what its numbers are over, what is missing or doubtful, and where the runs were made."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from robust_cluster.measure.metric import Metric
from robust_cluster.report.answers import Answer, Record, settings_held, trained_at
from robust_cluster.report.bold import conditions
from robust_cluster.report.flags import MARKS
from robust_cluster.report.grid import Grid

OOM = "OOM"  # in a cell of runs that were out of memory, as papers write it
WHOLE_SET = "‡"  # marks a paper's number
BFLOAT16_ERROR = 1e-3  # relative, of a product; float32 has 4e-7, bfloat16 2e-3
REMARKS = 4  # places that a remark on the paper's numbers names


def sentences(grid: Grid, answers: Sequence[Answer]) -> Iterator[str]:
    """The caption of a table, sentence by sentence."""
    spec, axes = grid.spec, grid.spec.profile(grid.profile)
    done = [record for _, record in answers if record is not None]
    yield from of_seeds(grid)
    if len(axes.attack_seed) > 1 and any(request.attack_seed is not None for request, _ in answers):
        yield f"A seed's re-attack is the mean of {len(axes.attack_seed)} attackers."
    if len(done) < len(answers):
        places = {tuple(request.place.items()) for request, _ in answers}
        empty = len(places) - len({tuple(request.place.items()) for request, record in answers if record is not None})
        yield f"{empty} of {len(places)} cells not run (–); {len(done)} of {len(answers)} runs found."
    yield from of_bold(grid)
    yield from of_gaps(grid, done)
    yield from of_marks(grid)
    if departed := sorted({path for paths in grid.runs["departed"] for path in paths}):
        yield f"Not as the method's profile has it now: {', '.join(departed)}."
    if reduced := [trained_at(record) for record in done].count("bf16"):
        yield f"Networks were trained with bfloat16 products (--precision bf16) in {reduced} of {len(done)} runs."
    if rounded := sum(map(had_bfloat16, done)):
        yield f"Products may be of bfloat16 in {rounded} of {len(done)} runs (--precision medium on a CPU with AMX)."
    attacked = [record for record in done if record["spec"]["stage"] in ("attack", "reattack")]
    if bare := sum("audit" not in record for record in attacked):
        yield f"{bare} of {len(attacked)} attacks have no audit (rc audit RUN)."
    noise = Metric("flip", "noise")
    told = [record for record in attacked if noise.read(record) is not None]
    if any(noise in cell.values for cell in spec.cells) and (
        before := sum("noise_draws" not in r["metrics"] for r in told)
    ):
        yield f"Noise of {before} of {len(told)} attacks is of one draw, of fewer kinds than it has now."
    if by_hand := sorted(set(set_by_hand(answers))):
        yield f"Settings given by hand for some of the runs: {', '.join(by_hand)}."
    yield from axes.notes
    yield from spec.notes
    if grid.compare:
        yield from of_paper(grid)
    yield from provenance(done)
    yield f"Source: {spec.source}."


def had_bfloat16(record: Record) -> bool:
    """Whether precision "medium" meant bfloat16 products where this run was made; older records do not tell."""
    matmul = record.get("environment", {}).get("matmul", {})
    return bool(matmul.get("precision") == "medium" and matmul["relative_error"] > BFLOAT16_ERROR)


def of_seeds(grid: Grid) -> Iterator[str]:
    """What a number is over the seeds, and what its interval is of where there are intervals."""
    over = _several(grid.n_seeds, "seed")
    if grid.spec.statistic == "best_loss":
        yield f"Of {over}, the one with the lowest final loss, which reads no labels."
    elif not grid.intervals:
        is_alone = grid.n_seeds == 1
        other = "another number" if any(grid.numbers["n"] > grid.n_seeds) else "fewer"
        yield "One seed." if is_alone else f"Mean±sample standard deviation over {over}; a cell with {other} says so."
    if not grid.intervals:
        return
    yield f"Mean over {over} [95 % interval] (n = seeds × samples)."
    values = [value for cell in grid.cells.values() for value in cell.values]
    known = [value.interval for value in values if value.interval is not None]
    if any(one.samples is not None and one.seeds > 1 for one in known):
        yield "Intervals are over seeds (Student's t) and samples (bootstrap)."
    if any(one.samples is not None and one.seeds == 1 for one in known):
        yield "Those of one seed are over samples alone: another seed may lie outside."
    if any(one.samples is None for one in known):
        yield "Where n has no samples the records list none, or not all: over seeds alone."
    if any(value.mean is not None and value.interval is None for value in values):
        yield "A number without an interval has one seed and no samples."
    if any(cell.changes for cell in grid.cells.values()):
        yield "Δ: under the attack minus clean, paired."


def of_bold(grid: Grid) -> Iterator[str]:
    """What is bold, and where no test could say it."""
    found = grid.winners
    if found is None:
        return
    where = f"with the same {', '.join(conditions(grid.spec))} and metric" if conditions(grid.spec) else "in its metric"
    yield f"Bold: the best {where}, from the model's side (high scores, few flips); ties alike."
    if grid.bold == "significant":
        from robust_cluster.report.claims import LEAST, LEVEL  # late: SciPy takes a second to load

        yield (
            f"Bold too is what a paired t test over the shared seeds, each by itself, does not tell from it "
            f"(one-sided p of {LEVEL:g} or more)."
        )
        if found.untested:
            yield (
                f"{found.untested} of {found.compared} comparisons share fewer than {LEAST} seeds and have no test: "
                "there the best number alone is bold."
            )
    if found.paper:
        yield "The paper's numbers are bold among themselves."
    elif grid.compare and grid.bold == "significant":
        yield "Of the paper's none is bold: they have no seeds to test."


def of_gaps(grid: Grid, done: Sequence[Record]) -> Iterator[str]:
    """Why a cell that was run may have no number."""
    metrics = {metric for cell in grid.spec.cells for metric in cell.values}
    if beyond := [record["memory"]["needed"] / 2**30 for record in done if record.get("memory")]:
        sizes = " to ".join(dict.fromkeys(f"{size:.1f}" for size in (min(beyond), max(beyond))))
        yield f"{OOM}: the fit needs more memory than there was, {sizes} GiB."
    made = [record for record in done if not record.get("memory")]
    lacking = {metric for metric in metrics if any(metric.read(record) is None for record in made)}
    if lacking:
        reasons = dict.fromkeys(map(why_missing, sorted(lacking, key=lambda one: (one.score == "D", str(one)))))
        yield f"A – in a cell that was run: {', or '.join(reasons)}."


def why_missing(metric: Metric) -> str:
    """Why a run that was made may not have this metric."""
    if metric == Metric("D"):
        return "D over a dimension of the embedding that is always 0"
    if metric.score == "reached":
        return "an attack that is aimed at no cluster"
    if metric.rows == "held":
        return "no rows held out"
    if metric.member in ("transferred", "adaptive"):
        return "a model without a defense"
    return "a method without such labels" if metric.matching in ("refit", "training") else "no labels"


def of_marks(grid: Grid) -> Iterator[str]:
    """What the letters in the column of marks stand for."""
    flags = {flag for cell in grid.cells.values() for flag in cell.flags}
    if known := [f"{letter} {flag}" for flag, letter in MARKS.items() if flag in flags]:
        has_numbers = any(char.isdigit() for row in grid.rows for char in grid.marks(row))
        which = f" (a number says of which{' of our columns' if grid.compare else ' column'})" if has_numbers else ""
        yield f"Marks, for at least one run of the row{which}: {', '.join(known)}."


def set_by_hand(answers: Sequence[Answer]) -> Iterator[str]:
    """The settings, as `--set` takes them, that were given for a run and that the table does not decide itself."""
    for request, record in answers:
        given = record.get("overrides", {}) if record else {}
        held = settings_held(record["spec"]) if record and given else {}
        decided = {*request.settings, *request.own_settings}
        yield from (f"{path}={value}" for path, value in given.items() if path in held and path not in decided)


def of_paper(grid: Grid) -> Iterator[str]:
    """What the paper's numbers are of, and each remark on them once with the places of its first numbers."""
    cells = list(grid.cells.values())
    has_whole = any(value.whole is not None for cell in cells if not cell.comparable for value in cell.values)
    if any(cell.comparable for cell in cells):
        yield "Difference: ours minus the paper's."
    elif not has_whole:
        yield "The paper has no number for these data."
    if has_whole:
        yield f"{WHOLE_SET}: of the whole data set, of which ours is a part: no difference is taken."
    said: dict[str, list[str]] = defaultdict(list)
    for (row, column), cell in grid.cells.items():
        for value in cell.values:
            if value.note and value.paper is not None:
                said[value.note].append(" ".join([*row, *column]))
    for note, places in said.items():
        named = list(dict.fromkeys(places))
        more = f" and {len(named) - REMARKS} more" if len(named) > REMARKS else ""
        yield f"Paper: {note} ({', '.join(named[:REMARKS])}{more})."


def provenance(records: Sequence[Record]) -> Iterator[str]:
    """How long the runs of a table trained (those before them not counted), where, and with which code."""
    told = {record["key"]: record for record in records if record.get("environment") and record.get("training")}
    if not told:
        return
    minutes = sum(record["training"]["seconds"] for record in told.values()) / 60
    environments = [record["environment"] for record in told.values()]
    places = sorted({f"{e['accelerator'] or e['cpu']} ({_several(e['threads'], 'thread')})" for e in environments})
    commits = sorted({str(e["commit"])[:7] + ("+" if e["dirty"] else "") for e in environments})
    yield (
        f"{_several(len(told), 'run')} of this stage, {minutes:.0f} min of training in all on {', '.join(places)}; "
        f"commit {', '.join(commits)}."
    )


def _several(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("s" if number > 1 else "")
