"""A column of a table has one threat model: numbers that attackers of different powers gave are not to be compared."""

from collections.abc import Iterable
from typing import Any

from robust_cluster.errors import ConfigError
from robust_cluster.measure.metric import Metric
from robust_cluster.report.answers import Answer, Record
from robust_cluster.report.spec import TableSpec

TERMS = ("space", "norm", "knowledge", "stage", "views", "bn", "target")
LATER = ("train_share", "view_eps", "box", "sigma")  # records from before these were stated stand beside all others
OF_DATA = ("eps", "view_eps", "box", "sigma")  # data sets may differ in them


def check(spec: TableSpec, answers: Iterable[Answer]) -> None:
    """Refuse a table with a column whose attacked cells were measured under different threat models.

    Compared are space, norm, knowledge, stage, the moved views, the cluster that is aimed at, whose statistics batch
    norm takes, and the share of rows that learned attacks train on; within one data set also radii, box and sigma, all
    as shares of the range of valid values where there is one, for rows may scale the same data differently. What a
    table sweeps may differ, and a defense's own record, made under the attacker that it met, may stand beside that
    attack on the undefended model. Records from before threat models were recorded are passed over.
    Raises: ConfigError naming the column and two rows that differ.
    """
    seen: dict[tuple[Any, ...], tuple[Any, str]] = {}
    for request, record in answers:
        if record is None or not record.get("threat"):
            continue
        for form in spec.cells:
            metrics = [metric for metric in form.values if metric.is_attacked]
            if not metrics:
                continue
            place = {**request.place, "metric": form.label}
            column = tuple(place[axis] for axis in spec.columns)
            row = ", ".join(place[axis] for axis in spec.rows)
            terms = {**stated(record), "stage": stage(metrics, record["threat"]["stage"])}
            differing: dict[str, list[str]] = {}
            for term, value in terms.items():
                if f"attack.{term}" in request.own_settings:
                    continue
                is_met = term == "knowledge" and record["spec"]["stage"] == "defend"
                own_data = request.data.label if term in OF_DATA else None
                own_metric = form.label if term == "stage" else None  # a row's label says whether it is fitted anew
                key = (column, term, is_met, own_data, own_metric)
                other, first = seen.setdefault(key, (value, row))
                if other != value:
                    differing.setdefault(first, []).append(f"{term} {other} and {value}")
            if differing:
                first, sentences = next(iter(differing.items()))
                raise ConfigError(
                    f"{spec.name} puts different threat models into one column ({', '.join(column)}): "
                    f"{first} and {row} differ in {', '.join(sentences)}",
                    hint="a column of its own, or one attack and radius for all",
                )


def stated(record: Record) -> dict[str, Any]:
    """Term -> what a record says of it, e.g. norm -> "linf"; terms of `LATER` only where the record has them."""
    threat = record["threat"]
    found = {**{term: threat.get(term) for term in TERMS}, "eps": threat["eps_model"]}
    found |= {term: threat[term] for term in LATER if term in threat}
    if shares := threat.get("eps_pixels"):
        found["eps"] = shares
        if found.get("box"):
            unit = threat["eps_model"] / shares  # the range, in what the model sees
            found["box"] = [float(f"{end / unit:.6g}") for end in found["box"]]
    if found.get("train_share") is None:
        found.pop("train_share", None)  # nothing was learned
    elif record["spec"]["stage"] == "defend":
        found["knowledge"] = "transfer"  # older records have the attacker's knowledge of the undefended model
    return found


def stage(metrics: Iterable[Metric], recorded: str) -> str:
    """What becomes of the clusters: "re-fit" where every metric is of clusters fitted anew to the moved points."""
    return "re-fit" if all(metric.matching == "refit" for metric in metrics) else recorded
