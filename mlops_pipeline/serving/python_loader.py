"""A custom component: a class of Seldon's Python wrapper, called in a process of its own."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mlops_pipeline.serving.artifact import Manifest
from mlops_pipeline.serving.custom import folder as component_folder
from mlops_pipeline.serving.custom import options, rows
from mlops_pipeline.serving.custom.process import ComponentProcess
from mlops_pipeline.serving.models import Signature
from mlops_pipeline.serving.scores import DTYPES, Array
from mlops_pipeline.serving.settings import Parameter
from mlops_pipeline.serving.signatures import DEFAULT, Signatures, row_shape


def load_python(folder: Path, manifest: Manifest) -> Signatures:
    """Return the signature of the component in `folder`.

    Its process starts when the parameters are known: they are arguments of its constructor.

    Raises:
        StartError: the folder does not say which class it is, or the packages of its lock are not
            installed.
    """
    description = component_folder.describe(folder)
    component_folder.check_packages(folder, description)
    idle = signature_of(manifest)

    def choose(parameters: Mapping[str, Parameter]) -> Signature:
        process = start(folder, parameters)
        return signature_of(manifest, process)

    return {DEFAULT: idle}, choose


def start(folder: Path, parameters: Mapping[str, Parameter]) -> ComponentProcess:
    """Start the component in `folder` with these parameters, besides those in its description.

    Raises:
        StartError: a parameter is invalid, or is the class's and the server's, or the class does
            not load.
    """
    description = component_folder.describe(folder)
    own, (given, limits) = description.parameters, options.split(parameters)
    replaced = {name: _like(own.get(name), value) for name, value in given.items()}
    return ComponentProcess(
        folder,
        description.module,
        description.class_name,
        {**own, **replaced},
        options.read(limits),
        limits=limits,
    )


def _like(own: object, given: Parameter) -> Parameter:
    """Return a parameter as the type of the one that it replaces: manifests may write strings."""
    if not isinstance(given, str):
        return given
    if isinstance(own, bool):
        return {"true": True, "false": False}.get(given.lower(), given)
    try:
        if isinstance(own, int):
            return int(given)
        return float(given) if isinstance(own, float) else given
    except ValueError:
        return given


def signature_of(manifest: Manifest, process: ComponentProcess | None = None) -> Signature:
    """Return the signature of a component, which cannot be called without its process.

    Its columns have the names of the class, or of the schema if the class has none.
    """
    known = manifest.inputs[0] if manifest.inputs else None
    dtype = DTYPES.get(known.datatype, np.dtype(np.float64)) if known else np.dtype(np.float64)
    of_schema = manifest.schema.names if manifest.schema else ()
    columns = (process.facts.feature_names if process else ()) or of_schema
    return Signature(
        name=DEFAULT,
        input=known.name if known else "predict",
        row_shape=row_shape(manifest, None),
        dtype=dtype,
        outputs=(rows.OUTPUT,),
        default_outputs=(rows.OUTPUT,),
        compute=partial(rows.answers, process, columns) if process else _not_started,
        columns=columns,
        is_rowwise=process is not None and process.facts.is_rowwise,
        component=process,
    )


def _not_started(_: Array, __: Sequence[str]) -> Sequence[object]:
    raise RuntimeError("the component has not been started with parameters yet")
