"""The process that loads datasets and trains models.

`python -m mlops_pipeline.catalog.worker dataset|train|holdout|evaluate …`. TensorFlow and
scikit-learn are imported only here, so that the process that runs the graph stays small and fast.
Results are files in the folder `--output`; a failure is one message on standard error and exit
code 1.
"""

import argparse
import hashlib
import json
import platform
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import (
    contents,
    describing,
    describing_columns,
    evaluating,
    loaded,
    packages,
    plotting,
    saving,
    tasks,
)
from mlops_pipeline.catalog.holdout_files import read_holdout
from mlops_pipeline.catalog.registry import load_model
from mlops_pipeline.catalog.spec import Dataset, ModelSpec, TrainedModel
from mlops_pipeline.catalog.tasks.metric import HOLDOUT_ROWS
from mlops_pipeline.serving import schema
from mlops_pipeline.serving.artifact import EXAMPLE, saved_models
from mlops_pipeline.serving.frameworks import get_framework

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = "data.npz"
PROFILE = "profile.json"
MODEL = "model"
EVALUATION = "evaluation"
REPORT = "report.json"
ABSENT = "absent_categories"
"""Key of a profile: column → its categories that no training row has; missing if there are none."""
_SHARED = ("schema", "cells", "frames", "joined")
"""Modules of the model server that convert rows in training, too."""
SCORES = "scores.npy"
"""Predictions where a published model was trained."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job and return the exit code."""
    parser = argparse.ArgumentParser(prog="mlops_pipeline.catalog.worker", description=__doc__)
    parser.add_argument("job", choices=("dataset", "train", "holdout", "evaluate"))
    parser.add_argument(
        "source", help="location of the ModelSpec: module:ATTRIBUTE or file.py:ATTRIBUTE"
    )
    parser.add_argument(
        "--input",
        type=Path,
        help="the configured data file (dataset), the hold-out file (holdout), data.npz (others)",
    )
    parser.add_argument("--scores", type=Path, help="predictions of the hold-out rows (evaluate)")
    parser.add_argument("--hyperparameters", type=json.loads, default={})
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    spec = load_model(options.source)
    if options.job == "dataset":
        write_dataset(spec, options.input, options.output)
    elif options.job != "train":
        if options.job == "holdout":
            write_holdout(spec, options.input, options.output)
        else:
            write_evaluation(spec, options.input, options.scores, options.output)
    else:
        write_model(spec, options.input, options.hyperparameters, options.output)
    return 0


def write_dataset(spec: ModelSpec, file: Path | None, output: Path) -> None:
    """Load the dataset and write it as `data.npz`, with a profile and a description.

    The profile is for checks, the description for the UI; `data.npz` has the fields of `Dataset`.

    The same data gives the same bytes: numpy stamps the entries of an .npz with a fixed date.
    """
    dataset = _checked(spec, spec.dataset.load(file))
    output.mkdir(parents=True, exist_ok=True)
    _write_data(dataset, output)
    (output / PROFILE).write_text(json.dumps(profile(spec, dataset), indent=2, sort_keys=True))
    describing.write_description(spec, dataset, output)


def _checked(spec: ModelSpec, dataset: Dataset) -> Dataset:
    """Return the dataset as arrays of numbers or cells, with the targets as the task encodes them.

    Raises:
        TypeError: it is not what the schema says.
        ValueError: a value is not a number and cannot be encoded, or the schema does not allow it;
            names the array and the value, with a schema also the row and the column.
    """
    return Dataset(
        **{name: _checked_values(spec, name, values) for name, values in vars(dataset).items()}
    )


def _checked_values(spec: ModelSpec, name: str, values: object) -> "NDArray[Any]":
    """Return one array of a dataset; its name begins with `x` or `y`."""
    import numpy as np

    schema = spec.dataset.schema
    where = f"{name} of the dataset of {spec.name}"
    if schema is not None and name.startswith("x"):
        return loaded.checked(schema, values, where=where)
    array = np.asarray(values)
    try:
        if name.startswith("y"):
            return spec.task.encode(array, spec.dataset)
        return array if array.dtype.kind in "biuf" else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        wanted = "numbers" if name.startswith("x") else spec.task.expected_targets(spec.dataset)
        raise ValueError(f"{where} must contain {wanted}: {error}") from error


def _write_data(dataset: Dataset, output: Path) -> None:
    import numpy as np

    from mlops_pipeline.serving.cells import pack

    arrays: dict[str, Any] = {}
    for name, values in vars(dataset).items():
        arrays |= pack(name, values)
    np.savez_compressed(output / DATA, **arrays)


def profile(spec: ModelSpec, dataset: Dataset) -> dict[str, Any]:
    """Describe the data: shape, missing values, minimum, maximum, and its targets."""
    import numpy as np

    report: dict[str, Any] = {}
    for split in ("train", "test"):
        x, y = getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")
        finite = np.empty(0) if spec.dataset.has_cells else x[np.isfinite(x)]
        # What the schema does not allow is refused before: all of these are allowed.
        is_checked = spec.dataset.schema is not None
        report[split] = {
            "shape": list(x.shape),
            "labels": len(y),
            "label_shape": list(y.shape),
            "missing": 0 if is_checked else int(x.size - finite.size),
            "minimum": float(finite.min()) if finite.size else 0.0,
            "maximum": float(finite.max()) if finite.size else 0.0,
            **spec.task.profile(y, spec.dataset),
        }
    if absent := _absent_categories(spec, dataset.x_train):
        report["train"][ABSENT] = absent
    return report


def _absent_categories(spec: ModelSpec, rows: "NDArray[Any]") -> dict[str, list[str | int]]:
    """Return column → the categories of the schema that no training row has."""
    columns = spec.dataset.schema.columns if spec.dataset.schema else ()
    found: dict[str, list[str | int]] = {}
    for number, column in enumerate(columns):
        if column.type == schema.CATEGORY:
            seen = set(rows[:, number].tolist())
            found[column.name] = [value for value in column.categories if value not in seen]
    return {name: values for name, values in found.items() if values}


def write_model(
    spec: ModelSpec, data: Path, hyperparameters: Mapping[str, float | int | str], output: Path
) -> None:
    """Train, and write the files for serving, the evaluation, and a report about both."""
    dataset = read_dataset(data)
    for folder in (MODEL, EVALUATION):
        (output / folder).mkdir(parents=True, exist_ok=True)
    rows = given(spec, dataset)
    served = saving.Serving(dict(spec.server.graph_parameters()), spec.dataset.schema)
    token = saving.SERVING.set(served)
    try:
        trained = spec.train(rows, hyperparameters, output / MODEL)
    finally:
        saving.SERVING.reset(token)
    for saved in saved_models(output / MODEL).values():
        # Optional, and holds a random number: without it the same weights are the same bytes.
        (saved / "fingerprint.pb").unlink(missing_ok=True)
    predictions = _predictions(spec, trained, rows)
    _refuse_useless(spec, output / MODEL, predictions, len(dataset.x_test))
    _write_example(spec, dataset, output / MODEL / EXAMPLE)
    evaluating.evaluate(spec, dataset, predictions, trained, output / EVALUATION)
    described = _described(spec, trained)
    (output / REPORT).write_text(
        json.dumps(
            {
                "metrics": {
                    **spec.task.measure(dataset.y_test, predictions),
                    HOLDOUT_ROWS: float(len(predictions)),
                },
                "versions": versions(spec),
                "content_digest": contents.digest(spec.framework, output / MODEL, described),
                "inputs": [asdict(tensor) for tensor in described.inputs],
                "outputs": [asdict(tensor) for tensor in described.outputs],
            }
        )
    )


def write_holdout(spec: ModelSpec, file: Path, output: Path) -> None:
    """Write the rows of a hold-out file as a dataset without training rows, and their profile.

    The predictions in the file, if it has any, are written beside it as `scores.npy`.
    """
    import numpy as np

    read = read_holdout(spec, file)
    form = spec.dataset.schema.form if spec.dataset.schema else schema.ARRAY
    x = read.x if form in (schema.TABLE, schema.INPUTS) else _checked_values(spec, "x", read.x)
    y = _checked_values(spec, "y", read.y)
    dataset = Dataset(x[:0], y[:0], x, y)
    output.mkdir(parents=True, exist_ok=True)
    _write_data(dataset, output)
    (output / PROFILE).write_text(json.dumps(profile(spec, dataset)["test"]))
    if read.scores is not None:
        np.save(output / SCORES, np.asarray(read.scores, dtype=np.float64))


def write_evaluation(spec: ModelSpec, data: Path, scores: Path, output: Path) -> None:
    """Evaluate predictions of the hold-out rows, and write a report, as after a training.

    Raises:
        ValueError: the predictions do not fit the task.
    """
    import numpy as np

    dataset = read_dataset(data)
    predictions, rows = np.load(scores, allow_pickle=False), len(dataset.x_test)
    if reason := spec.task.describe_misfit(predictions, rows, spec.dataset):
        raise ValueError(f"the model of {spec.name} returned {reason}")
    (output / EVALUATION).mkdir(parents=True, exist_ok=True)
    trained = TrainedModel(lambda _rows: predictions, inputs=(), outputs=())
    evaluating.evaluate(spec, dataset, predictions, trained, output / EVALUATION)
    metrics = {**spec.task.measure(dataset.y_test, predictions), HOLDOUT_ROWS: float(rows)}
    (output / REPORT).write_text(json.dumps({"metrics": metrics}))


def read_dataset(data: Path) -> Dataset:
    """Return the content of a `data.npz`: arrays of numbers, or of cells."""
    import numpy as np

    from mlops_pipeline.serving.cells import unpack

    with np.load(data) as arrays:
        return Dataset(**{field.name: unpack(field.name, arrays) for field in fields(Dataset)})


def given(spec: ModelSpec, dataset: Dataset) -> Dataset:
    """Return the dataset as the training function gets it: data frames, strings, or numbers."""
    schema = spec.dataset.schema
    return replace(
        dataset,
        x_train=loaded.given(schema, dataset.x_train),
        x_test=loaded.given(schema, dataset.x_test),
    )


def _described(spec: ModelSpec, trained: TrainedModel) -> TrainedModel:
    """Return the trained model with the inputs of its schema, if it has one."""
    from mlops_pipeline.serving.cells import tensors_of

    dataset = spec.dataset
    keeps_own = not dataset.has_cells or (dataset.schema and dataset.schema.inputs)
    if dataset.schema is None or (trained.inputs and keeps_own):
        return trained
    return replace(trained, inputs=tensors_of(dataset.schema))


def _predictions(spec: ModelSpec, trained: TrainedModel, dataset: Dataset) -> "NDArray[Any]":
    """Return what the model predicts for the hold-out set, shape [n, outputs].

    Raises:
        ValueError: it is text, or rows of different lengths.
    """
    import numpy as np

    predicted = trained.predict(dataset.x_test)
    try:
        found = np.asarray(predicted, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the model of {spec.name} does not predict numbers ({error}); train it on the targets "
            "of the dataset, where a class is a number"
        ) from error
    return found.reshape(-1, 1) if found.ndim == 1 else found


def _refuse_useless(spec: ModelSpec, folder: Path, predictions: "NDArray[Any]", rows: int) -> None:
    framework = get_framework(spec.framework)
    if framework.find(folder) is None:
        wrote = ", ".join(sorted(path.name for path in folder.iterdir())) or "no file"
        hint = framework.find_hint(folder)
        raise ValueError(
            f"the training function of {spec.name} wrote {wrote} to its folder; a "
            f"{framework.title} model is {framework.found_by}{f': {hint}' if hint else ''}"
        )
    if reason := spec.task.describe_misfit(predictions, rows, spec.dataset):
        raise ValueError(f"the model of {spec.name} returned {reason}")


def _write_example(spec: ModelSpec, dataset: Dataset, path: Path) -> None:
    """Write a row that the model has just predicted; its server tries it before it is ready."""
    from mlops_pipeline.serving import joined

    if path.exists():
        return
    of, row = spec.dataset.schema, dataset.x_test[:1]
    if of is not None and of.form == schema.INPUTS:
        path.write_text(json.dumps(joined.listed(of, row)))
    else:
        path.write_text(json.dumps(row.tolist()))


def versions(spec: ModelSpec) -> dict[str, str]:
    """Return the versions of Python and of the packages that affect this model's artifact."""
    found = {"python": platform.python_version()}
    is_table = spec.dataset.schema is not None and spec.dataset.schema.form == schema.TABLE
    for package in (*get_framework(spec.framework).libraries, *(["pandas"] * is_table)):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _place_of(error: BaseException) -> str:
    """Return where the error was raised: `file.py, line 7, in train`."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}, in {frame.name}"


def fingerprint() -> str:
    """Return the SHA-256 of these files: the code of a job besides the model's own functions."""
    files = (
        *(__file__, describing.__file__, describing_columns.__file__, evaluating.__file__),
        *(loaded.__file__, packages.__file__, plotting.__file__, saving.__file__),
        *(str(Path(schema.__file__).with_name(f"{name}.py")) for name in _SHARED),
        *sorted(map(str, Path(tasks.__file__).parent.glob("*.py"))),
    )
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # noqa: BLE001  # process boundary: one message for the parent
        sys.stderr.write(f"{type(error).__name__}: {error} ({_place_of(error)})\n")
        sys.exit(1)
