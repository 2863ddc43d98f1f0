"""Which run answers a request of a table: that of the asked model, data and seed, with the asked settings."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from robust_cluster.discover import Kind, names
from robust_cluster.errors import ConfigError, RobustClusterError
from robust_cluster.report.spec import CellRequest
from robust_cluster.runs.spec import PRECISIONS, UNDEFENDED, Precision
from robust_cluster.stages import settings
from robust_cluster.stages.declared import settings_of
from robust_cluster.stages.settings import flat

Record = Mapping[str, Any]  # a run's result.json
Answer = tuple[CellRequest, Record | None]
KINDS: Mapping[str, Kind] = {"model": "models", "attack": "attacks", "defense": "defenses"}  # of a group of settings
NONE = "none"  # how a table writes a setting without a value
DATA = ("name", "limit", "flatten", "normalize", "size", "subset")  # of a data set, what a run's must have alike


def select(
    asked: Sequence[CellRequest], records: Iterable[Record], *, precision: Precision = "medium"
) -> Iterator[Record | None]:
    """The one record that answers each request, None where there is none.

    Of several that differ in a setting which the table leaves open, a sweep's for example, it is the one that has the
    method's own value; of several that were trained at other precisions the one of `precision`, else the most exact.
    Raises: ConfigError where that does not decide.
    """
    index: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        run = record["spec"]
        index[run["stage"], run["model"], run["latent_dim"], run["seed"]].append(record)
    for request in asked:
        candidates = index[request.stage, request.model, request.latent_dim, request.seed]
        answers = list({record["key"]: record for record in candidates if is_answer(record, request)}.values())
        if len(answers) > 1:
            answers = [record for record in answers if not departures(record, request)] or answers
            there = set(map(trained_at, answers))
            level = next(level for level in (precision, *PRECISIONS) if level in there)
            answers = [record for record in answers if trained_at(record) == level]
        if len(answers) > 1:
            raise _ambiguous(request, answers)
        yield answers[0] if answers else None


def trained_at(record: Record) -> Precision:
    """The precision at which the model of a run was trained; its attacks are exact where that is "bf16"."""
    lineage = list(_lineage(record["spec"]))
    level: Precision = next((run for run in lineage if run["stage"] == "cluster"), lineage[-1])["precision"]
    return level


def is_answer(record: Record, request: CellRequest) -> bool:
    """Whether a run of the asked stage, model, dimension and seed has the asked data, attack, defense and settings."""
    run = record["spec"]
    if any(run["data"].get(name) != getattr(request.data, name) for name in DATA):
        return False
    split = request.data.decided_split(len(record["data"]["shapes"]))
    if (run["data"].get("split") or "none") != (split or "none"):
        return False
    if request.precision and trained_at(record) != request.precision:
        return False
    if request.attack_seed is not None and run["attack_seed"] != request.attack_seed:
        return False
    for kind, value in (("attack", request.attack), ("defense", request.defense)):
        if value and _nearest(run, kind) != (None if value == UNDEFENDED else value):
            return False
    if any(_youngest(run, path) != value for path, value in request.own_settings.items()):
        return False
    # a swept setting of this stage says nothing about the same setting of the stages before it
    return all(
        _holds(run["parent"] if path in request.own_settings else run, path, value, request.attack)
        for path, value in request.settings.items()
    )


def known_again(record: Record) -> list[str]:
    """Know the methods of a run that are in files; returns the names of those whose file is gone, or another now."""
    gone = []
    for name, file in (record.get("own_files") or {}).items():
        from robust_cluster.stages.own import again  # late: it loads torch

        try:
            again({name: file})
        except ConfigError:
            gone.append(name.partition("/")[2])
    return gone


def departures(record: Record, request: CellRequest, others: Iterable[Record] = ()) -> list[str]:
    """The settings in which a run differs from its methods' own under its profile, where the request asks for none.

    A method that is no longer there, or no longer takes what it is asked, is named itself. A model's mode that nobody
    asked for is the one it takes for such data: it and its settings are no departure. Nor is a rule by which a plateau
    may end a training where it ended nothing, which the run says, or the one of `others` that it starts from.
    """
    found: list[str] = []
    held, asked = settings_held(record["spec"]), settings.nested({**request.settings, **request.own_settings})
    for group, kind in KINDS.items():
        name = getattr(request, group)
        if name is None or name == UNDEFENDED:
            continue
        given = asked.get(group, {})
        if group == "model" and (mode := held.get("model.mode")) and not _at(record.get("overrides", {}), "model.mode"):
            given = {"mode": mode, **given}
        try:
            own = resolved(settings_of(kind, name), record["profile"], json.dumps(given), group)
        except RobustClusterError:
            return [name]
        found += [path for path, value in own.items() if path in held and held[path] != value]
    rules = [f"{group}.schedule.{name}" for group in KINDS for name in ("window", "tolerance")]
    idle = {path for path in rules if path in found and _took_all_epochs(record, path.partition(".")[0], others)}
    return [path for path in found if path not in idle]


@cache
def resolved(method: Any, profile: str, given: str, group: str) -> Mapping[str, Any]:
    """The settings of a method in a profile by dotted path; `given`: those over the profile's, as JSON.

    Hundreds of runs of a table ask the same. Raises: as `settings.resolve`.
    """
    return flat({group: settings.plain(settings.resolve(method, profile, json.loads(given), group))})


def _took_all_epochs(record: Record, group: str, others: Iterable[Record]) -> bool:
    """Whether the run of the lineage whose settings have this group trained for all of its epochs, as far as told."""
    spec = next(run for run in _lineage(record["spec"]) if group in run["settings"])
    alike = (one for one in (record, *others) if one["spec"]["seed"] == spec["seed"])  # of thousands few
    found = next((one for one in alike if one["spec"] == spec), None)
    return found is not None and (found.get("training") or {}).get("stop_reason") == "epochs"


def settings_held(run: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run and those before it by dotted path, e.g. "attack.gamma"; the youngest run's count."""
    lineage = reversed(list(_lineage(run)))
    return {path: value for stage in lineage for path, value in flat(stage["settings"]).items()}


def _youngest(run: Mapping[str, Any], path: str) -> Any:
    """The value of a setting in a run, or in the nearest before it that has one; None where none has."""
    return next((value for stage in _lineage(run) for value in _at(stage["settings"], path)), None)


def _holds(run: Mapping[str, Any], path: str, value: Any, attack: str | None) -> bool:
    """Whether a setting has this value throughout the lineage, but in attacks that are not the asked one."""
    allowed = (value, None) if value == NONE else (value,)
    stages = [stage["settings"] for stage in _lineage(run) if stage["attack"] in (None, attack)]
    found = [value for stage in stages for value in _at(stage, path)] or _before_there_was(run, path)
    return bool(found) and all(one in allowed for one in found)


def _at(content: Mapping[str, Any], path: str) -> list[Any]:
    """The value at a dotted path, whose groups may stand in one name; [] where there is none."""
    if path in content and not isinstance(content[path], Mapping):
        return [content[path]]
    found: list[Any] = []
    for name, value in content.items():
        if isinstance(value, Mapping) and path.startswith(f"{name}."):
            found += _at(value, path[len(name) + 1 :])
    return found


def _before_there_was(run: Mapping[str, Any], path: str) -> list[Any]:
    """The value of a setting that is younger than the run: the method's default; [] where it takes no such setting."""
    group, _, setting = path.partition(".")
    kind = KINDS.get(group)
    if kind is None or (name := _nearest(run, group)) not in names(kind):
        return []
    own = flat(settings.plain(settings_of(kind, name).Config()))
    return [own[setting]] if setting in own else []


def _lineage(run: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    while run is not None:
        yield run
        run = run["parent"]


def _nearest(run: Mapping[str, Any], name: str) -> Any:
    return next((stage[name] for stage in _lineage(run) if stage[name] is not None), None)


def _ambiguous(request: CellRequest, answers: Sequence[Record]) -> ConfigError:
    one, other = answers[:2]
    first, second = flat(one["spec"]), flat(other["spec"])
    paths = [path for path in sorted(first.keys() | second.keys()) if first.get(path) != second.get(path)]
    where = ", ".join([*request.place.values(), f"seed {request.seed}"])
    return ConfigError(
        f"Two runs answer one cell ({where}): {one['key']} and {other['key']} differ in {', '.join(paths[:5])}",
        hint="pin that setting under `set` in the table's file, or move one run out of the folder",
    )
