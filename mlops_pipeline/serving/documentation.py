"""The API page at `/api/v1.0/doc/`."""

from mlops_pipeline.serving.app import Route
from mlops_pipeline.serving.protocols.seldon import Unit


def routes(unit: Unit) -> dict[str, Route]:
    return {}
