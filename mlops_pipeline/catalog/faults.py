"""Validates a `ModelSpec`: each message names a field, its value and what is allowed.

Python does not enforce type annotations, so everything is checked here, before any command uses
the model.
"""

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlops_pipeline.serving import frameworks

if TYPE_CHECKING:
    from mlops_pipeline.catalog.spec import DatasetSpec, ModelSpec, ServerSpec, Thresholds

_MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""Maximum length of a Service's name in Kubernetes."""
_LABEL_LENGTH = 63
_UNIT_LENGTH = 48
_MOST_REPLICAS = 32
_LEAST_CLASSES = 2


def of_model(spec: "ModelSpec") -> Iterator[str]:
    """Yield a message for every fault of the spec."""
    if not _is_named(spec.name, _MODEL_NAME):
        yield (
            f"name is {spec.name!r}; use at most 31 lower-case letters, digits and _, starting "
            "with a letter"
        )
    if frameworks.find_framework(spec.framework) is None:
        yield f"framework is {spec.framework!r}; allowed: {frameworks.names()}"
    yield from _of_function("train", spec.train, arguments=3)
    yield from _of_dataset(spec.dataset)
    yield from _of_server(spec.server, spec.framework)
    yield from _of_thresholds(spec.thresholds)
    yield from _of_hyperparameters(spec.hyperparameters)
    if not (_is_number(spec.training_timeout) and spec.training_timeout > 0):
        yield (
            f"training_timeout is {spec.training_timeout!r}; it must be a number of seconds "
            "greater than 0"
        )
    yield from _of_row("example", spec.example, spec.dataset.features)
    yield from _of_output_names(spec.output_names, spec.dataset.classes)


def _of_output_names(names: object, classes: object) -> Iterator[str]:
    if _is_empty(names):
        return
    yield from _of_names("output_names", names, least=1)
    if isinstance(names, tuple | list) and len(names) != len(_items(classes)):
        yield (
            f"output_names has {len(names)} names for {len(_items(classes))} classes; "
            "give one for each, or none"
        )


def _of_dataset(dataset: "DatasetSpec") -> Iterator[str]:
    yield from _of_function("dataset.load", dataset.load, arguments=1)
    if not _is_whole(dataset.features, least=1):
        yield f"dataset.features is {dataset.features!r}; it must be an integer of at least 1"
    yield from _of_names("dataset.classes", dataset.classes, least=_LEAST_CLASSES)
    yield from _of_feature_names(dataset)
    if dataset.value_range is not None and not _is_range(dataset.value_range):
        yield (
            f"dataset.value_range is {dataset.value_range!r}; it must be (minimum, maximum) or None"
        )


def _of_feature_names(dataset: "DatasetSpec") -> Iterator[str]:
    names: object = dataset.feature_names
    features = dataset.features
    if _is_empty(names):
        return
    yield from _of_names("dataset.feature_names", names, least=1)
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
    if not _is_whole(server.replicas, least=0) or server.replicas > _MOST_REPLICAS:
        yield f"server.replicas is {server.replicas!r}; allowed: 0 to {_MOST_REPLICAS}"
    if not all(_is_pair(pair) for pair in _items(server.parameters)):
        yield f"server.parameters is {server.parameters!r}; it must contain (name, string) pairs"


def _of_thresholds(thresholds: "Thresholds") -> Iterator[str]:
    for field, least, most, exclusive in (
        ("min_accuracy", 0.0, 1.0, True),
        ("max_accuracy_drop", 0.0, 1.0, False),
        ("max_p99_ms", 0.0, math.inf, True),
        ("tolerance", 0.0, math.inf, False),
    ):
        value = getattr(thresholds, field)
        fits = _is_number(value) and least <= value <= most and not (exclusive and value == least)
        if not fits:
            start = f"greater than {least:g}" if exclusive else f"at least {least:g}"
            end = f", at most {most:g}" if most < math.inf else ""
            yield f"thresholds.{field} is {value!r}; it must be a number, {start}{end}"


def _of_hyperparameters(given: object) -> Iterator[str]:
    if not isinstance(given, Mapping):
        yield f"hyperparameters is {given!r}; it must map names to numbers or strings"
        return
    for name, value in given.items():
        if not isinstance(name, str):
            yield f"hyperparameters has the name {name!r}; names must be strings"
        elif not isinstance(value, str) and not _is_number(value):
            yield f"hyperparameters[{name!r}] is {value!r}; it must be a finite number or a string"


def _of_row(field: str, row: object, features: object) -> Iterator[str]:
    values = _items(row)
    if isinstance(row, str) or not all(_is_number(value) for value in values):
        yield f"{field} is {row!r}; it must be a tuple of finite numbers"
    elif values and _is_whole(features, least=1) and len(values) != features:
        yield f"{field} has {len(values)} values for {features!r} features; give one for each"


def _of_names(field: str, names: object, *, least: int) -> Iterator[str]:
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_range(value: object) -> bool:
    ends = _items(value)
    return len(ends) == 2 and all(map(_is_number, ends)) and ends[0] < ends[1]


def _is_pair(value: object) -> bool:
    return len(_items(value)) == 2 and all(isinstance(part, str) for part in _items(value))


def _is_empty(value: object) -> bool:
    """Say whether the value is empty; arrays and pandas indexes have no truth value."""
    return isinstance(value, tuple | list) and not value


def _items(value: object) -> Sequence[Any]:
    """Return the items of a tuple or list; for other types, one item that every check refuses."""
    return value if isinstance(value, tuple | list) else (value,)
