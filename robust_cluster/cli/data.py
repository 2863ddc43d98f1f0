"""`rc data`: which data sets there are, where they lie, and how to get, prepare, import and check them."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_cluster import discover
from robust_cluster.cli import console
from robust_cluster.cli.options import (
    DataDir,
    Debug,
    FileOptions,
    Flatten,
    Json,
    Limit,
    NoiseLabel,
    Normalized,
    Quiet,
    Size,
    Subset,
    Verb,
    classes,
    data_folders,
    data_path,
    offer,
    option,
)
from robust_cluster.data.formats import name_and_suffix
from robust_cluster.discover import bare
from robust_cluster.errors import DataError, UnknownNameError
from robust_cluster.runs.spec import DataRef

if TYPE_CHECKING:
    from torch import Tensor

    from robust_cluster.data.base import Folders, Labels
    from robust_cluster.data.sources import SourceFile
    from robust_cluster.data.sparse import SparseView

SUMMARY = "List, fetch, prepare, import and verify data sets."
HELP = f"""\b
rc data ls
rc data info fashion-mnist
rc data prepare digits --flatten

{SUMMARY}
Files are looked for in --data-dir, the folder RC_DATA, the system's folders and the cache (RC_CACHE), in this order."""
SMALL = 200 * 10**6  # bytes of files that `rc data info` reads to tell their shape and digest
Name = Annotated[str, typer.Argument(help="rc data ls", show_default=False, autocompletion=offer("data"))]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What every verb of `rc data` takes."""

    data_dir: DataDir = None
    json: Json = False
    quiet: Quiet = False
    debug: Debug = False

    @property
    def folders(self) -> "Folders":
        """Where data are looked for."""
        return data_folders(self.data_dir, quiet=self.quiet)

    def show(self, content: Any, line: str) -> None:
        """Print a result on stdout: as JSON, or in a line."""
        if self.json:
            console.show_json(content)
        else:
            sys.stdout.write(line + "\n")

    def say(self, text: str) -> None:
        """Say something on stderr."""
        console.stderr(quiet=self.quiet).print(text)


@dataclass(frozen=True, kw_only=True)
class NameOptions(DataOptions):
    """What the verbs that are about one data set take."""

    name: Name


@dataclass(frozen=True, kw_only=True)
class InfoOptions(FileOptions, NameOptions):
    """What `rc data info` takes."""

    name: Annotated[
        str,
        typer.Argument(help="rc data ls, or a file of yours.", show_default=False, autocompletion=offer("data")),
    ]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(FileOptions, NameOptions):
    """What `rc data prepare` takes: the choices of a run that change its data."""

    limit: Limit = None
    flatten: Flatten = False
    normalize: Normalized = "alrdc"
    size: Size = None
    subset: Subset = None
    noise_label: NoiseLabel = None
    force: Annotated[bool, option("--force", help="Prepare again what is prepared.")] = False


@dataclass(frozen=True, kw_only=True)
class ImportOptions(FileOptions, DataOptions):
    """What `rc data import` takes."""

    path: Annotated[Path, typer.Argument(help="A file as --data takes it.", show_default=False)]
    name: Annotated[str, option("--name", help="What --data will call it.")]
    size: Size = None
    force: Annotated[bool, option("--force", help="Replace an import of that name.")] = False


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(DataOptions):
    """What `rc data verify` takes."""

    name: Annotated[
        str | None, typer.Argument(help="rc data ls; all without it.", show_default=False, autocompletion=offer("data"))
    ] = None


def list_data(ctx: typer.Context, options: DataOptions) -> None:
    """Print every data set that has a name here, and whether its files are there."""
    from robust_cluster.data.prepare import available

    rows = [{"name": name, "state": state, "what": what} for name, what, state in available(options.folders)]
    if options.json:
        console.show_json(rows)
    else:
        console.show_rows(rows)


def info(ctx: typer.Context, options: InfoOptions) -> None:
    """Print what is known of one data set."""
    path = None if bare(options.name) != options.name else data_path(options.name)
    if path is None:
        facts = _facts(options.name, options.folders, options)
    else:
        facts = {"name": options.name, "what": "your file"} | _content(name_and_suffix(path)[0], options, path)
    if options.json:
        console.show_json(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            shown = "  ".join(f"{k} {v}" for k, v in item.items()) if isinstance(item, Mapping) else str(item)
            sys.stdout.write(f"{'' if number else key:{width}}  {shown}\n")


def _facts(name: str, folders: "Folders", options: InfoOptions) -> dict[str, Any]:
    """Key -> value of everything that `rc data info` tells. Raises: UnknownNameError, DataError."""
    from robust_cluster.data import cache
    from robust_cluster.data.prepare import available, source_files
    from robust_cluster.data.sources import bytes_in_words

    known = {row[0]: row[1:] for row in available(folders)}
    if name not in known:
        raise UnknownNameError("data set", name, known, listing="rc data ls")
    what, state = known[name]
    facts: dict[str, Any] = {"name": name, "what": what, "state": state}
    module = _module(name)
    files = source_files(DataRef(name), folders)
    prepared = [entry for entry in cache.entries("prepared", folders) if entry.about["ref"]["name"] == name]
    current = [one for one in prepared if files is None or one.about["sources"] == cache.fingerprint(files)]
    whole = next((entry for entry in current if DataRef(**entry.about["ref"]).label == name), None)
    if files is not None and sum(path.stat().st_size for path in files if path.is_file()) <= SMALL:
        facts |= _content(name, options)
    elif whole is not None:
        facts |= _shape(whole.about["info"]["n_samples"], whole.about["info"]["shapes"], whole.labels)
    elif files is not None:
        facts["shape"] = f"rc data prepare {name} tells: reading takes minutes"
    facts["files"] = [str(path) for path in files] if files else "part of a package" if files == () else "not there"
    if module is not None:
        published: tuple[SourceFile, ...] = module.COLLECTION.files if module.COLLECTION else ()
        if published:
            facts["folder"] = module.COLLECTION.name
            facts["published"] = [" ".join(part for part in (f.description, f.url) if part) for f in published]
        facts |= {"license": module.LICENSE, "citation": module.CITATION}
    if prepared:
        facts["prepared"] = [
            {
                "form": DataRef(**entry.about["ref"]).label,
                "normalize": entry.about["ref"]["normalize"],
                "size": bytes_in_words(entry.size),
                "sha256": entry.about["info"]["sha256"],
            }
            for entry in prepared
        ]
    return facts


def _content(name: str, options: InfoOptions, path: Path | None = None) -> dict[str, Any]:
    """Shape, classes and digest of a data set or of a user's file, which is read for it. Raises: DataError."""
    from robust_cluster.data.prepare import load

    ref = DataRef(name, normalize="none", n_clusters=2, split="none", **options.columns)
    data = load(ref, options.folders, path=path)
    content: dict[str, Any] = {"values": _values(data.views[0]), "sha256": data.info.sha256, "source": data.source}
    content |= {"notes": list(data.notes)} if data.notes else {}
    return _shape(data.info.n_samples, data.info.shapes, data.labels) | content


def _shape(n_samples: int, shapes: Sequence[Sequence[int]], labels: "Labels | None") -> dict[str, Any]:
    """Shape of each view and number of classes, as `rc data info` shows them."""
    return {
        "shape": [" x ".join(map(str, (n_samples, *shape))) for shape in shapes],
        "classes": "no labels" if labels is None else int(labels.max()) + 1,
    }


def _values(view: "Tensor | SparseView") -> str:
    """The range of a view's values, and how many of its columns are constant."""
    if not hasattr(view, "flatten"):
        share = len(view.values) / max(1, view.shape[0] * view.shape[1])
        return f"sparse, {share:.2%} are not 0, up to {float(view.values.max()):.4g}"
    flat = view.flatten(1)
    low, high = flat.min(0).values, flat.max(0).values
    return f"{float(low.min()):.4g} to {float(high.max()):.4g}, {int((low == high).sum())} columns constant"


def fetch(ctx: typer.Context, options: NameOptions) -> None:
    """Download the files of a built-in data set into the cache, unless they are there."""
    module = _module(options.name)
    if module is None:
        raise UnknownNameError("built-in data set", options.name, discover.names("data"), listing="rc data ls")
    found = module.find(options.folders)
    if found is None and module.COLLECTION is None:
        module.read(options.folders)  # raises the sentence that says how to get it
    if found is None:
        found = module.COLLECTION.download(options.folders)
    else:
        options.say(f"{options.name} is there already" if found else f"{options.name} ships with a package")
    options.show([str(path) for path in found], "\n".join(map(str, found)))
    options.say(f"next: rc data prepare {options.name}")


def prepare(ctx: typer.Context, options: PrepareOptions) -> None:
    """Write the arrays that runs with the same choices will map into memory."""
    from robust_cluster.data import cache
    from robust_cluster.data.prepare import load, source_files
    from robust_cluster.data.sources import bytes_in_words

    o, folders = options, options.folders
    # the number of clusters and the split change no array, so that one copy serves every choice of them
    ref = DataRef(o.name, o.limit, o.flatten, o.normalize, 2, "none", o.size, classes(o.subset), **o.columns)
    ref = replace(ref, noise_label=o.noise_label)
    entry = None if o.force else cache.prepared(ref, folders, source_files(ref, folders))
    if entry is None:
        data = load(ref, folders, fresh=True)
        entry = cache.write(data, folders, source_files(ref, folders) or ())
    else:
        o.say(f"{ref.label} is prepared already (--force prepares it again)")
    facts = {"folder": str(entry.folder), "bytes": entry.size, "sha256": entry.about["info"]["sha256"]}
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in entry.about["info"]["shapes"])
    o.show(facts, f"{entry.folder}  {entry.about['info']['n_samples']} x {shapes}  {bytes_in_words(entry.size)}")
    flags = ("limit", "size", "subset", *o.columns, "noise_label", "data_dir", "flatten")
    values = ((flag.replace("_", "-"), getattr(o, flag)) for flag in flags)
    chosen = [
        f"--{flag}" if value is True else f"--{flag} {shlex.quote(str(value))}" for flag, value in values if value
    ]
    chosen += [f"--normalize {o.normalize}"] if o.normalize != "alrdc" else []
    o.say(f"next: {' '.join(['rc cluster --model ae_kmeans --data', o.name, *chosen])}")


def import_file(ctx: typer.Context, options: ImportOptions) -> None:
    """Keep a copy of a user's data in the cache under a name."""
    from robust_cluster.data import cache, files
    from robust_cluster.data.formats import Reading
    from robust_cluster.data.prepare import check

    raw = files.read(options.path, Reading.of(options))
    check(options.name, raw)
    entry = cache.write_import(options.name, raw, options.folders, force=options.force)
    shapes = ", ".join(" x ".join(map(str, view.shape)) for view in raw.views)
    kind = "images" if raw.image else "vectors"
    labels = "labels" if raw.labels is not None else "no labels"
    options.show({"name": options.name, "folder": str(entry.folder)}, f"{options.name}: {shapes} {kind}, {labels}")
    for note in raw.notes:
        options.say(f"note: {note}")
    options.say(f"next: rc cluster --model ae_kmeans --data {options.name}")


def verify(ctx: typer.Context, options: VerifyOptions) -> None:
    """Compare every file that is there with what was published or written. Raises: typer.Exit(1) for a difference."""
    if options.name is not None:
        _check_known(options.name, options.folders)
    rows = list(_verified(options.name, options.folders))
    if options.json:
        console.show_json(rows)
    elif rows:
        console.show_rows(rows)
    else:
        options.say("nothing to verify: no published files, prepared or imported arrays are there")
    if any(row["state"].startswith("WRONG") for row in rows):
        raise typer.Exit(1)


def _verified(name: str | None, folders: "Folders") -> Iterator[dict[str, str]]:
    """Data set, file and state of every published file and every stored folder that is there."""
    from robust_cluster.data import cache

    seen: set[Path] = set()  # data sets share files
    for known in discover.names("data"):
        module = _module(known)
        if name in (None, known) and module is not None and module.COLLECTION is not None:
            files = {file.name: file for file in module.COLLECTION.every_file}
            for path in [path for path in module.find(folders) or () if path not in seen]:
                seen.add(path)
                file = files.get(path.name) or files.get(f"{path.name}.gz")
                state = _state(file, path) if file else "ok: no checksum is known"
                yield {"name": known, "file": str(path), "state": state}
    for kind in cache.KINDS:
        for entry in cache.entries(kind, folders):
            of = entry.about["ref"]["name"] if kind == "prepared" else entry.folder.name
            if name in (None, of):
                try:
                    entry.verify()
                    state = f"ok: {kind}, as written"
                except DataError as error:
                    state = f"WRONG: {error}"
                yield {"name": of, "file": str(entry.folder), "state": state}


def _state(file: "SourceFile", path: Path) -> str:
    """Whether a file is as it was published, in words. A .gz that was packed anew must unpack without a fault."""
    from robust_cluster.data.sources import fault, unpacks

    if path.name != file.name:
        return "ok: unpacked, so its checksum is not comparable"
    wrong = fault(file, path)
    if wrong and path.suffix == ".gz" and unpacks(path):
        return "ok: unpacks without a fault, but is not packed as published: no checksum to compare"
    if wrong:
        return f"WRONG: {wrong}"
    return "ok: as published" if file.checksum else "ok: no checksum is known"


def _check_known(name: str, folders: "Folders") -> None:
    """Raises UnknownNameError for a name that no data set has."""
    from robust_cluster.data.prepare import available

    known = [row[0] for row in available(folders)]
    if bare(name) not in known:
        raise UnknownNameError("data set", name, known, listing="rc data ls")


def _module(name: str) -> Any:
    """The module of a built-in data set, None for a user's."""
    return discover.load("data", name) if name in discover.names("data") else None


VERBS = (
    Verb(
        "ls",
        "List data sets and whether their files are there.",
        "rc data ls\nrc data ls --json",
        DataOptions,
        list_data,
    ),
    Verb(
        "info", "Tell shape, classes, digest, source, license and citation.", "rc data info digits", InfoOptions, info
    ),
    Verb("fetch", "Download a data set into the cache.", "rc data fetch digits", NameOptions, fetch),
    Verb(
        "prepare",
        "Write a data set's arrays once, so that runs start at once.",
        "rc data prepare digits\nrc data prepare digits-28 --flatten --normalize none",
        PrepareOptions,
        prepare,
    ),
    Verb("import", "Keep your own data under a name.", "rc data import my.npz --name mine", ImportOptions, import_file),
    Verb(
        "verify", "Compare files with their checksums.", "rc data verify\nrc data verify digits", VerifyOptions, verify
    ),
)
