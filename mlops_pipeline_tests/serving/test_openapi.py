from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import openapi, routes
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature, toy_unit

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


def test_every_route_is_described() -> None:
    document = openapi.document(UNIT)
    served = routes.routes_of(UNIT, Metrics(CollectorRegistry()))
    assert document["paths"].keys() == served.keys() - UNDOCUMENTED
    for path in document["paths"]:
        methods = {method.upper() for method in document["paths"][path]}
        assert methods == set(served[path].methods)


def test_every_reference_leads_to_a_schema() -> None:
    document = openapi.document(UNIT)
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) == schemas


def test_rows_of_text_are_strings() -> None:
    unit = toy_unit(toy_model(replace(toy_signature(), dtype=np.dtype(object), row_shape=())))
    schemas = openapi.document(unit)["components"]["schemas"]
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
