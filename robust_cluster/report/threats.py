"""Numbers under different threat models must not stand in one column."""

from collections.abc import Iterable, Mapping
from typing import Any

from robust_cluster.errors import ConfigError
from robust_cluster.report.spec import CellRequest, TableSpec

Record = Mapping[str, Any]  # a run's result.json
ATTACKED = ("*", "flip", "gap")  # parts of the names of metrics that an attack has changed
TERMS = ("space", "norm", "knowledge", "stage", "views")
RADIUS, BATCH_NORM = "attack.eps", "attack.bn"  # a table that sweeps one says what every cell's is


def check(spec: TableSpec, answers: Iterable[tuple[CellRequest, Record]]) -> None:
    """Nothing, when the attacked cells of every column were measured under one threat model.

    That is space, norm, knowledge, stage and moved views, whose statistics batch norm takes unless that is an axis of
    the table, and for one data set the radius too, unless that is one.
    Metrics that end in "_refit" are of clusters fitted anew. Records from before threat models were recorded are passed
    over. Raises: ConfigError naming the column and two rows that differ.
    """
    seen: dict[tuple[Any, ...], tuple[dict[str, Any], str]] = {}
    for request, record in answers:
        threat = record.get("threat")
        if not threat:
            continue
        for form in spec.cells:
            metrics = [name for name in form.values if any(part in name for part in ATTACKED)]
            if not metrics:
                continue
            place = {**request.place, "metric": form.label}
            column = tuple(place[axis] for axis in spec.columns)
            terms = {term: threat.get(term) for term in TERMS} | {"stage": stage(metrics, threat["stage"])}
            if BATCH_NORM not in request.own_settings:
                terms["bn"] = threat.get("bn")
            row = ", ".join(place[axis] for axis in spec.rows)
            sets: dict[tuple[Any, ...], dict[str, Any]] = {(column,): terms}
            if RADIUS not in request.own_settings:
                sets[column, request.data.label] = {"eps": threat["eps_model"]}
            for place_key, found in sets.items():
                other, first = seen.setdefault(place_key, (found, row))
                if other != found:
                    raise _mixed(spec, column, (first, other), (row, found))


def stage(metrics: Iterable[str], recorded: str) -> str:
    """Whether clusters were fitted anew to the moved points: "re-fit" where every metric says so."""
    return "re-fit" if all(name.endswith("_refit") for name in metrics) else recorded


def _mixed(
    spec: TableSpec, column: tuple[str, ...], one: tuple[str, dict[str, Any]], other: tuple[str, dict[str, Any]]
) -> ConfigError:
    (first, a), (second, b) = one, other
    terms = [f"{name} {a[name]} and {b[name]}" for name in a if a[name] != b[name]]
    return ConfigError(
        f"{spec.name} puts different threat models into one column ({', '.join(column)}): {first} and {second} "
        f"differ in {', '.join(terms)}",
        hint="a column of its own, or one attack and radius for all",
    )
