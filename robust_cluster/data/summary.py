"""What was read, in the words of the first line that a verb prints."""

from pathlib import Path

from robust_cluster.data.base import Dataset
from robust_cluster.data.formats import name_and_suffix
from robust_cluster.discover import bare


def lines(dataset: Dataset) -> list[str]:
    """What was read, and a line for each note.

    `ids.csv: 300 rows x 17 columns, 3 clusters from the column 'label', scaled by 2.275 (alrdc)`.
    """
    ref, info = dataset.ref, dataset.info
    of_file = name_and_suffix(Path(dataset.source))[0] == bare(ref.name)
    rows = f"{info.n_samples:,} {'rows' if len(info.shapes[0]) == 1 else 'images'}"
    sizes = [f"{shape[0]:,} columns" if len(shape) == 1 else " x ".join(map(str, shape)) for shape in info.shapes]
    views = f" x {sizes[0]}" if len(sizes) == 1 else f", {len(sizes)} views of {', '.join(sizes)}"
    clusters = f"{info.n_clusters} clusters"
    if ref.n_clusters is None:
        clusters += f" from {dataset.labels_from}"
    elif dataset.labels is not None:
        clusters += f" as given, {int(dataset.labels.max()) + 1} classes from {dataset.labels_from}"
    else:
        clusters += " as given, no labels"
    scaled = f"scaled by {info.scale:.4g} ({ref.normalize})" if info.scale != 1 else "not scaled"
    scaled = scaled if info.columns is None else f"every column scaled by itself ({ref.normalize})"
    first = f"{dataset.source if of_file else ref.name}: {rows}{views}, {clusters}, {scaled}"
    return [first, *(f"note: {note}" for note in dataset.notes)]
