"""The process that loads datasets and trains models.

`python -m mlops_pipeline.catalog.worker dataset|train …`. TensorFlow and scikit-learn are imported
only here, so that the process that runs the graph stays small and fast. Results are files in the
folder `--output`; a failure is one message on standard error and exit code 1.
"""

import argparse
import hashlib
import json
import platform
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import describing, evaluating, packages, plotting, saving, tasks
from mlops_pipeline.catalog.registry import load_model
from mlops_pipeline.catalog.spec import Dataset, ModelSpec, TrainedModel
from mlops_pipeline.catalog.tasks.metric import HOLDOUT_ROWS
from mlops_pipeline.serving.artifact import EXAMPLE, saved_models
from mlops_pipeline.serving.frameworks import get_framework

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = "data.npz"
PROFILE = "profile.json"
MODEL = "model"
EVALUATION = "evaluation"
REPORT = "report.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job and return the exit code."""
    parser = argparse.ArgumentParser(prog="mlops_pipeline.catalog.worker", description=__doc__)
    parser.add_argument("job", choices=("dataset", "train"))
    parser.add_argument(
        "source", help="location of the ModelSpec: module:ATTRIBUTE or file.py:ATTRIBUTE"
    )
    parser.add_argument(
        "--input", type=Path, help="the configured data file (dataset), data.npz (train)"
    )
    parser.add_argument("--hyperparameters", type=json.loads, default={})
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    spec = load_model(options.source)
    if options.job == "dataset":
        write_dataset(spec, options.input, options.output)
    else:
        write_model(spec, options.input, options.hyperparameters, options.output)
    return 0


def write_dataset(spec: ModelSpec, file: Path | None, output: Path) -> None:
    """Load the dataset and write it as `data.npz`, with a profile and a description.

    The profile is for checks, the description for the UI; `data.npz` has the fields of `Dataset`.

    The same data gives the same bytes: numpy stamps the entries of an .npz with a fixed date.
    """
    import numpy as np

    dataset = _numeric(spec, spec.dataset.load(file))
    output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output / DATA, **vars(dataset))
    (output / PROFILE).write_text(json.dumps(profile(spec, dataset), indent=2, sort_keys=True))
    describing.write_description(spec, dataset, output)


def _numeric(spec: ModelSpec, dataset: Dataset) -> Dataset:
    """Return the dataset as arrays of numbers, with the targets as the task encodes them.

    Raises:
        ValueError: a value is not a number and cannot be encoded; names the array and the value.
    """
    import numpy as np

    def numbers(name: str, values: object) -> "NDArray[Any]":
        array = np.asarray(values)
        try:
            if name.startswith("y"):
                return spec.task.encode(array, spec.dataset)
            return array if array.dtype.kind in "biuf" else array.astype(np.float64)
        except (TypeError, ValueError) as error:
            wanted = "numbers" if name.startswith("x") else spec.task.expected_targets(spec.dataset)
            raise ValueError(
                f"{name} of the dataset of {spec.name} must contain {wanted}: {error}"
            ) from error

    return Dataset(**{name: numbers(name, values) for name, values in vars(dataset).items()})


def profile(spec: ModelSpec, dataset: Dataset) -> dict[str, Any]:
    """Describe the data: shape, missing values, minimum, maximum, and its targets."""
    import numpy as np

    report: dict[str, Any] = {}
    for split in ("train", "test"):
        x, y = getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")
        finite = x[np.isfinite(x)]
        report[split] = {
            "shape": list(x.shape),
            "labels": len(y),
            "label_shape": list(y.shape),
            "missing": int(x.size - finite.size),
            "minimum": float(finite.min()) if finite.size else 0.0,
            "maximum": float(finite.max()) if finite.size else 0.0,
            **spec.task.profile(y, spec.dataset),
        }
    return report


def write_model(
    spec: ModelSpec, data: Path, hyperparameters: Mapping[str, float | int | str], output: Path
) -> None:
    """Train, and write the files for serving, the evaluation, and a report about both."""
    import numpy as np

    with np.load(data) as arrays:
        dataset = Dataset(**{name: arrays[name] for name in arrays.files})
    for folder in (MODEL, EVALUATION):
        (output / folder).mkdir(parents=True, exist_ok=True)
    trained = spec.train(dataset, hyperparameters, output / MODEL)
    for saved in saved_models(output / MODEL).values():
        # Optional, and holds a random number: without it the same weights are the same bytes.
        (saved / "fingerprint.pb").unlink(missing_ok=True)
    predictions = _predictions(spec, trained, dataset)
    _refuse_useless(spec, output / MODEL, predictions, len(dataset.x_test))
    _write_example(dataset, output / MODEL / EXAMPLE)
    evaluating.evaluate(spec, dataset, predictions, trained, output / EVALUATION)
    (output / REPORT).write_text(
        json.dumps(
            {
                "metrics": {
                    **spec.task.measure(dataset.y_test, predictions),
                    HOLDOUT_ROWS: float(len(predictions)),
                },
                "versions": versions(spec),
                "inputs": [asdict(tensor) for tensor in trained.inputs],
                "outputs": [asdict(tensor) for tensor in trained.outputs],
            }
        )
    )


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
        raise ValueError(
            f"the training function of {spec.name} wrote {wrote} to its folder; a "
            f"{framework.title} model is {framework.found_by}"
        )
    if reason := spec.task.describe_misfit(predictions, rows, spec.dataset):
        raise ValueError(f"the model of {spec.name} returned {reason}")


def _write_example(dataset: Dataset, path: Path) -> None:
    """Write a row that the model has just predicted; its server tries it before it is ready."""
    if not path.exists():
        path.write_text(json.dumps(dataset.x_test[:1].tolist()))


def versions(spec: ModelSpec) -> dict[str, str]:
    """Return the versions of Python and of the packages that affect this model's artifact."""
    found = {"python": platform.python_version()}
    for package in get_framework(spec.framework).libraries:
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
        *(__file__, describing.__file__, evaluating.__file__, plotting.__file__, saving.__file__),
        packages.__file__,
        *sorted(map(str, Path(tasks.__file__).parent.glob("*.py"))),
    )
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # noqa: BLE001  # process boundary: one message for the parent
        sys.stderr.write(f"{type(error).__name__}: {error} ({_place_of(error)})\n")
        sys.exit(1)
