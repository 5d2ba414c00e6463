"""Validates a `ModelSpec`: each message names a field, its value and what is allowed.

Python does not enforce type annotations, so everything is checked here, before any command uses
the model.
"""

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from mlops_pipeline.catalog import releasing
from mlops_pipeline.serving import frameworks
from mlops_pipeline.serving.batch_limits import MOST_ROWS, MOST_SECONDS
from mlops_pipeline.serving.schema import CellError, Schema

if TYPE_CHECKING:
    from mlops_pipeline.catalog.spec import DatasetSpec, ModelSpec, ServerSpec, Thresholds
    from mlops_pipeline.catalog.tasks import Task

_MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""Maximum length of a Service's name in Kubernetes."""
_LABEL_LENGTH = 63
_UNIT_LENGTH = 48
_MOST_REPLICAS = 32


def of_model(spec: "ModelSpec") -> Iterator[str]:
    """Yield a message for every fault of the spec."""
    if reason := describe_name(spec.name):
        yield reason
    framework = frameworks.find_framework(spec.framework)
    if framework is None:
        yield f"framework is {spec.framework!r}; allowed: {frameworks.names()}"
    elif missing := framework.describe_missing():
        yield f"framework is {spec.framework!r}, but {missing}"
    yield from _of_function("train", spec.train, arguments=3)
    yield from _of_dataset(spec.dataset)
    yield from _of_schema(spec.dataset, spec.framework)
    yield from _of_server(spec.server, spec.framework)
    yield from _of_answers(spec.server.answers, spec.dataset)
    task_problems = list(spec.task.faults(spec.dataset))
    yield from task_problems
    yield from _of_thresholds(spec.thresholds, spec.task)
    yield from _of_hyperparameters(spec.hyperparameters)
    if not (is_number(spec.training_timeout) and spec.training_timeout > 0):
        yield (
            f"training_timeout is {spec.training_timeout!r}; it must be a number of seconds "
            "greater than 0"
        )
    again: object = spec.trains_reproducibly
    if not isinstance(again, bool):
        yield f"trains_reproducibly is {again!r}; allowed: True, False"
    yield from releasing.faults(spec.release)
    yield from _of_example(spec.example, spec.dataset)
    yield from _of_sources(spec.sources)
    # Without usable classes, the number of outputs is unknown.
    wanted = None if task_problems else spec.task.count_outputs(spec.dataset)
    yield from _of_output_names(spec.output_names, wanted)


def describe_name(name: object) -> str:
    """Return what is wrong with a model's name; empty if nothing is."""
    if _is_named(name, _MODEL_NAME):
        return ""
    return (
        f"name is {name!r}; use at most 31 lower-case letters, digits and _, starting with a letter"
    )


def _of_sources(sources: object) -> Iterator[str]:
    for source in _items(sources):
        if not isinstance(source, Path):
            yield f"sources has {source!r}; it must contain paths: Path(__file__).with_name(…)"
        elif not source.exists():
            yield f"sources has {str(source)!r}, which does not exist"


def _of_output_names(names: object, wanted: tuple[int, str] | None) -> Iterator[str]:
    if _is_empty(names):
        return
    yield from of_names("output_names", names, least=1)
    if wanted and isinstance(names, tuple | list) and len(names) != wanted[0]:
        yield (
            f"output_names has {len(names)} names for {wanted[0]} {wanted[1]}; "
            "give one for each, or none"
        )


def _of_dataset(dataset: "DatasetSpec") -> Iterator[str]:
    yield from _of_function("dataset.load", dataset.load, arguments=1)
    if not _is_whole(dataset.features, least=1):
        yield f"dataset.features is {dataset.features!r}; it must be an integer of at least 1"
    yield from _of_feature_names(dataset)
    for field in ("value_range", "target_range"):
        ends = getattr(dataset, field)
        if ends is not None and not _is_range(ends):
            yield f"dataset.{field} is {ends!r}; it must be (minimum, maximum) or None"


def _of_schema(dataset: "DatasetSpec", framework: object) -> Iterator[str]:
    schema: object = dataset.schema
    if schema is None:
        return
    if not isinstance(schema, Schema):
        yield f"dataset.schema is {schema!r}; it must be a Schema or None"
        return
    problems = list(schema.faults())
    yield from (f"dataset.schema: {problem}" for problem in problems)
    if problems:
        return
    if dataset.features != len(schema.columns):
        yield (
            f"dataset.features is {dataset.features!r}, but the schema has {len(schema.columns)} "
            "columns; leave it out"
        )
    if dataset.feature_names != schema.names:
        yield "dataset.feature_names differ from the columns of the schema; leave them out"
    if dataset.value_range is not None:
        yield "dataset.value_range is set beside a schema; give each column its range"
    fitting = frameworks.find_framework(framework)
    if fitting and schema.form not in fitting.forms:
        yield (
            f"dataset.schema is for a {schema.form}, which a {fitting.title} model does not take; "
            f"it takes: {', '.join(fitting.forms)}"
        )


def _of_example(row: object, dataset: "DatasetSpec") -> Iterator[str]:
    schema = dataset.schema
    if not isinstance(schema, Schema) or any(schema.faults()) or _is_empty(row):
        yield from _of_row("example", row, dataset.features)
        return
    if schema.inputs:
        yield "example is set, but the inputs are arrays; leave it out, the hold-out set has a row"
        return
    values = _items(row)
    if isinstance(row, str) or len(values) != len(schema.columns):
        yield f"example is {row!r}; it must be a tuple with a value for each column of the schema"
        return
    for column, value in zip(schema.columns, values, strict=True):
        try:
            column.read(value)
        except CellError as error:
            yield f"example, column {column.name!r}: {error}"


def _of_feature_names(dataset: "DatasetSpec") -> Iterator[str]:
    names: object = dataset.feature_names
    features = dataset.features
    if _is_empty(names):
        return
    yield from of_names("dataset.feature_names", names, least=1)
    given = isinstance(names, tuple | list) and _is_whole(features, least=1)
    if given and len(_items(names)) != features:
        yield (
            f"dataset.feature_names has {len(_items(names))} names for {features} features; "
            "give one for each, or none"
        )


def _of_server(server: "ServerSpec", framework: object) -> Iterator[str]:
    fitting = frameworks.find_framework(framework)
    allowed = (fitting.implementation,) if fitting else frameworks.implementations()
    if server.implementation not in allowed:
        of_it = f"; a {framework} model is served by" if fitting else "; allowed:"
        yield f"server.implementation is {server.implementation!r}{of_it} {', '.join(allowed)}"
    for field, length in (
        *(("deployment", _LABEL_LENGTH), ("namespace", _LABEL_LENGTH)),
        *(("predictor", _LABEL_LENGTH), ("graph", _UNIT_LENGTH)),
    ):
        name = getattr(server, field)
        if not _is_named(name, _LABEL) or len(name) > length:
            yield (
                f"server.{field} is {name!r}; use at most {length} lower-case letters, digits and "
                "-, starting with a letter"
            )
    if str(server.predictor).endswith(releasing.ROLES):
        yield (
            f"server.predictor is {server.predictor!r}; releases call predictors "
            f"{' and '.join(f'NAME{role}' for role in releasing.ROLES)}: use another name"
        )
    if not _is_whole(server.replicas, least=0) or server.replicas > _MOST_REPLICAS:
        yield f"server.replicas is {server.replicas!r}; allowed: 0 to {_MOST_REPLICAS}"
    if not all(_is_pair(pair) for pair in _items(server.parameters)):
        yield f"server.parameters is {server.parameters!r}; it must contain (name, string) pairs"
    yield from _of_batching(server)


def _of_answers(answers: object, dataset: "DatasetSpec") -> Iterator[str]:
    from mlops_pipeline.catalog.spec import AnswersSpec

    if not isinstance(answers, AnswersSpec):  # A model's file may contain any type.
        yield f"server.answers is {answers!r}; it must be an AnswersSpec"
        return
    record: object = answers.record
    if not isinstance(record, bool):
        yield f"server.answers.record is {record!r}; allowed: True, False"
    if answers.sample is not None and not _is_between(answers.sample, 0, 1, exclusive=False):
        yield f"server.answers.sample is {answers.sample!r}; allowed: 0 to 1, or None"
    if answers.per_second is not None and not _is_whole(answers.per_second, least=1):
        yield f"server.answers.per_second is {answers.per_second!r}; allowed: 1 or more, or None"
    if problems := list(of_names("server.answers.mask", answers.mask, least=0)):
        yield from problems
    elif answers.mask and _is_whole(dataset.features, least=1):
        known = _items(dataset.feature_names or dataset.names())
        if unknown := [name for name in answers.mask if name not in known]:
            yield (
                f"server.answers.mask names {', '.join(map(repr, unknown))}; the columns of the "
                f"dataset are: {', '.join(map(str, known[:20]))}"
            )


def _of_batching(server: "ServerSpec") -> Iterator[str]:
    size, seconds = server.max_batch_size, server.max_batch_time
    if size is not None and not (_is_whole(size, least=0) and size <= MOST_ROWS):
        yield f"server.max_batch_size is {size!r}; allowed: 0 to {MOST_ROWS} rows"
    if seconds is not None and not (is_number(seconds) and 0 <= seconds <= MOST_SECONDS):
        yield f"server.max_batch_time is {seconds!r}; allowed: 0 to {MOST_SECONDS} seconds"


def _of_thresholds(thresholds: "Thresholds", task: "Task") -> Iterator[str]:
    yield from _of_limits(thresholds.limits, task)
    max_loss = thresholds.max_loss
    for field, value, most, exclusive in (
        (
            "max_loss",
            0.0 if max_loss is None else max_loss,
            _widest(thresholds.limits, task),
            False,
        ),
        ("max_p99_ms", thresholds.max_p99_ms, math.inf, True),
        ("tolerance", thresholds.tolerance, math.inf, False),
    ):
        if not _is_between(value, 0.0, most, exclusive=exclusive):
            start = "greater than 0" if exclusive else "at least 0"
            end = f", at most {most:g}" if most < math.inf else ""
            yield f"thresholds.{field} is {value!r}; it must be a number, {start}{end}"


def _widest(limits: object, task: "Task") -> float:
    """Return the largest possible loss of the main metric: a limit above it allows everything."""
    main = next(iter(limits), None) if isinstance(limits, Mapping) else None
    metric = task.find_metric(main)
    return metric.bounds[1] - metric.bounds[0] if metric else math.inf


def _of_limits(limits: object, task: "Task") -> Iterator[str]:
    known = ", ".join(str(metric.name) for metric in task.metrics)
    if not isinstance(limits, Mapping) or not limits:
        yield (
            f"thresholds.limits is {limits!r}; it must map metrics of the task to their limits; "
            f"the metrics of a {task.name} are: {known}"
        )
        return
    for name, limit in limits.items():
        if (metric := task.find_metric(name)) is None:
            yield (
                f"thresholds.limits names the metric {name!r}; the metrics of a {task.name} are: "
                f"{known}"
            )
            continue
        least, most = metric.bounds
        exclusive = metric.higher_is_better and least > -math.inf  # The worst passes everything.
        if not _is_between(limit, least, most, exclusive=exclusive):
            start = f", {'greater than' if exclusive else 'at least'} {least:g}"
            end = f", at most {most:g}"
            yield (
                f"thresholds.limits[{name!r}] is {limit!r}; it must be a number"
                f"{start if least > -math.inf else ''}{end if most < math.inf else ''}"
            )


def _is_between(value: object, least: float, most: float, *, exclusive: bool) -> bool:
    if not is_number(value):
        return False
    return least <= value <= most and not (exclusive and value == least)


def _of_hyperparameters(given: object) -> Iterator[str]:
    if not isinstance(given, Mapping):
        yield f"hyperparameters is {given!r}; it must map names to numbers or strings"
        return
    for name, value in given.items():
        if not isinstance(name, str):
            yield f"hyperparameters has the name {name!r}; names must be strings"
        elif not isinstance(value, str) and not is_number(value):
            yield f"hyperparameters[{name!r}] is {value!r}; it must be a finite number or a string"


def _of_row(field: str, row: object, features: object) -> Iterator[str]:
    values = _items(row)
    if isinstance(row, str) or not all(is_number(value) for value in values):
        yield f"{field} is {row!r}; it must be a tuple of finite numbers"
    elif values and _is_whole(features, least=1) and len(values) != features:
        yield f"{field} has {len(values)} values for {features!r} features; give one for each"


def of_names(field: str, names: object, *, least: int) -> Iterator[str]:
    """Yield what is wrong with a tuple of at least so many different names."""
    found = _items(names)
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in found):
        yield f"{field} is {names!r}; it must be a tuple of strings"
    elif len(found) < least:
        yield f"{field} is {names!r}; give at least {least} names"
    elif len(set(found)) < len(found):
        yield f"{field} is {names!r}; the names must differ"


def _of_function(field: str, function: object, *, arguments: int) -> Iterator[str]:
    if not callable(function):
        yield f"{field} is {function!r}; it must be a function"
        return
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        yield f"{field} must be a function that can be called with {arguments} arguments"
    except ValueError:  # Written in C: only a call shows its parameters.
        return


def _is_named(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def is_number(value: object) -> TypeGuard[float]:
    """Say whether it is a finite number, and not True or False."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_range(value: object) -> bool:
    ends = _items(value)
    return len(ends) == 2 and all(map(is_number, ends)) and ends[0] < ends[1]


def _is_pair(value: object) -> bool:
    return len(_items(value)) == 2 and all(isinstance(part, str) for part in _items(value))


def _is_empty(value: object) -> bool:
    """Say whether the value is empty; arrays and pandas indexes have no truth value."""
    return isinstance(value, tuple | list) and not value


def _items(value: object) -> Sequence[Any]:
    """Return the items of a tuple or list; for other types, one item that every check refuses."""
    return value if isinstance(value, tuple | list) else (value,)
