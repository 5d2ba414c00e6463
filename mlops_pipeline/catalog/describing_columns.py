"""Describes a dataset of a table or of strings for the UI: a record and picture of each column."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.plotting import draw_histogram, new_figure, save
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.serving.schema import FLOAT, INT, STRING, TEXT, Column, InputColumn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Statistics = Callable[["NDArray[Any]"], Mapping[str, Any]]
_MOST_COLUMNS = 30
"""Maximum number of columns that get their own row and picture."""
_MOST_BARS = 8
_MOST_DIFFERENT = 20
"""Different strings of a column that are drawn like categories; of more, their lengths are."""
_SAMPLE_ROWS = 5
_LONGEST = 200
"""Characters of a string that a sample shows."""


def tables(
    spec: ModelSpec, rows: "NDArray[Any]", labels: "NDArray[Any]", *, statistics: Statistics
) -> dict[str, Any]:
    """Return a record for each column, and the first rows; `statistics` describes numbers."""
    named = _columns(spec, rows)
    task = spec.task
    samples = [
        {
            task.target: task.shown_target(label, spec.dataset),
            **{column.name: _shown(values[number]) for column, values in named},
        }
        for number, label in enumerate(labels[:_SAMPLE_ROWS])
    ]
    return {
        "features": [_describe(column, values, statistics) for column, values in named],
        "samples": samples,
    }


def _columns(spec: ModelSpec, rows: "NDArray[Any]") -> list[tuple[Column, list[Any]]]:
    schema = spec.dataset.schema
    if schema is None:
        return []
    if schema.form == TEXT:
        return [(schema.columns[0], rows.tolist())]
    if schema.inputs:
        every = zip(schema.inputs[:_MOST_COLUMNS], rows.T, strict=False)
        return [_of_input(column, cells.tolist()) for column, cells in every]
    shown = schema.columns[:_MOST_COLUMNS]
    return [(column, rows[:, number].tolist()) for number, column in enumerate(shown)]


def _of_input(column: InputColumn, arrays: list[Any]) -> tuple[Column, list[Any]]:
    """Return one of several inputs as a column: its single values, or the mean of each row."""
    if all(size == 1 for size in column.shape):
        return Column(column.name, column.type), [array.item() for array in arrays]
    return Column(f"mean of {column.name}", FLOAT), [float(array.mean()) for array in arrays]


def _describe(column: Column, values: Sequence[Any], statistics: Statistics) -> dict[str, Any]:
    """Return a column's record: statistics of its numbers, or of the lengths of its strings."""
    known = [value for value in values if value is not None]
    counted = Counter(known)
    common = ", ".join(f"{_shown(value)} ({n})" for value, n in counted.most_common(3))
    return {
        "feature": column.name,
        "type": f"characters of {column.type}" if column.type == STRING else column.type,
        **statistics(_numbers(column, known)),
        "missing": len(values) - len(known),
        "distinct": len(counted),
        "most_common": "" if column.type == FLOAT else common,
    }


def _numbers(column: Column, known: Sequence[Any]) -> "NDArray[Any]":
    """Return numbers for statistics: the values, the lengths of strings; none of categories."""
    import numpy as np

    if column.type == STRING:
        return np.array([len(value) for value in known], dtype=np.float64)
    return np.array(known if column.is_number else [], dtype=np.float64)


def _shown(value: Any) -> Any:
    return f"{value[:_LONGEST]}…" if isinstance(value, str) and len(value) > _LONGEST else value


def plot(spec: ModelSpec, rows: "NDArray[Any]", labels: "NDArray[Any]", path: Path) -> None:
    """Draw each column, with stacked groups of rows: numbers, lengths, or the commonest values."""
    named = _columns(spec, rows)
    groups = spec.task.groups(labels, spec.dataset)
    across = min(4, len(named))
    down = -(-len(named) // across)
    figure = new_figure(2.6 * across, 2.0 * down + 0.5)
    for number, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        if number >= len(named):
            axes.set_axis_off()
            continue
        column, values = named[number]
        parts = {
            name: [v for v, is_in in zip(values, chosen, strict=True) if is_in and v is not None]
            for name, chosen in groups.items()
        }
        is_length = column.type == STRING and len(set(values)) > _MOST_DIFFERENT
        _draw(axes, column, parts, as_numbers=is_length or column.type in (FLOAT, INT))
        axes.set_title(f"{column.name}{', characters' * is_length}", fontsize=8)
        axes.tick_params(labelsize=7)
    if 1 < len(groups) <= 10:
        axes = figure.axes[0]
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    save(figure, path)


def _draw(
    axes: "Axes", column: Column, parts: Mapping[str, Sequence[Any]], *, as_numbers: bool
) -> None:
    if as_numbers:
        numbers = [_numbers(column, part) for part in parts.values()]
        draw_histogram(axes, numbers, bins=20, labels=list(parts))
        return
    counted = Counter(value for part in parts.values() for value in part)
    shown = [value for value, _ in counted.most_common(_MOST_BARS)]
    left = [0] * len(shown)
    for name, part in parts.items():
        of_part = Counter(part)
        widths = [of_part[value] for value in shown]
        axes.barh([str(value)[:20] for value in shown], widths, left=left, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
