"""No run that one table asks for answers another table's request, unless it is that table's own run too.

Or that run at another precision, where the request does not ask for one.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from robust_cluster.data.base import DataInfo
from robust_cluster.report.answers import select
from robust_cluster.report.spec import CellRequest, figure_names, load_spec, requests, table_names
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.stages.chain import Request, plan

SHAPES = {"digits": (64,), "reuters10k": (2000,), "reuters": (2000,), "mice-protein": (77,), "usps": (1, 16, 16)}
RESNET = ("stl10", "cifar10")
TWO_VIEWS = ("noisy", "patched", "regdb")


def info_of(ref: DataRef) -> DataInfo:
    shape = (2048,) if ref.name in RESNET else SHAPES.get(ref.name, (1, 28, 28))
    views = 2 if ref.name.startswith(TWO_VIEWS) else 1
    shapes = ((math.prod(shape),) if ref.flatten else shape,) * views
    return DataInfo(ref.name, shapes, 70_000, 10, (0.0, 1.0), 1.0, "0" * 64)


def planned(asked: CellRequest, profile: str) -> RunSpec:
    """The run that `rc table` makes for a request."""
    info = info_of(asked.data)
    request = Request(
        asked.stage,
        replace(asked.data, split=asked.data.decided_split(len(info.shapes))),  # as it is once loaded
        asked.model,
        latent_dim=asked.latent_dim,
        attack=asked.attack or "latent_net",
        defense=asked.defense or "mutual_info",
        profile=profile,
        overrides=asked.settings,
        precision=asked.precision or "medium",
    )
    last = plan(request, info)[-1]
    if not asked.own_settings:
        return last
    own = replace(request, overrides={**asked.settings, **asked.own_settings})
    return replace(plan(own, info)[-1], parent=last.parent)


def at_medium(spec: dict[str, Any]) -> dict[str, Any]:
    """A run's spec with another precision throughout."""
    parent = spec["parent"] and at_medium(spec["parent"])
    return {**spec, "precision": "medium", "parent": parent}


def asked_of(profile: str) -> Iterator[tuple[str, CellRequest]]:
    """Every request of one seed, with the first table that has it."""
    seen = set()
    for name in [*table_names(), *figure_names()]:
        spec = load_spec(name)
        for request in requests(spec, profile) if profile in spec.profiles else ():
            wanted = request.seed == 0 and request.attack_seed in (0, None) and request.latent_dim in (10, 64)
            if wanted and (content := repr(replace(request, place={}))) not in seen:
                seen.add(content)
                yield name, request


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["smoke", "cpu", "paper"])
def test_a_table_is_filled_by_its_own_runs_alone(profile: str) -> None:
    runs: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    todo = []
    for name, request in asked_of(profile):
        spec = planned(request, profile)
        alike = runs[request.stage, request.model]
        data = {"shapes": info_of(request.data).shapes}
        alike[spec.key] = {"key": spec.key, "spec": spec.to_json(), "profile": profile, "data": data}
        todo.append((name, request, spec.key, alike))
    for name, request, key, alike in todo:
        assert list(select([request], [alike[key]])) == [alike[key]], (name, request)
        for other, record in alike.items():
            if other != key and (request.precision or at_medium(record["spec"]) != at_medium(alike[key]["spec"])):
                assert list(select([request], [record])) == [None], (name, request.place, record["spec"])
