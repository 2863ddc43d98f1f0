"""The command that makes a run anew, and the settings in which it differs from those of its profile. No torch."""

import json
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from robust_cluster.errors import RobustClusterError
from robust_cluster.report.answers import KINDS, Record, resolved
from robust_cluster.runs.spec import UNDEFENDED, DataRef, RunSpec, Stage
from robust_cluster.stages.declared import settings_of
from robust_cluster.stages.settings import flat, typed

UNKNOWN = "not known now"  # the profile's value of a setting that the method has no more
USUAL = DataRef("")  # whose fields are what a command leaves out
FLAGS: Mapping[str, str] = {"n_clusters": "clusters"}  # field of DataRef -> flag, where they have two names


@dataclass(frozen=True)
class Difference:
    """A setting of one run of a lineage that is not its profile's: `path` as --set takes it, both values as JSON."""

    stage: Stage
    path: str
    value: Any
    usual: Any


def differing(spec: RunSpec, profile: str, *, in_mode: bool = False, gone: Collection[str] = ()) -> list[Difference]:
    """The settings of a run and of those before it, oldest first, that are not those of their methods in a profile.

    `in_mode`: compared with the profile in the run's own mode, which is then a difference itself where it is not the
    usual one. The profile's value of a setting that there is no more is `UNKNOWN`; `gone`: methods that have none any
    more, since their files are not there or are others now.
    """
    runs = reversed(list(spec.lineage()))
    return [one for run in runs for one in _differing(run, profile, in_mode=in_mode, gone=gone)]


def _differing(run: RunSpec, profile: str, *, in_mode: bool, gone: Collection[str] = ()) -> Iterator[Difference]:
    for group in KINDS:
        name, own = getattr(run, group), run.settings.get(group)
        if name is None or own is None:
            continue
        is_gone = name in gone
        usual = {} if is_gone else _usual(group, name, profile, str(own.get("mode", "")) if in_mode else "")
        first = {} if is_gone else _usual(group, name, profile, "")
        for path, value in flat({group: own}).items():
            known = first if path == f"{group}.mode" else usual
            if path not in known or known[path] != value:
                yield Difference(run.stage, path, value, known.get(path, UNKNOWN))


def _usual(group: str, name: str, profile: str, mode: str) -> Mapping[str, Any]:
    """The settings of a method in a profile, and in a mode; none of a method, or a mode, that there is no more."""
    try:
        return resolved(settings_of(KINDS[group], name), profile, json.dumps({"mode": mode} if mode else {}), group)
    except RobustClusterError:
        return {}


def command(record: Record) -> str:
    """What makes this run with all its settings, e.g. "rc attack --model graph --data digits --set attack.gamma=20".

    A re-attack whose attack differs from the one that the defense met has its own settings as a sweep of one value.
    Data of one's own are called by name: --data takes their file. Weights of one's own are called FILE.
    """
    spec = RunSpec.from_json(record["spec"])
    files = {name.partition("/")[2]: file for name, file in (record.get("own_files") or {}).items()}
    words = ["rc", spec.stage, "--model", spec.model, *_data(spec.data), "--dim", str(spec.latent_dim)]
    words += ["--seed", str(spec.seed), *_methods(spec)]
    if (precision := trained(spec).precision) != "medium":
        words += ["--precision", precision]
    words += ["--profile", record["profile"]]
    if any(one.weights for one in spec.lineage()):
        words += ["--weights", "FILE"]
    words = [files.get(word, word) for word in words]
    given, own = _settings(spec, record["profile"])
    words += [word for path, value in given.items() for word in ("--set", f"{path}={typed(_by_file(value, files))}")]
    words += [word for path, value in own.items() for word in ("--sweep", f"{path}={_swept(_by_file(value, files))}")]
    return shlex.join(words)


def _by_file(value: Any, files: Mapping[str, str]) -> Any:
    """A setting's value with files in place of the names of methods in them: "mine-01234567:sign"."""
    if isinstance(value, list):
        return [_by_file(one, files) for one in value]
    name, colon, option = value.partition(":") if isinstance(value, str) else ("", "", "")
    return files[name] + colon + option if name in files else value


def trained(spec: RunSpec) -> RunSpec:
    """The clustering in a run's lineage, or the pretraining itself, whose precision is the one that was asked for."""
    return next(one for one in spec.lineage() if one.stage in ("cluster", "pretrain") or one.parent is None)


def _data(data: DataRef) -> Iterator[str]:
    yield from ("--data", data.name)
    for name in vars(USUAL):
        value = getattr(data, name)
        if name == "name" or value == getattr(USUAL, name):
            continue
        flag = f"--{FLAGS.get(name, name).replace('_', '-')}"
        yield from (flag,) if value is True else (flag, str(value))


def _methods(spec: RunSpec) -> Iterator[str]:
    """The attack, its seed, the defense, and the attack that this one met where it is another."""
    defend = next((one for one in spec.lineage() if one.defense), None)
    met = next((one for one in spec.lineage() if one.stage == "attack"), None)
    if spec.stage in ("attack", "reattack"):
        yield from ("--attack", str(spec.attack), "--attack-seeds", str(spec.attack_seed))
        if met is not None and met.attack != spec.attack:
            yield from ("--against", str(met.attack))
    elif met is not None:
        yield from ("--attack", str(met.attack))
    if defend is not None:
        yield from ("--defense", str(defend.defense))
    elif spec.stage == "certify":
        yield from ("--defense", UNDEFENDED)


def _settings(spec: RunSpec, profile: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What --set and what --sweep takes, by path."""
    given: dict[str, Any] = {}
    own: dict[str, Any] = {}
    has_cluster = any(one.stage == "cluster" for one in spec.lineage())
    for run in reversed(list(spec.lineage())):
        if run.stage == "pretrain" and has_cluster:
            continue  # the clustering's settings hold those of the network that it begins with
        if run.stage == "attack" and spec.stage == "reattack" and run.attack != spec.attack:
            continue  # what a defense meets takes no settings where it is another attack
        found = {one.path: one.value for one in _differing(run, profile, in_mode=True)}
        if run is spec and run.stage == "reattack" and any(one.attack == run.attack for one in list(run.lineage())[1:]):
            before = _held(run, "attack")
            now = {f"attack.{path}": value for path, value in flat(run.settings["attack"]).items()}
            own = {path: value for path, value in now.items() if before.get(path, value) != value}
            found = {path: value for path, value in found.items() if path not in own}
        given |= found
        given |= {f"certify.{path}": value for path, value in flat(run.settings.get("certify", {})).items()}
    return given, own


def _held(spec: RunSpec, group: str) -> dict[str, Any]:
    """The settings of a group in the nearest run before this one that has some."""
    before = next((one for one in list(spec.lineage())[1:] if group in one.settings), None)
    return {} if before is None else {f"{group}.{path}": value for path, value in flat(before.settings[group]).items()}


def _swept(value: Any) -> str:
    """One value as --sweep takes it: a list in brackets of its own."""
    return f"[{typed(value)}]" if isinstance(value, list) else typed(value)
