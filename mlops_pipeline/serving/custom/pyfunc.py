"""An MLflow model of the flavour `python_function` as a custom component.

MLflow checks the model's signature itself; this builds the data frame that it expects. A request's
`jsonData` may be any of MLflow's own payloads.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.custom.calls import PAYLOADS
from mlops_pipeline.serving.custom.seldon_names import SeldonMicroserviceException

mlflow: Any = importlib.import_module("mlflow")
importlib.import_module("mlflow.pyfunc")
pd: Any = importlib.import_module("pandas")

_TYPES = {
    "long": "int64",
    "integer": "int32",
    "float": "float32",
    "double": "float64",
    "boolean": "bool",
    "string": "str",
}


class PayloadError(SeldonMicroserviceException):
    """A request that the model cannot take."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, status_code=400, reason="WRONG_INPUT")


class PyFunc:
    """The loaded model."""

    def __init__(self, xtype: str = "", method: str = "predict") -> None:
        """`xtype` is Seldon's: rows are passed as `ndarray` or `dataframe`.

        Without it, they are a data frame if their columns have names. The columns of a signature
        are one anyhow. The only `method` of a python_function is `predict`.

        Raises:
            ValueError: an argument has another value.
        """
        if xtype not in ("", "ndarray", "dataframe") or method != "predict":
            raise ValueError(
                f"xtype must be ndarray or dataframe, got {xtype!r}; method must be predict, got "
                f"{method!r}"
            )
        self.xtype = xtype
        self.model: Any = None
        self.class_names: list[str] | None = None

    def load(self) -> None:
        """Load the model, to whose files the working directory has links."""
        self.model = mlflow.pyfunc.load_model(str(Path("MLmodel").resolve().parent))
        schema = self.model.metadata.get_input_schema()
        is_tensor = schema is not None and schema.is_tensor_spec()
        self.tensors = {spec.name: spec.type for spec in schema.inputs} if is_tensor else {}
        is_table = schema is not None and not schema.is_tensor_spec() and schema.has_input_names()
        self.columns = schema.input_names() if is_table else []
        self.required = (
            [column.name for column in schema.inputs if column.required] if is_table else []
        )
        self.types = [_type(column) for column in schema.inputs] if is_table else []

    def feature_names(self) -> list[str]:
        """Return the names of the model's columns, if its signature has them."""
        return self.columns

    def predict(self, X: Any, names: Any, meta: Any = None) -> Any:
        """Return the model's answer to rows, or to one of MLflow's payloads."""
        given = _payload(X) if isinstance(X, dict) else X
        if self.tensors:
            given = self._tensors(given)
        elif isinstance(given, np.ndarray) and given.ndim == 2:
            given = self._frame(given, list(names))
        if isinstance(given, pd.DataFrame) and self.columns:
            given = self._table(given)
        try:
            answer = self.model.predict(given)
        except mlflow.exceptions.MlflowException as error:
            # It repeats the data first.
            raise PayloadError(
                " ".join(str(error.message).rpartition("Error: ")[2].split())
            ) from error
        self.class_names = None
        if isinstance(answer, pd.DataFrame):
            self.class_names = [str(name) for name in answer.columns]
            return answer.to_numpy()
        return answer.to_numpy() if isinstance(answer, pd.Series) else answer

    def _frame(self, rows: Any, names: list[str]) -> Any:
        """Return rows as a data frame, if their columns have names."""
        columns = self.columns or (names if self.xtype != "ndarray" else [])
        if not columns and self.xtype != "dataframe":
            return rows
        try:
            return pd.DataFrame(rows, columns=columns or None).infer_objects()
        except ValueError as error:
            raise PayloadError(
                f"expected {len(columns)} columns ({', '.join(map(repr, columns))}), got "
                f"{rows.shape[1]}"
            ) from error

    def _tensors(self, given: Any) -> Any:
        """Return tensors in the types of the signature: MLflow converts none of them."""
        if isinstance(given, dict):
            kinds = self.tensors
            return {
                name: _cast(value, kinds[name], name) if name in kinds else value
                for name, value in given.items()
            }
        ((name, kind), *others) = self.tensors.items()
        if others or not isinstance(given, np.ndarray):
            return given
        tensor = _cast(given, kind, name or "the tensor")
        return {name: tensor} if name else tensor

    def _table(self, given: Any) -> Any:
        """Return the columns in the types of the signature; MLflow itself converts only some."""
        if missing := [name for name in self.required if name not in given]:
            raise PayloadError(f"the columns {', '.join(map(repr, missing))} are missing")
        for name, kind in zip(self.columns, self.types, strict=True):
            if not kind or name not in given:
                continue
            if kind == "bool" and not given[name].isin([True, False]).all():
                raise PayloadError(f"the column {name!r} must be bool: send true and false")
            try:
                column = given[name].astype(kind)
            except (TypeError, ValueError) as error:
                raise PayloadError(f"the column {name!r} must be {kind}: {error}") from error
            if kind.startswith("int") and not (column == given[name]).all():
                raise PayloadError(f"the column {name!r} must be {kind}: a number is not whole")
            given[name] = column
        return given


def _cast(value: Any, kind: Any, name: str) -> Any:
    """Return a tensor in its type, without changing a number."""
    try:
        array = np.asarray(value)
        cast = array.astype(kind)
    except (TypeError, ValueError) as error:
        raise PayloadError(f"{name} must be {kind}: {error}") from error
    if array.dtype.kind in "fiu" and cast.dtype.kind in "iub" and not (cast == array).all():
        raise PayloadError(f"{name} must be {kind}: a number is not of this type")
    return cast


def _type(column: Any) -> str:
    return _TYPES.get(getattr(getattr(column, "type", None), "name", ""), "")


def _payload(document: dict[str, Any]) -> Any:
    """Return the data of one of MLflow's payloads; other documents as they are."""
    found = [name for name in PAYLOADS if name in document]
    if not found:
        return document
    if len(found) > 1:
        raise PayloadError(f"the request has {' and '.join(found)}; send one of them")
    (name,) = found
    value = document[name]
    try:
        if name == "dataframe_split":
            return pd.DataFrame(value["data"], columns=value.get("columns"))
        if name == "dataframe_records":
            return pd.DataFrame.from_records(value)
        if isinstance(value, dict):
            return value
        array = np.array(value)
        # numpy turns the numbers beside text into text.
        return np.array(value, dtype=object) if array.dtype.kind == "U" else array
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise PayloadError(f"{name} cannot be read: {error!r:.200}") from error
