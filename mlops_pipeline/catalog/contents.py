"""The second digest of an artifact: of its weights and signatures, without the bytes around them.

Two trainings may learn the same numbers and write other bytes: a pickle contains the order of sets,
a SavedModel the order in which its graph was traced. Each framework says what its weights are
(`Framework.content`); without that, the content is the files.
"""

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mlops_pipeline.catalog.spec import TrainedModel
from mlops_pipeline.serving.artifact import (
    EXAMPLE,
    MLMODEL,
    SAVED_MODEL,
    SKLEARN_FILES,
    find_file,
    hash_files,
    saved_models,
)
from mlops_pipeline.serving.frameworks import get_framework

_CHECKPOINT = "variables/variables"
_ASSETS = "assets/"
_VOLATILE = frozenset(
    ("artifact_path", "model_id", "model_size_bytes", "model_uuid", "run_id", "utc_time_created")
)
"""Fields of `MLmodel` that differ each time the same model is saved."""
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""Describes Python objects, and has no weights."""


def digest(framework: str, folder: Path, trained: TrainedModel) -> str:
    """Return the SHA-256 of the weights in `folder` and of the signature, in hexadecimal."""
    where = get_framework(framework).content
    if where:
        module, _, function = where.partition(":")
        weights: Mapping[str, str] = getattr(importlib.import_module(module), function)(folder)
    else:
        weights = {name: sha for name, sha in hash_files(folder).items() if name != EXAMPLE}
    described = {
        "weights": dict(weights),
        "inputs": [asdict(tensor) for tensor in trained.inputs],
        "outputs": [asdict(tensor) for tensor in trained.outputs],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def of_sklearn(folder: Path) -> dict[str, str]:
    """Return the digest of an estimator: joblib's, which orders sets and dictionaries.

    A file that joblib cannot read is digested as it is.
    """
    file = find_file(folder, SKLEARN_FILES)
    return {} if file is None else {"estimator": _of_estimator(file, [])}


def of_saved_models(folder: Path) -> dict[str, str]:
    """Return the digest of each variable and asset of each version: `1/NAME` → SHA-256.

    The names are those of Keras's layers and of `ExportArchive`'s variables. A model without
    variables has its constants in the graph: its content is its files.
    """
    found: dict[str, str] = {}
    for version, saved in sorted(saved_models(folder).items()):
        found |= {f"{version}/{name}": sha for name, sha in _of_saved(saved).items()}
    return found


def _of_saved(saved: Path) -> dict[str, str]:
    files = hash_files(saved)
    if f"{_CHECKPOINT}.index" not in files:
        return files
    assets = {name: sha for name, sha in files.items() if name.startswith(_ASSETS)}
    return assets | _variables(saved)


def of_mlflow(folder: Path) -> dict[str, str]:
    """Return the digest of each file of an MLflow model, without what differs at each saving.

    `MLmodel` has identifiers and a time, a file of skops addresses of memory, a SavedModel the
    order in which its graph was traced. The code of a `python_function` is files like others.
    """
    import yaml

    found = {name: sha for name, sha in hash_files(folder).items() if name != EXAMPLE}
    description = yaml.safe_load((folder / MLMODEL).read_bytes())
    flavours = description["flavors"]
    kept = {name: value for name, value in description.items() if name not in _VOLATILE}
    found[MLMODEL] = _of_json(kept)
    estimator = flavours.get("sklearn", {})
    if (name := str(estimator.get("pickled_model", ""))) in found:
        found[name] = _of_estimator(folder / name, estimator.get("skops_trusted_types") or [])
    saved = str(flavours.get("tensorflow", {}).get("saved_model_dir", ""))
    if (folder / saved / SAVED_MODEL).is_file():
        found = {name: sha for name, sha in found.items() if not name.startswith(f"{saved}/")}
        found |= {f"{saved}/{name}": sha for name, sha in _of_saved(folder / saved).items()}
    return found


def _of_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _of_estimator(file: Path, trusted: list[str]) -> str:
    """Return the digest of an estimator; of the bytes of a file that cannot be read."""
    import joblib

    try:
        if file.suffix == ".skops":
            estimator = importlib.import_module("skops.io").load(file, trusted=trusted)
        else:
            estimator = joblib.load(file)
        return str(joblib.hash(estimator, hash_name="sha1"))
    except Exception:  # noqa: BLE001  # The server says what is wrong with it.
        return hashlib.sha256(file.read_bytes()).hexdigest()


def _variables(saved: Path) -> dict[str, str]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(saved / _CHECKPOINT))
    names = sorted(reader.get_variable_to_shape_map())
    return {name: _of_values(reader.get_tensor(name)) for name in names if name != _OBJECT_GRAPH}


def _of_values(values: object) -> str:
    """Return the SHA-256 of an array with its type and shape; strings are objects in NumPy."""
    import numpy as np

    array = np.ascontiguousarray(values)
    content = array.tobytes()
    if array.dtype.hasobject:
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in array.flat]
        content = b"".join(f"{len(text)} ".encode() + text for text in texts)
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + content).hexdigest()
