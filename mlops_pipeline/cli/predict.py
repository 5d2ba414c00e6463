"""`predict`: rows from the command line or a file, asked through the gateway."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.cli import cell_rows, rows
from mlops_pipeline.cli.cell_rows import plain
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.rows import Rows, some
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError, UnavailableError
from mlops_pipeline.clients.prediction import PredictionClient, Reply, matrix, request_for
from mlops_pipeline.delivery.deploying import deployed_ref, url_of
from mlops_pipeline.serving.schema import INPUTS, TEXT, Schema

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def read_rows(spec: ModelSpec, words: Sequence[str], file: Path | None) -> Rows:
    """Return the rows that were given; none: the model's example, if it has one.

    Columns whose names the spec knows are put into its order, and need no names any more.

    Raises:
        ConfigurationError: not finite numbers, or not as many as the model has features.
    """
    if file is not None and words:
        raise ConfigurationError("use either --row or --file, not both")
    if spec.dataset.schema is not None:
        return _of_schema(spec, spec.dataset.schema, words, file)
    found = rows.read(file) if file else rows.typed(words)
    if not found.values and spec.example:
        found = Rows((spec.example,), ("its example",))
    for place, row in zip(found.places, found.values, strict=True):
        if len(row) != spec.dataset.features:
            raise ConfigurationError(
                f"{place} has {len(row)} values; {spec.name} expects {spec.dataset.features}"
            )
    return _ordered(spec, found)


def _of_schema(spec: ModelSpec, schema: Schema, words: Sequence[str], file: Path | None) -> Rows:
    """Return rows in the schema's order, each value checked.

    Raises:
        ConfigurationError: rows of several inputs were given, which are no lines of text.
    """
    if schema.form == INPUTS:
        if words or file:
            raise ConfigurationError(
                f"{spec.name} has several inputs ({some(schema.names)}), which --row and --file "
                "cannot have; without them, a row of the hold-out set is sent, and "
                "docs/bring-your-model.md shows requests"
            )
        return Rows((), ())
    found = cell_rows.read(schema, file) if file else cell_rows.typed(schema, words)
    if not found.values and spec.example:
        return Rows((spec.example,), ("its example",))
    return found


def _ordered(spec: ModelSpec, asked: Rows) -> Rows:
    """Return rows in the order of the spec's columns, by its names for them or by their numbers."""
    given, count = [plain(name) for name in asked.names], spec.dataset.features
    if not given:
        return asked
    prefix = min(given, key=lambda name: (len(name), name))[:-1]
    numbered = [f"{prefix}{n}" for n in range(count)]  # x0, x1 … or pixel0, pixel1 …
    for known in ([plain(name) for name in spec.dataset.names()], numbered):
        if len(set(given)) == count and set(given) == set(known):
            order = [given.index(name) for name in known]
            return replace(
                asked, values=tuple(tuple(row[n] for n in order) for row in asked.values), names=()
            )
    return asked


def predict_rows(context: Context, model: RegisteredModel, asked: Rows) -> Reply:
    """Ask the deployed model; without rows, the first of its hold-out set.

    Raises:
        NotFoundError: it is not deployed.
        UnavailableError: no answer, or one that is no prediction.
    """
    context.require_deployed(model)
    values = asked.values or _row_of_holdout(context, model)
    url, trust = url_of(model.spec, context.platform), context.platform.gateway_trust()
    with PredictionClient(url, trust=trust, is_recorded=True) as client:
        if model.spec.dataset.schema is not None and asked.values:
            return client.ask(_of_cells(model.spec.dataset.schema, asked.values))
        if asked.names:
            return predict_named(model.spec, client, asked)
        return client.ask(request_for(values))


def predict_named(spec: ModelSpec, client: PredictionClient, asked: Rows) -> Reply:
    """Ask with names that the spec does not know: the model may, and puts them into its order.

    Raises:
        ConfigurationError: nobody knows them, so that nobody knows what the columns are.
        UnavailableError: no answer, or one that is no prediction.
    """
    unknown = [f"no column {number}" for number in range(len(asked.values[0]))]
    try:
        client.ask(_named(unknown, asked.values[:1]))
    except UnavailableError:  # A model that knows its columns refuses others.
        return client.ask(_named(asked.names, asked.values))
    raise ConfigurationError(
        f"unknown columns of {spec.name}: {some(asked.names)}; rename them to "
        f"{some(spec.dataset.names())}, or remove the names if the columns are in that order"
    )


def _of_cells(schema: Schema, values: Sequence[Sequence[Any]]) -> bytes:
    if schema.form == TEXT:
        return json.dumps({"data": {"ndarray": [text for (text,) in values]}}).encode()
    return _named(schema.names, values)


def _named(names: Iterable[str], values: Sequence[Sequence[Any]]) -> bytes:
    return json.dumps({"data": {"names": list(names), "ndarray": values}}).encode()


def _row_of_holdout(context: Context, model: RegisteredModel) -> "ArrayLike":
    deployed = deployed_ref(model.spec, context.platform)
    if deployed is None:
        raise NotFoundError(
            f"the deployment of {model.name} does not serve an artifact of this model, so there is "
            "no example row; pass one with --row"
        )
    return context.artifacts.proof_rows(deployed).x[:1]


def table_of(spec: ModelSpec, reply: Reply) -> Table:
    """Return the reply as a table for the model's task. Text is shown as it is."""
    try:
        scores = matrix(reply.rows)
    except (TypeError, ValueError):
        rows = [row if isinstance(row, list) else [row] for row in reply.rows]
        return _table(reply.names, [[_shown(value) for value in row] for row in rows])
    return _table(*spec.task.answer_table(scores, reply.names, spec.dataset))


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    width = max(map(len, rows), default=0)
    header = names if len(names) == width else [f"column {n}" for n in range(width)]
    table = Table(*map(escape, header), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
