"""MLflow's scoring protocol: `POST /invocations`.

The body has one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`; the answer is
`{"predictions": …}`.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

from typing import Any

import numpy as np

from mlops_pipeline.serving import failures
from mlops_pipeline.serving.batching import DEADLINE
from mlops_pipeline.serving.columns import ordered
from mlops_pipeline.serving.custom.calls import PAYLOADS, Call
from mlops_pipeline.serving.custom.process import ComponentProcess
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.payloads import find_one, listed, numbers, parse_object
from mlops_pipeline.serving.protocols.row_formats import read_rows
from mlops_pipeline.serving.recording.exchange import keep_call
from mlops_pipeline.serving.scores import Array

error = failures.tensorflow
PATH = "/invocations"


async def invocations(model: Model, request: Request) -> Answer:
    """Answer `POST /invocations`.

    Raises:
        RequestError: the body has none or several of the payloads, `params`, or no rows that the
            model can answer.
    """
    document = parse_object(request)
    kind = find_one(document, PAYLOADS, where="the body")
    if kind is None:
        raise RequestError("NO_DATA", f"the body must have one of {', '.join(PAYLOADS)}")
    if document.get("params"):
        raise RequestError("UNSUPPORTED", "params are not supported; send only the rows")
    component = model.default.component
    if component is not None:
        return answer({"predictions": await _asked(component, kind, document[kind])})
    rows = _rows(model, kind, document, request.body)
    ((_, scores),) = await model.predict(model.default, rows, model.default.default_outputs[:1])
    return answer({"predictions": listed(scores)})


async def _asked(component: ComponentProcess, kind: str, value: object) -> object:
    """Return the answer of a `python_function`, which reads the payload itself."""
    call = Call({kind: value})
    found = await component.ask(call, deadline=DEADLINE.get())
    keep_call(call, found)
    if isinstance(found.value, bytes):
        raise RequestError("UNWRITABLE", "the model returned bytes", status=500)
    value = found.value
    if found.names is not None and isinstance(value, np.ndarray | list):
        rows = value.tolist() if isinstance(value, np.ndarray) else value
        if any(type(row) is not list or len(row) != len(found.names) for row in rows):
            raise RequestError(
                "UNWRITABLE",
                f"the model names {len(found.names)} columns, but its answer has others",
                status=500,
            )
        return [dict(zip(found.names, row, strict=True)) for row in rows]
    return listed(value) if isinstance(value, np.ndarray) else value


def _rows(model: Model, kind: str, document: dict[str, Any], body: bytes) -> Array:
    """Return the rows of a payload, their columns in the model's order."""
    if kind in ("instances", "inputs"):
        return read_rows(model.default, document, body)[1]
    columns, data = _split(document.pop(kind), kind)
    rows = numbers(data, where=kind, body=None, wanted=model.default.dtype)
    return ordered(model.default, columns, rows, where=f"{kind}.columns") if columns else rows


def _split(value: Any, kind: str) -> tuple[list[Any], list[Any]]:
    """Return the columns and the rows of a data frame.

    Raises:
        RequestError: it is none.
    """
    if kind == "dataframe_split":
        if type(value) is not dict or type(value.get("data")) is not list:
            raise RequestError("WRONG_TYPE", f"{kind} must have `columns` and `data`")
        return value.get("columns") or [], value["data"]
    if type(value) is not list or not all(type(record) is dict for record in value):
        raise RequestError("WRONG_TYPE", f"{kind} must be a list of objects")
    columns = list(value[0]) if value else []
    for number, record in enumerate(value):
        if record.keys() != set(columns):
            raise RequestError(
                "WRONG_NAMES", f"record {number} of {kind} has other columns than the first one"
            )
    return columns, [[record[name] for name in columns] for record in value]
