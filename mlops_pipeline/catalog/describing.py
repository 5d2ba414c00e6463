"""Describes a dataset for the UI: statistics, histograms, samples."""

import json
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import describing_columns
from mlops_pipeline.catalog.plotting import draw_histogram, new_figure, save
from mlops_pipeline.catalog.spec import Dataset, ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

DESCRIPTION = "description.json"
HISTOGRAMS = "histograms.png"
SAMPLE_IMAGES = "sample_images.png"
PICTURES = (HISTOGRAMS, SAMPLE_IMAGES)
_MOST_FEATURES = 30
"""Maximum number of features that get their own row, histogram and sample column."""
_MOST_VALUES = 2_000_000
"""Maximum count of numbers in a summary of many features: more cost memory and seconds."""
_SMALLEST_IMAGE = 8
"""Minimum side in pixels: more than `_MOST_FEATURES` features that form a square are an image."""
_SAMPLE_ROWS = 5
_SAMPLE_IMAGES = 10
"""Maximum number of images in the picture."""
_BARS = "▁▂▃▄▅▆▇█"
_BINS = 12


def write_description(spec: ModelSpec, dataset: Dataset, folder: Path) -> None:
    """Write `description.json`, and a picture if the data can be drawn.

    Statistics and pictures that fail are omitted, and `problems` says why.
    """
    rows, labels = dataset.x_train, dataset.y_train
    report: dict[str, Any] = {"features": [], "samples": []}
    problems: list[str] = []
    if spec.dataset.has_cells:
        path = folder / HISTOGRAMS
        attempt(
            "describe the columns",
            problems,
            lambda: report.update(
                describing_columns.tables(spec, rows, labels, statistics=_statistics)
            ),
        )
        attempt(
            f"draw {path.name}",
            problems,
            lambda: describing_columns.plot(spec, rows, labels, path),
        )
    elif rows.ndim == 2 and rows.size and labels.shape == rows.shape[:1]:
        attempt("describe the features", problems, lambda: report.update(_tables(spec, dataset)))
        _draw(spec, dataset, folder, problems)
    if problems:
        report["problems"] = problems
    (folder / DESCRIPTION).write_text(json.dumps(report))


def attempt(what: str, problems: list[str], make: Callable[[], object]) -> None:
    """Create output for the UI; if that fails, add a message to `problems`.

    A dataset or model is not refused because a picture of it cannot be drawn.
    """
    try:
        make()
    except Exception as error:  # noqa: BLE001  # Libraries raise anything on unusual data.
        problems.append(f"could not {what}: {type(error).__name__}: {error}")


def _tables(spec: ModelSpec, dataset: Dataset) -> dict[str, Any]:
    rows, names = dataset.x_train, spec.dataset.names()
    if rows.shape[1] > _MOST_FEATURES:
        return {"features": [_summary(rows)]}
    return {
        "features": _each(names, rows),
        "samples": _samples(spec, names, rows, dataset.y_train),
    }


def _draw(spec: ModelSpec, dataset: Dataset, folder: Path, problems: list[str]) -> None:
    """Draw histograms of few features, or images if many features form one."""
    rows, labels = dataset.x_train, dataset.y_train
    if rows.shape[1] <= _MOST_FEATURES:
        path = folder / HISTOGRAMS
        attempt(f"draw {path.name}", problems, lambda: _plot_histograms(spec, rows, labels, path))
    elif (side := _side_of_image(rows.shape[1])) is not None:
        path = folder / SAMPLE_IMAGES

        def shown() -> "NDArray[Any]":
            chosen = spec.task.typical_rows(labels, most=_SAMPLE_IMAGES)
            found: NDArray[Any] = rows[chosen]
            return found

        attempt(f"draw {path.name}", problems, lambda: _draw_images(shown(), side, path))


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
    """Describe many features together, in one row; of many rows, only a sample is used."""
    import numpy as np

    step = max(1, rows.size // _MOST_VALUES)
    shown = rows[::step]
    constant = int((rows.max(axis=0) == rows.min(axis=0)).sum())
    every = "" if step == 1 else f"; every {step}th row"
    return {
        "feature": f"all {rows.shape[1]}, {constant} constant{every}",
        **_statistics(shown.ravel()),
        "distinct": len(np.unique(shown)),
    }


def _statistics(values: "NDArray[Any]") -> dict[str, Any]:
    """Return minimum, mean, standard deviation, maximum, missing count and a sketch."""
    import numpy as np

    finite = _finite(values)
    scale = float(np.abs(finite).max(initial=0)) or 1.0
    scaled = finite / scale  # The sum and the range of very large numbers overflow.
    numbers = {
        name: float(f"{scale * of(scaled):.6g}") if finite.size else None
        for name, of in (("min", np.min), ("mean", np.mean), ("std", np.std), ("max", np.max))
    }
    return {
        "distribution": sketch(_counts(scaled)),
        **numbers,
        "missing": int(values.size - finite.size),
    }


def _finite(values: "NDArray[Any]") -> "NDArray[Any]":
    import numpy as np

    with np.errstate(over="ignore"):  # Of longer floats.
        numbers = values.astype(np.float64)
    finite: NDArray[Any] = numbers[np.isfinite(numbers)]
    return finite


def _counts(scaled: "NDArray[Any]") -> "NDArray[Any]":
    """Count numbers between -1 and 1 in bins from the minimum to the maximum.

    `numpy.histogram` of the original numbers raises if the bins are too narrow for floats.
    """
    import numpy as np

    least, spread = scaled.min(initial=1), np.ptp(scaled) if scaled.size else 0.0
    places = (scaled - least) / spread if spread else np.full(scaled.shape, 0.5)
    return np.histogram(places, bins=_BINS, range=(0, 1))[0]


def sketch(counts: "NDArray[Any]") -> str:
    """Return a histogram as text: one block per bin, a space for an empty bin."""
    greatest = max(counts.max(), 1)
    steps = len(_BARS) - 1
    return "".join(_BARS[round(steps * n / greatest)] if n else "\u2007" for n in counts)


def _samples(
    spec: ModelSpec, names: Sequence[str], rows: "NDArray[Any]", labels: "NDArray[Any]"
) -> list[dict[str, Any]]:
    task = spec.task
    return [
        {
            task.target: task.shown_target(label, spec.dataset),
            **{n: float(v) if math.isfinite(v) else None for n, v in zip(names, row, strict=False)},
        }
        for row, label in zip(rows[:_SAMPLE_ROWS], labels[:_SAMPLE_ROWS], strict=True)
    ]


def _plot_histograms(
    spec: ModelSpec, rows: "NDArray[Any]", labels: "NDArray[Any]", path: Path
) -> None:
    """Draw a histogram per feature, with stacked groups of rows."""
    count, names = rows.shape[1], spec.dataset.names()
    groups = spec.task.groups(labels, spec.dataset)
    columns = min(4, count)
    lines = -(-count // columns)
    figure = new_figure(2.6 * columns, 2.0 * lines + 0.5)
    for number, axes in enumerate(figure.subplots(lines, columns, squeeze=False).flat):
        if number >= count:
            axes.set_axis_off()
            continue
        parts = [_finite(rows[chosen, number]) for chosen in groups.values()]
        draw_histogram(axes, parts, bins=20, labels=list(groups))
        axes.set_title(names[number] if number < len(names) else str(number), fontsize=8)
        axes.tick_params(labelsize=7)
    if 1 < len(groups) <= 10:
        axes = figure.axes[0]
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    save(figure, path)


def _draw_images(rows: "NDArray[Any]", side: int, path: Path) -> None:
    """Draw each row as an image, side by side, in black and white: a few hundred bytes.

    The UI shows a picture directly only if it has less than 1,000 characters.
    """
    import numpy as np

    shown = rows.reshape(-1, side, side)
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
