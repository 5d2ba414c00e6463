"""The rows of a dataset: checked against the schema when they are loaded, given to the training."""

from typing import TYPE_CHECKING, Any

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.schema import ARRAY, INPUTS, TABLE, Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray


def checked(schema: Schema, rows: Any, *, where: str) -> "NDArray[Any]":
    """Return what `load` returned as cells (see `serving.cells`), or as an array of numbers.

    Raises:
        TypeError: it is not what the schema's form says.
        ValueError: a column is missing or unexpected, or a value is not allowed; has the row and
            the column.
    """
    if schema.form == TABLE:
        from mlops_pipeline.serving import frames

        return frames.cells_of(schema, rows, where=where)
    if schema.form == INPUTS:
        from mlops_pipeline.serving import joined

        return joined.of_arrays(schema, rows, where=where)
    from mlops_pipeline.serving import cells

    try:
        if schema.form == ARRAY:
            return _numbers(schema, rows, where)
        return cells.conform_cells(schema, _strings(rows, where))
    except RequestError as error:
        raise ValueError(f"{where}, {error.sentence}") from error


def given(schema: Schema | None, rows: "NDArray[Any]") -> Any:
    """Return rows as the training function gets them.

    They are a data frame, strings [n], a dict of the arrays of several inputs, or numbers.
    """
    if schema is not None and schema.form == INPUTS:
        from mlops_pipeline.serving import joined

        return joined.separated(schema, rows)
    if schema is None or schema.form != TABLE:
        return rows
    from mlops_pipeline.serving import frames

    return frames.frame_maker(schema)(rows)


def _numbers(schema: Schema, rows: Any, where: str) -> "NDArray[Any]":
    import numpy as np

    from mlops_pipeline.serving import cells

    try:
        array = np.asarray(rows)
        array = array if array.dtype.kind in "biuf" else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where} must contain numbers: {error}") from error
    cells.check_array(schema, array)
    return array


def _strings(rows: Any, where: str) -> "NDArray[Any]":
    import numpy as np

    from mlops_pipeline.serving import cells

    if isinstance(rows, str) or not hasattr(rows, "__len__"):
        raise TypeError(f"{where} is {type(rows).__name__}; expected a list of strings")
    array = np.asarray(rows)
    values = array.ravel().tolist() if array.ndim == 2 and array.shape[1] == 1 else list(rows)
    return cells.as_objects([str(v) if isinstance(v, np.str_) else v for v in values])
