import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import failures, openapi, routes, tensor_proto
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.models import Input
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.schema import Column, Schema
from mlops_pipeline_tests.serving.toy_model import toy_manifest, toy_model, toy_signature, toy_unit

UNIT = toy_unit()
UNDOCUMENTED = {
    # The page's own parts, and second spellings that Seldon's clients use.
    *(
        "/api/v1.0/doc/index.html",
        "/api/v1.0/doc/swagger-ui.css",
        "/api/v1.0/doc/favicon-32x32.png",
    ),
    *("/api/v1.0/doc/swagger-ui-bundle.js", "/seldon.json", "/v2/docs", "/v2/docs/"),
    "/v2/docs/dataplane.json",
    "/api/v1.0/doc/seldon.json",
    *("/v1/models/:predict", "/v1/models/classifier/:predict"),
    # Further names of the only version.
    *(
        f"/v2/models/classifier/versions/{name}{end}"
        for name in UNIT.model.version_names[1:]
        for end in ("", "/ready", "/infer")
    ),
    *(
        f"/v1/models/classifier/versions/{name}{end}"
        for name in UNIT.model.version_names
        for end in ("", "/metadata", ":predict")
        if name != str(UNIT.model.version)
    ),
}


def references(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        if "$ref" in document:
            yield document["$ref"]
        for value in document.values():
            yield from references(value)
    elif isinstance(document, list):
        for value in document:
            yield from references(value)


MLFLOW = toy_unit(toy_model(manifest=toy_manifest(framework="mlflow")))
TEXT = toy_unit(toy_model(replace(toy_signature(), dtype=np.dtype(object), row_shape=())))


@pytest.mark.parametrize("unit", [UNIT, MLFLOW, TEXT], ids=["numbers", "mlflow", "text"])
def test_every_route_is_described(unit: Unit) -> None:
    document = openapi.document(unit)
    served = routes.routes_of(unit, Metrics(CollectorRegistry()))
    aliases = {
        path.replace(UNIT.model.version_names[0], unit.model.version_names[0]).replace(
            str(UNIT.model.version), str(unit.model.version)
        )
        for path in UNDOCUMENTED
    }
    assert document["paths"].keys() == served.keys() - aliases
    for path in document["paths"]:
        methods = {method.upper() for method in document["paths"][path]}
        assert methods == set(served[path].methods)
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) == schemas


def test_every_status_of_an_error_is_described() -> None:
    """404 is of paths that are not described, 501 only of gRPC; a class may answer any status."""
    paths = openapi.document(MLFLOW)["paths"]
    raised = {
        int(status)
        for file in Path(openapi.__file__).parent.rglob("*.py")
        for status in re.findall(r"status=(\d{3})", file.read_text(encoding="utf-8"))
    }
    wanted = {str(status) for status in (raised | {400, 408}) - {404, 501}}
    predicting = [path for path in paths if "Predict" in str(paths[path])]
    assert len(predicting) == 10
    for path in predicting:
        answers = paths[path]["post"]["responses"]
        assert answers.keys() - {"200"} == wanted
        error = "SeldonFailure" if failures.of_path(path) is failures.seldon else "Error"
        for status, found in answers.items():
            name = "Error" if status == "408" else error  # The connection answers 408.
            if status != "200":
                schema = found["content"]["application/json"]["schema"]
                assert schema == {"$ref": f"#/components/schemas/{name}"}


@pytest.mark.parametrize(("unit", "text"), [(UNIT, False), (TEXT, True)])
def test_a_message_of_seldon_has_what_its_model_takes(unit: Unit, *, text: bool) -> None:
    message = openapi.document(unit)["components"]["schemas"]["SeldonMessage"]["oneOf"]
    assert [next(iter(one["properties"])) for one in message] == [
        "data",
        "jsonData",
        *(["strData", "binData"] if text else []),
    ]
    tensor = message[0]["properties"]["data"]["oneOf"][2]["properties"]["tftensor"]["properties"]
    numbers = {tensor_proto.type_name(dtype) for dtype in tensor_proto.TYPES} | {"DT_BFLOAT16"}
    assert set(tensor["dtype"]["enum"]) == ({"DT_STRING"} if text else numbers)
    assert ("stringVal" in tensor, "floatVal" in tensor) == (text, not text)


def test_rows_of_text_are_strings() -> None:
    schemas = openapi.document(TEXT)["components"]["schemas"]
    rows = schemas["PredictRequest"]["oneOf"][0]["properties"]["instances"]
    assert rows["items"] == {"type": "string"}


def test_rows_have_the_models_shape() -> None:
    unit = toy_unit(toy_model(toy_signature(row_shape=(-1, 2))))
    schemas = openapi.document(unit)["components"]["schemas"]
    rows = schemas["PredictRequest"]["oneOf"][0]["properties"]["instances"]
    assert rows["minItems"] == 1
    assert "maxItems" not in rows["items"]
    assert rows["items"]["items"]["maxItems"] == 2


@pytest.mark.parametrize("takes_missing", [True, False])
def test_a_missing_value_is_allowed_where_the_model_takes_it(*, takes_missing: bool) -> None:
    signature = replace(toy_signature(row_shape=(2,)), takes_missing=takes_missing)
    schemas = openapi.document(toy_unit(toy_model(signature)))["components"]["schemas"]
    rows = schemas["PredictRequest"]["oneOf"][0]["properties"]["instances"]
    assert rows["items"]["items"].get("nullable", False) is takes_missing


TABLE = replace(
    toy_signature(row_shape=(2,)),
    dtype=np.dtype(object),
    columns=("a", "b"),
    schema=Schema((Column("a"), Column("b", "category", categories=("x", "y")))),
)
INPUTS = replace(
    toy_signature(row_shape=(2,)),
    dtype=np.dtype(object),
    inputs=(Input("a", (), np.dtype("f4")), Input("b", (2,), np.dtype("f4"))),
)
FRAMES: Any = (
    {"dataframe_records": [{"a": 1, "b": "x"}]},
    {"dataframe_split": {"data": [[1, "x"]]}},
)
BY_NAME: Any = ({"instances": [{"a": 1, "b": "x"}]}, {"inputs": {"a": [1], "b": ["x"]}})


def is_valid(unit: Unit, name: str, document: object) -> bool:
    return _fits(openapi.document(unit)["components"]["schemas"], {"$ref": f"/{name}"}, document)


def _fits(schemas: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    """Say whether a value is what a schema describes, by the keywords that the server writes."""

    def fits(inner: dict[str, Any], one: Any) -> bool:
        return _fits(schemas, inner, one)

    if "$ref" in schema:
        return fits(schemas[schema["$ref"].rpartition("/")[2]], value)
    if value is None and schema.get("nullable"):
        return True
    if "oneOf" in schema and sum(fits(one, value) for one in schema["oneOf"]) != 1:
        return False
    if "anyOf" in schema and not any(fits(one, value) for one in schema["anyOf"]):
        return False
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    kind = types.get(schema.get("type", ""), (int, float) if "type" in schema else object)
    if not isinstance(value, kind) or value not in schema.get("enum", [value]):
        return False
    if isinstance(value, list):
        least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
        items = schema.get("items", {})
        return least <= len(value) <= most and all(fits(items, one) for one in value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False and value.keys() - known.keys():
            return False
        is_whole = value.keys() >= set(schema.get("required", ()))
        return is_whole and all(fits(known.get(key, {}), value[key]) for key in value)
    return True


def of(signature: Any, framework: str = "sklearn") -> Unit:
    manifest = replace(toy_manifest(framework=framework), schema=signature.schema)
    return toy_unit(replace(toy_model(signature), manifest=manifest))


@pytest.mark.parametrize("framework", ["sklearn", "mlflow"])
def test_a_table_is_described_by_rows_names_and_data_frames(framework: str) -> None:
    data: Any
    for data in (*BY_NAME, [[1, "x"]], {"instances": [[1, "x"]]}):
        assert is_valid(of(TABLE, framework), "SeldonMessage", {"jsonData": data})
    for data in FRAMES:
        found = is_valid(of(TABLE, framework), "SeldonMessage", {"jsonData": data})
        assert found is (framework == "mlflow")
        assert framework != "mlflow" or is_valid(of(TABLE, framework), "Invocation", data)
    wrong = {"instances": [{"a": 1, "b": "z"}]}
    assert not is_valid(of(TABLE, framework), "SeldonMessage", {"jsonData": wrong})


def test_several_inputs_are_described_by_name_or_as_lists() -> None:
    unit = of(INPUTS, "mlflow")
    message: Any
    for message in (
        {"data": {"names": ["a", "b"], "ndarray": [[1, [2, 3]]]}},
        {"jsonData": {"instances": [{"a": 1, "b": [2, 3]}]}},
        {"jsonData": {"inputs": {"a": [1], "b": [[2, 3]]}}},
    ):
        assert is_valid(unit, "SeldonMessage", message)
    for message in (
        {"data": {"tensor": {"shape": [1, 1], "values": [1]}}},
        {"data": {"ndarray": [[1]]}},
        {"jsonData": [[1, [2, 3]]]},
        *({"jsonData": data} for data in FRAMES),
    ):
        assert not is_valid(unit, "SeldonMessage", message)
    assert not any(is_valid(unit, "Invocation", data) for data in FRAMES)


def test_v2_is_described_with_flat_data_and_a_tensor_for_each_column() -> None:
    unit = toy_unit(toy_model(replace(toy_signature(row_shape=(2,)), columns=("a", "b"))))

    def request(*data: Any) -> dict[str, Any]:
        tensor = {"shape": [1, 2], "datatype": "FP64"}
        return {"inputs": [{**tensor, "name": f"c{n}", "data": one} for n, one in enumerate(data)]}

    for data in (([1, 2],), ([[1, 2]],), ([1], [2]), ([[1]], [[2]])):
        assert is_valid(unit, "InferRequest", request(*data))
    assert not is_valid(unit, "InferRequest", request([1], [2], [3]))
    assert not is_valid(unit, "InferRequest", request([["a", "b"]]))


def test_a_class_without_a_schema_takes_any_json() -> None:
    signature = replace(toy_signature(row_shape=(2,)), component=cast(Any, object()))
    data: Any
    for data in ({"any": "thing"}, 5, [1, "x"]):
        assert is_valid(toy_unit(toy_model(signature)), "SeldonMessage", {"jsonData": data})
