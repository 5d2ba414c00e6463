"""The OpenAPI 3 document of every REST route, generated for the served model.

Its `servers` URL is relative, so that it is right behind a gateway that strips a prefix.
"""

from collections.abc import Mapping
from typing import Any

from mlops_pipeline.serving import tensor_proto, texts
from mlops_pipeline.serving.frameworks import MLFLOW
from mlops_pipeline.serving.models import Model, Signature
from mlops_pipeline.serving.openapi_columns import batch_of, columns_by_name, row_by_name
from mlops_pipeline.serving.protocols import mlflow
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.protocols.v2_raw import TEXT
from mlops_pipeline.serving.scores import DTYPES

Schema = dict[str, Any]

OBJECT: Schema = {"type": "object"}
STRING: Schema = {"type": "string"}
SHAPE: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}


def document(unit: Unit, *, base: str = "../../../") -> Schema:
    """Return the document of the routes that answer for the model of `unit`.

    `base` is the URL of the server, relative to that of the document.
    """
    model = unit.model
    return {
        "openapi": "3.0.3",
        "info": {
            "title": model.name,
            "version": model.version_name[:12],
            "description": f"{model.manifest.name} ({model.manifest.framework}), "
            f"{model.version_name}",
        },
        "servers": [{"url": base}],
        "paths": {
            **_seldon(model),
            **_v2(model),
            **_tensorflow(model),
            **_mlflow(model),
            **_health(model),
            **_pages(),
        },
        "components": {"schemas": _schemas(model)},
    }


def _seldon(model: Model) -> Schema:
    predictions = _predict(
        model, "seldon", request="SeldonMessage", response="SeldonAnswer", error="SeldonFailure"
    )
    feedback = _post(
        "seldon",
        "Give feedback",
        request="Feedback",
        response="SeldonAnswer",
        error="SeldonFailure",
    )
    metadata = _get("seldon", "The graph", response="Graph")
    unit = _get("seldon", "The model", response="Model")
    paths = {
        f"/api/{version}{path}": operation
        for version in ("v1.0", "v0.1")
        for path, operation in (
            ("/predictions", predictions),
            ("/feedback", feedback),
            ("/metadata", metadata),
            (f"/metadata/{model.name}", unit),
        )
    }
    internal = {
        "/predict": _with_form(predictions),
        "/send-feedback": _with_form(feedback),
        "/metadata": unit,
    }
    return {**paths, **internal}


def _v2(model: Model) -> Schema:
    infer = _predict(model, "v2", request="InferRequest", response="InferResponse")
    plain, versioned = (
        f"/v2/models/{model.name}",
        f"/v2/models/{model.name}/versions/{model.version_name}",
    )
    paths = {}
    for path in (plain, versioned):
        paths[f"{path}/infer"] = infer
        paths[f"{path}/ready"] = _get("v2", "Is the model ready?", error="Error")
        paths[path] = _get("v2", "Name, versions and tensors of the model", error="Error")
    server = _get("v2", "Name and version of the server", error="Error")
    index = _post("v2", "The only model, and its state", request="Index", response="Models")
    index["post"]["requestBody"]["required"] = False
    return {
        **paths,
        "/v2/models/infer": infer,
        "/v2": server,
        "/v2/repository/index": index,
    }


def _tensorflow(model: Model) -> Schema:
    predict = _predict(model, "tensorflow", request="PredictRequest", response="PredictResponse")
    paths = {"/v1/models:predict": predict}
    plain = f"/v1/models/{model.name}"
    for path in (plain, f"{plain}/versions/{model.version}"):
        paths[f"{path}:predict"] = predict
        paths[path] = _get("tensorflow", "State of the version", error="Error")
        paths[f"{path}/metadata"] = _get("tensorflow", "Signatures of the model", error="Error")
    return paths


def _mlflow(model: Model) -> Schema:
    if model.manifest.framework != MLFLOW.name:
        return {}
    return {mlflow.PATH: _predict(model, "mlflow", request="Invocation", response="Invoked")}


def _health(model: Model) -> Schema:
    ready = _get("health", "Ready to answer? 503 until the model is loaded")
    alive = _get("health", "Does the process answer?", kind="text/plain")
    return {
        **{path: ready for path in ("/ready", "/health/status", "/v2/health/ready")},
        **{f"/api/v1.0/{path}": ready for path in ("health/status", "status")},
        **{f"/api/{version}/status/{model.name}": ready for version in ("v1.0", "v0.1")},
        **{path: alive for path in ("/live", "/health/ping", "/api/v1.0/health/ping")},
        "/v2/health/live": _get("health", "Does the process answer?"),
    }


def _pages() -> Schema:
    metrics = _get("server", "Metrics for Prometheus", kind="text/plain")
    return {
        "/metrics": metrics,
        "/prometheus": metrics,
        "/api/v1.0/doc/": _get("server", "This page", kind="text/html"),
        "/api/v1.0/doc/openapi.json": _get("server", "This document"),
    }


def _get(
    tag: str,
    summary: str,
    *,
    response: str | None = None,
    kind: str = "application/json",
    error: str = "SeldonFailure",
) -> Schema:
    schema = _reference(response) if response else STRING if kind.startswith("text/") else OBJECT
    failures = _failures(error, "405", "500", "503")
    answers = {"200": _content("Answered", kind, schema), **failures}
    return {"get": {"tags": [tag], "summary": summary, "responses": answers}}


def _predict(
    model: Model, tag: str, *, request: str, response: str, error: str = "Error"
) -> Schema:
    """Return a POST that asks the model, which may be busy, or not answer in time."""
    operation = _post(tag, "Predict", request=request, response=response, error=error)
    answers = operation["post"]["responses"]
    answers |= _failures(error, "504")
    if model.default.component is not None:
        text = "The class of the model answers this status"
        answers["default"] = _content(text, "application/json", _reference(error))
    return operation


def _post(tag: str, summary: str, *, request: str, response: str, error: str = "Error") -> Schema:
    body = {"required": True, **_content("", "application/json", _reference(request))}
    del body["description"]
    failures = _failures(error, "400", "405", "408", "429", "500", "503")
    answers = {"200": _content("Answered", "application/json", _reference(response)), **failures}
    return {"post": {"tags": [tag], "summary": summary, "requestBody": body, "responses": answers}}


def _with_form(path: Schema) -> Schema:
    """Return a POST that also accepts the body in a form's field `json`."""
    form = {"type": "object", "properties": {"json": STRING}, "required": ["json"]}
    content = dict(path["post"]["requestBody"]["content"])
    content["application/x-www-form-urlencoded"] = {"schema": form}
    return {"post": {**path["post"], "requestBody": {"required": True, "content": content}}}


def _failures(error: str, *statuses: str) -> Schema:
    texts = {
        "400": "The request cannot be answered; the body says why",
        "405": "Another method is required",
        "408": "The request did not arrive in time",
        "429": "Too many requests wait for the model, or are in memory; retry",
        "500": "The model's answer cannot be written, or the server has a defect",
        "503": "The model is being loaded, or cannot answer",
        "504": "The model did not answer in time",
    }
    # The connection, which no protocol owns yet, answers 408.
    errors = dict.fromkeys(statuses, error) | {"408": "Error"}
    return {
        status: _content(texts[status], "application/json", _reference(errors[status]))
        for status in statuses
    }


def _content(description: str, kind: str, schema: Mapping[str, Any]) -> Schema:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(model: Model) -> Schema:
    """Return every schema; rows have the model's shape, scores any."""
    rows, names = _rows(model.default), {"type": "array", "items": STRING}
    values: Schema = {"type": "array", "items": {"type": "number", **_missing(model.default)}}
    tensor = _object({"shape": SHAPE, "values": values}, required=("shape", "values"))
    return {
        **_failure_schemas(),
        **_seldon_schemas(model, rows, tensor, names),
        **_v2_schemas(model, rows),
        **_tensorflow_schemas(model.default, rows),
        **(_mlflow_schemas(model.default) if _mlflow(model) else {}),
        "Model": _object(
            {"name": STRING, "versions": names, "platform": STRING}, required=("name",)
        ),
        "Graph": _object({"name": STRING, "models": OBJECT}, required=("name", "models")),
    }


def _missing(signature: Signature) -> Schema:
    return {"nullable": True} if signature.takes_missing else {}


def _rows(signature: Signature) -> Schema:
    """Return the schema of a batch of rows: at least one, each of the model's shape."""
    if signature.inputs:
        count = len(signature.inputs)
        row: Schema = {"type": "array", "items": {}, "minItems": count, "maxItems": count}
        return {"type": "array", "items": row, "minItems": 1}
    if signature.schema is not None:
        return batch_of(signature.schema)
    schema: Schema = {"type": "number", "minimum": -1e30, "maximum": 1e30, **_missing(signature)}
    if signature.dtype.kind in "bO":
        schema = {"type": "boolean" if signature.dtype.kind == "b" else "string"}
    if signature.row_shape is None:
        schema = {}
    for size in reversed(signature.row_shape or ()):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return {"type": "array", "items": schema, "minItems": 1}


def _failure_schemas() -> Schema:
    fields: Schema = {
        "code": {"type": "integer"},
        "info": STRING,
        "reason": STRING,
        "status": {"type": "string", "enum": ["FAILURE"]},
    }
    status = _object(fields, required=tuple(fields))
    return {
        "SeldonFailure": _object({"status": status}, required=("status",)),
        "Error": _object({"error": STRING}, required=("error",)),
    }


def _seldon_schemas(model: Model, rows: Schema, tensor: Schema, names: Schema) -> Schema:
    signature = model.default
    meta = _object({"puid": STRING, "tags": OBJECT, "requestPath": OBJECT})
    values: Schema = {"ndarray": rows}
    if not signature.inputs:  # They do not fit into one tensor.
        values |= {"tensor": tensor, "tftensor": _tensor_proto(signature)}
    data = {
        "oneOf": [
            _object({"names": names, name: value}, required=(name,))
            for name, value in values.items()
        ]
    }
    binary: Schema = {"type": "string", "format": "byte"}
    content = {"strData": STRING, "binData": binary} if _takes_content(signature) else {}
    scores: Schema = {"names": names, "ndarray": {"type": "array", "items": {}}, "tensor": tensor}
    request = [
        _object({"data": data, "meta": meta}, required=("data",)),
        _object({"jsonData": _json_data(model, rows), "meta": meta}, required=("jsonData",)),
        *(_object({key: kind, "meta": meta}, required=(key,)) for key, kind in content.items()),
    ]
    answer: Schema = {"data": _object(scores), "jsonData": {}, "meta": meta}
    if signature.component is not None:
        answer |= content
    return {
        "SeldonMessage": {"oneOf": request},
        "SeldonAnswer": _object(answer, required=("meta",)),
        "Feedback": OBJECT,
    }


def _takes_content(signature: Signature) -> bool:
    """Say whether `strData` and `binData` are answered: by a class, or as a row's only text."""
    if signature.component is not None:
        return True
    return signature.dtype.kind == "O" and texts.is_single(signature.row_shape)


def _tensor_proto(signature: Signature) -> Schema:
    types = tensor_proto.readable(text=signature.dtype.kind == "O")
    return {
        "type": "object",
        "description": "TensorFlow's TensorProto in protobuf's JSON: the values in tensorContent, "
        "or in the field of their type, such as floatVal",
        "properties": {
            "dtype": {"type": "string", "enum": list(types)},
            "tensorShape": OBJECT,
            "tensorContent": {"type": "string", "format": "byte"},
            **{field: {"type": "array", "items": {}} for field in sorted(set(types.values()))},
        },
        "required": ["dtype", "tensorShape"],
    }


def _json_data(model: Model, rows: Schema) -> Schema:
    """Return the schema of `jsonData`: a class without a schema gets any JSON."""
    signature = model.default
    if signature.component is not None and signature.schema is None:
        return {}
    bare = [] if signature.inputs else [rows]
    frames = _frames(signature) if _mlflow(model) else []
    return {"oneOf": [_reference("PredictRequest"), *frames, *bare]}


def _v2_schemas(model: Model, rows: Schema) -> Schema:
    signature = model.default
    text = [TEXT] if signature.dtype.kind == "O" else []
    datatype: Schema = {"type": "string", "enum": [*DTYPES, *text]}
    tensor: Schema = {
        "name": {"type": "string", "enum": [signature.input]},
        "shape": SHAPE,
        "datatype": datatype,
        "data": {"anyOf": [rows, {"type": "array", "items": _value(rows), "minItems": 1}]},
    }
    count = most = 1
    if signature.dtype.kind != "O" and (signature.takes_columns or signature.columns):
        # One tensor with any name, or one tensor for each column.
        most = len(signature.columns) or max((signature.row_shape or (1,))[0], 1)
        tensor["name"] = STRING
        column = {"type": "array", "items": _value(rows), "minItems": 1, "maxItems": 1}
        tensor["data"]["anyOf"].append({"type": "array", "items": column, "minItems": 1})
    if signature.inputs:
        count = len(signature.inputs)
        tensor["name"] = {"type": "string", "enum": [one.name for one in signature.inputs]}
        tensor["data"] = {"type": "array", "items": {}, "minItems": 1}
    if signature.dtype.kind == "O" and signature.columns:  # One tensor for each column.
        count = len(signature.columns)
        tensor["name"] = {"type": "string", "enum": list(signature.columns)}
        tensor["data"] = {"type": "array", "items": {}, "minItems": 1}
    asked: Schema = {"name": {"type": "string", "enum": list(model.default.outputs)}}
    output = {
        "name": STRING,
        "shape": SHAPE,
        "datatype": STRING,
        "data": {"type": "array", "items": {}},
    }
    answered: Schema = {
        "model_name": STRING,
        "model_version": STRING,
        "id": STRING,
        "outputs": {"type": "array", "items": _object(output, required=tuple(output))},
    }
    items = _object(tensor, required=("shape", "datatype", "data"))
    inputs: Schema = {
        "type": "array",
        "items": items,
        "minItems": count,
        "maxItems": max(count, most),
    }
    outputs = {"type": "array", "items": _object(asked, required=("name",))}
    request: Schema = {"id": STRING, "inputs": inputs, "outputs": outputs, "parameters": OBJECT}
    state = {"name": STRING, "version": STRING, "state": STRING, "reason": STRING}
    return {
        "Index": _object({"ready": {"type": "boolean"}}),
        "Models": {"type": "array", "items": _object(state, required=("name",))},
        "InferRequest": _object(request, required=("inputs",)),
        "InferResponse": _object(answered, required=tuple(answered)),
    }


def _value(rows: Schema) -> Schema:
    """Return the schema of one value in rows."""
    while rows.get("type") == "array":
        rows = rows["items"]
    return rows


def _tensorflow_schemas(signature: Signature, rows: Schema) -> Schema:
    instances, inputs = rows, rows
    if signature.schema is not None and signature.columns:
        named = {"type": "array", "items": row_by_name(signature.schema), "minItems": 1}
        instances = {"oneOf": [rows, named]}
        inputs = {"oneOf": [rows, columns_by_name(signature.schema)]}
    if signature.inputs:
        rows_of = {one.name: _rows(signature.of_input(one)) for one in signature.inputs}
        one_of = {name: rows["items"] for name, rows in rows_of.items()}
        row = _object(one_of, required=tuple(one_of))
        instances = {"type": "array", "items": row, "minItems": 1}
        inputs = _object(rows_of, required=tuple(rows_of))
    by_row = _object({"instances": instances}, required=("instances",))
    by_column = _object({"inputs": inputs}, required=("inputs",))
    return {
        "PredictRequest": {"oneOf": [by_row, by_column]},
        "PredictResponse": {
            "oneOf": [
                _object({"predictions": {}}, required=("predictions",)),
                _object({"outputs": {}}, required=("outputs",)),
            ]
        },
    }


def _mlflow_schemas(signature: Signature) -> Schema:
    """Return the bodies of MLflow's scoring server; see `protocols/mlflow.py`."""
    return {
        "Invocation": {"oneOf": [*_frames(signature), _reference("PredictRequest")]},
        "Invoked": _object({"predictions": {}}, required=("predictions",)),
    }


def _frames(signature: Signature) -> list[Schema]:
    """Return the schemas of MLflow's data frames, which several inputs do not fit into."""
    if signature.inputs:
        return []
    table: Schema = {"type": "array", "items": {"type": "array", "items": {}}, "minItems": 1}
    names: Schema = {"type": "array", "items": STRING}
    split = _object({"columns": names, "data": table}, required=("data",))
    row = row_by_name(signature.schema) if signature.schema and signature.columns else OBJECT
    records: Schema = {"type": "array", "items": row, "minItems": 1}
    return [
        _object({"dataframe_split": split}, required=("dataframe_split",)),
        _object({"dataframe_records": records}, required=("dataframe_records",)),
    ]


def _object(properties: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return schema | {"required": list(required)} if required else schema
