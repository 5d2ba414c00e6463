"""`predict`: rows from the command line or a file, asked through the gateway."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.cli import rows
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.rows import Rows
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError
from mlops_pipeline.clients.prediction import Answer, PredictionClient
from mlops_pipeline.delivery.deploying import deployed_ref, url_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def read_rows(spec: ModelSpec, words: Sequence[str], file: Path | None) -> Rows:
    """Return the rows that were given; none: the model's example, if it has one.

    Raises:
        ConfigurationError: not finite numbers, or not as many as the model has features.
    """
    if file is not None and words:
        raise ConfigurationError("give rows with --row or a file with --file, not both")
    found = rows.read(file) if file else rows.typed(words)
    if not found.values and spec.example:
        found = Rows((spec.example,), ("its example",))
    for place, row in zip(found.places, found.values, strict=True):
        if len(row) != spec.dataset.features:
            raise ConfigurationError(
                f"{place} has {len(row)} values; {spec.name} takes rows of {spec.dataset.features}"
            )
    return found


def predict_rows(context: Context, model: RegisteredModel, asked: Rows) -> Answer:
    """Ask the deployed model; without rows, the first of its hold-out set.

    Raises:
        NotFoundError: it is not deployed.
        UnavailableError: no answer, or one that is no prediction.
    """
    context.require_deployed(model)
    values = asked.values or _row_of_holdout(context, model)
    url, trust = url_of(model.spec, context.platform), context.platform.gateway_trust()
    with PredictionClient(url, trust=trust) as client:
        if asked.names:  # The model puts them into its order, or says which it misses.
            data = {"names": asked.names, "ndarray": asked.values}
            return client.send(json.dumps({"data": data}).encode())
        return client.predict(values)


def _row_of_holdout(context: Context, model: RegisteredModel) -> "ArrayLike":
    deployed = deployed_ref(model.spec, context.platform)
    if deployed is None:
        raise NotFoundError(
            f"what is deployed for {model.name} is no artifact of it and has no row to ask "
            "with; give one with --row"
        )
    return context.artifacts.holdout(deployed).x[:1]
