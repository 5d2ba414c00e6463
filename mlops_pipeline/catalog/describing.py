"""What people want to see of a dataset: statistics, histograms, samples."""

import json
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.spec import Dataset, ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

DESCRIPTION = "description.json"
HISTOGRAMS = "histograms.png"
SAMPLE_IMAGES = "sample_images.png"
PICTURES = (HISTOGRAMS, SAMPLE_IMAGES)
_MOST_FEATURES = 30
"""Features up to which each gets a row, a histogram and a column of the samples."""
_MOST_VALUES = 2_000_000
"""Numbers that a summary of many features looks at: more take memory and seconds."""
_SMALLEST_IMAGE = 8
"""Pixels of a side: more features than `_MOST_FEATURES` that make a square are an image."""
_SAMPLE_ROWS = 5
_SAMPLE_IMAGES = 10
"""Images in the picture, of as many classes as there are."""
_BARS = "▁▂▃▄▅▆▇█"
_BINS = 12


def write_description(spec: ModelSpec, dataset: Dataset, folder: Path) -> None:
    """Write `description.json`, and a picture where the data can be shown in one."""
    rows, labels = dataset.x_train, dataset.y_train
    report: dict[str, Any] = {"features": [], "samples": []}
    if rows.ndim == 2 and len(rows) and labels.shape == rows.shape[:1]:
        few = rows.shape[1] <= _MOST_FEATURES
        names = spec.dataset.names()
        report = {
            "features": _each(names, rows) if few else [_summary(rows)],
            "samples": _samples(spec, names, rows, labels) if few else [],
        }
        if few:
            _plot_histograms(spec, rows, labels, folder / HISTOGRAMS)
        elif (side := _side_of_image(rows.shape[1])) is not None:
            _draw_images(rows, labels, side, folder / SAMPLE_IMAGES)
    (folder / DESCRIPTION).write_text(json.dumps(report))


def _side_of_image(features: int) -> int | None:
    side = math.isqrt(features)
    return side if side * side == features and side >= _SMALLEST_IMAGE else None


def _each(names: Sequence[str], rows: "NDArray[Any]") -> list[dict[str, Any]]:
    import numpy as np

    return [
        {"feature": name, **_statistics(column), "distinct": len(np.unique(column))}
        for name, column in zip(names, rows.T, strict=False)
    ]


def _summary(rows: "NDArray[Any]") -> dict[str, Any]:
    """Describe many features together, in one row, by some of the rows where there are many."""
    import numpy as np

    step = max(1, rows.size // _MOST_VALUES)
    shown = rows[::step]
    constant = int((rows.max(axis=0) == rows.min(axis=0)).sum())
    every = "" if step == 1 else f"; by every {step}th row"
    return {
        "feature": f"all {rows.shape[1]}, {constant} of them constant{every}",
        **_statistics(shown.ravel()),
        "distinct": len(np.unique(shown)),
    }


def _statistics(values: "NDArray[Any]") -> dict[str, Any]:
    """Return least, mean, standard deviation, greatest, how many are missing, and a sketch."""
    import numpy as np

    finite = values[np.isfinite(values)].astype(np.float64)
    counts = np.histogram(finite, bins=_BINS)[0] if finite.size else np.zeros(_BINS)
    numbers = {
        name: float(f"{of(finite):.6g}") if finite.size else None
        for name, of in (("min", np.min), ("mean", np.mean), ("std", np.std), ("max", np.max))
    }
    return {"distribution": sketch(counts), **numbers, "missing": int(values.size - finite.size)}


def sketch(counts: "NDArray[Any]") -> str:
    """Return a histogram as text: one block for each bin, nothing counted is a space."""
    greatest = max(counts.max(), 1)
    steps = len(_BARS) - 1
    return "".join(_BARS[round(steps * n / greatest)] if n else "\u2007" for n in counts)


def _samples(
    spec: ModelSpec, names: Sequence[str], rows: "NDArray[Any]", labels: "NDArray[Any]"
) -> list[dict[str, Any]]:
    classes = spec.dataset.classes
    return [
        {
            "class": classes[int(label)] if 0 <= label < len(classes) else str(label),
            **{n: float(v) if math.isfinite(v) else None for n, v in zip(names, row, strict=False)},
        }
        for row, label in zip(rows[:_SAMPLE_ROWS], labels[:_SAMPLE_ROWS], strict=True)
    ]


def _plot_histograms(
    spec: ModelSpec, rows: "NDArray[Any]", labels: "NDArray[Any]", path: Path
) -> None:
    """Draw a histogram for each feature, the classes stacked."""
    import numpy as np
    from matplotlib.figure import Figure

    count, names, classes = rows.shape[1], spec.dataset.names(), spec.dataset.classes
    columns = min(4, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(2.6 * columns, 2.0 * lines + 0.5), layout="constrained")
    for number, axes in enumerate(figure.subplots(lines, columns, squeeze=False).flat):
        if number >= count:
            axes.set_axis_off()
            continue
        parts = [column[np.isfinite(column)] for column in _by_class(rows[:, number], labels, spec)]
        axes.hist(parts, bins=20, stacked=True, label=classes)
        axes.set_title(names[number] if number < len(names) else str(number), fontsize=8)
        axes.tick_params(labelsize=7)
    if len(classes) <= 10:
        axes = figure.axes[0]
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    save(figure, path)


def _by_class(
    column: "NDArray[Any]", labels: "NDArray[Any]", spec: ModelSpec
) -> "list[NDArray[Any]]":
    return [column[labels == number] for number in range(len(spec.dataset.classes))]


def _draw_images(rows: "NDArray[Any]", labels: "NDArray[Any]", side: int, path: Path) -> None:
    """Draw one image of each class beside each other, in black and white: a few hundred bytes.

    The UI shows a picture at once only where it takes less than 1,000 characters.
    """
    import numpy as np

    firsts = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    shown = rows[firsts[:_SAMPLE_IMAGES]].reshape(-1, side, side)
    least, greatest = float(shown.min()), float(shown.max())
    path.write_bytes(_one_bit_png(np.concatenate(list(shown), axis=1) <= (least + greatest) / 2))


def _one_bit_png(white: "NDArray[Any]") -> bytes:
    """Return a PNG of one bit per pixel (https://www.w3.org/TR/png-3/)."""
    import numpy as np

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    height, width = white.shape
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    lines = b"".join(b"\0" + np.packbits(line).tobytes() for line in white)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def save(figure: "Figure", path: Path) -> None:
    """Write a plot small enough for the event log: some 20 kB."""
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})
