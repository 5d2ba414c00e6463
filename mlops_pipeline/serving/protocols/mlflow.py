"""MLflow's scoring protocol: `POST /invocations`.

The body has one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`; the answer is
`{"predictions": …}`. The same documents are in Seldon's `jsonData`.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

from typing import Any

import numpy as np

from mlops_pipeline.serving import failures
from mlops_pipeline.serving.batching import DEADLINE
from mlops_pipeline.serving.custom.calls import PAYLOADS, Call
from mlops_pipeline.serving.custom.process import ComponentProcess
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.frameworks import MLFLOW
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.models import Model, conform
from mlops_pipeline.serving.payloads import find_one, listed, parse_object
from mlops_pipeline.serving.protocols.row_formats import read_payload
from mlops_pipeline.serving.recording.exchange import keep_call

error = failures.tensorflow
PATH = "/invocations"


async def invocations(model: Model, request: Request) -> Answer:
    """Answer `POST /invocations`.

    Raises:
        RequestError: the body has none or several of the payloads, `params`, or no rows that the
            model can answer.
    """
    document = parse_object(request)
    if find_one(document, PAYLOADS, where="the body") is None:
        raise RequestError("NO_DATA", f"the body must have one of {', '.join(PAYLOADS)}")
    return answer({"predictions": await predictions(model, document, request.body)})


def is_payload(model: Model, document: Any) -> bool:
    """Say whether a document in `jsonData` is MLflow's, for one of its models.

    Raises:
        RequestError: it has several of the payloads.
    """
    if model.manifest.framework != MLFLOW.name or type(document) is not dict:
        return False
    return find_one(document, PAYLOADS, where="jsonData") is not None


async def json_data(model: Model, document: dict[str, Any], body: bytes | None) -> object:
    """Answer a document in `jsonData` in its form; `inputs` is answered with `outputs`.

    Raises:
        RequestError: as `invocations`.
    """
    name = "outputs" if document.get("inputs") is not None else "predictions"
    return {name: await predictions(model, document, body, parent="jsonData")}


async def predictions(
    model: Model, document: dict[str, Any], body: bytes | None, *, parent: str = ""
) -> object:
    """Return the answer to the rows in a document, which has one of the payloads.

    Raises:
        RequestError: it has `params`, or no rows that the model can answer.
    """
    if document.get("params"):
        raise RequestError("UNSUPPORTED", "params are not supported; send only the rows")
    signature = model.default
    if signature.component is None:
        rows = read_payload(signature, document, body, parent=parent)
        ((_, scores),) = await model.predict(signature, rows, signature.default_outputs[:1])
        return listed(scores)
    if signature.schema is None:
        kind = find_one(document, PAYLOADS, where=parent or "the body")
        return await _asked(signature.component, Call({kind: document[str(kind)]}))
    rows = conform(signature, read_payload(signature, document, body, parent=parent))
    return await _asked(signature.component, Call(rows, names=signature.columns))


async def _asked(component: ComponentProcess, call: Call) -> object:
    """Return the answer of a `python_function`, which reads a payload without a schema itself."""
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
