"""`predict`: rows from the command line or a file, asked through the gateway."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError
from mlops_pipeline.clients.prediction import Answer, PredictionClient
from mlops_pipeline.delivery.deploying import deployed_ref, url_of

Rows = list[list[float]]


def read_rows(spec: ModelSpec, rows: Sequence[str], file: Path | None) -> Rows:
    """Return the rows that were given; none: the model's example, if it has one.

    Raises:
        ConfigurationError: not numbers, or not as many as the model has features.
    """
    if file is not None and rows:
        raise ConfigurationError("give rows with --row or a file with --file, not both")
    try:
        found = _read_file(file) if file else [[float(v) for v in row.split(",")] for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"the rows are not numbers: {error}") from error
    if file is not None and not found:
        raise ConfigurationError(f"{file} holds no rows")
    if not found and spec.example:
        found = [list(spec.example)]
    for row in found:
        if len(row) != spec.dataset.features:
            raise ConfigurationError(
                f"{spec.name} takes rows of {spec.dataset.features} values, not {len(row)}"
            )
    return found


def _read_file(file: Path) -> Rows:
    try:
        text = file.read_text()
    except OSError as error:
        raise ConfigurationError(f"could not read {file}: {error.strerror}") from error
    if not text.lstrip().startswith(("{", "[")):
        return [[float(value) for value in row] for row in csv.reader(text.splitlines()) if row]
    content = json.loads(text)
    rows = content["data"]["ndarray"] if isinstance(content, dict) else content
    return [[float(value) for value in row] for row in rows]


def predict_rows(context: Context, model: RegisteredModel, rows: Rows) -> Answer:
    """Ask the deployed model; without rows, the first of its hold-out set.

    Raises:
        NotFoundError: it is not deployed.
        UnavailableError: no answer, or one that is no prediction.
    """
    deployed = deployed_ref(model.spec, context.platform)
    if deployed is None:
        raise NotFoundError(
            f"{model.name} is not deployed; deploy it with `mlops-pipeline up {model.name}`"
        )
    asked = rows or context.artifacts.holdout(deployed).x[:1]
    url, trust = url_of(model.spec, context.platform), context.platform.gateway_trust()
    with PredictionClient(url, trust=trust) as client:
        return client.predict(asked)
