"""From a folder to a warm model: verify, load with the framework in the manifest, predict once.

scikit-learn and TensorFlow are imported by the loader that needs them and nowhere else, after the
artifact has been verified: a broken artifact is refused in milliseconds.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlops_pipeline.serving import artifact
from mlops_pipeline.serving.artifact import FRAMEWORKS, Manifest, Tensor
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.models import Model, Signature, datatype_of, predict
from mlops_pipeline.serving.settings import Parameter, Place

logger = logging.getLogger("mlserver.loading")

Choose = Callable[[Mapping[str, Parameter]], Signature]
"""The signature that a unit's parameters make the default one."""
Signatures = tuple[Mapping[str, Signature], Choose]
"""Every signature by its name, and the way to choose the default one."""


def verify(folder: Path, *, place: Place = Place.MACHINE) -> Manifest:
    """Return the manifest of the artifact in `folder`, every file of which is as it says.

    In a pod the folder may also hold a model without a manifest, which is described instead.

    Raises:
        StartError: it is not as the manifest says, with the files named; or there is no model.
    """
    try:
        return artifact.verify(folder) if place is Place.MACHINE else artifact.describe(folder)
    except artifact.ArtifactError as error:
        raise StartError(f"{error}", code=ExitCode.ARTIFACT) from error


def check_implementation(manifest: Manifest, implementation: str) -> None:
    """Check that `implementation` (`SKLEARN_SERVER`, `TENSORFLOW_SERVER`) serves this artifact.

    Raises:
        StartError: no such implementation, or it serves another framework.
    """
    framework = FRAMEWORKS.get(implementation)
    if framework is None:
        raise StartError(
            f"There is no implementation {implementation!r}; there is {', '.join(FRAMEWORKS)}.",
            code=ExitCode.SETTINGS,
        )
    if framework != manifest.framework:
        raise StartError(
            f"{implementation} serves {framework} models; {manifest.name} is {manifest.framework}.",
            code=ExitCode.SETTINGS,
        )


def load(
    folder: Path,
    manifest: Manifest,
    parameters: Mapping[str, Parameter] | None,
    *,
    graph_name: str | None,
) -> Model:
    """Load the verified artifact in `folder` and predict one row, so that the first answer is fast.

    Without parameters (None) they will come with each request, and any signature may be the
    default one until then.

    Raises:
        StartError: the framework is not installed, the model does not load or does not answer, or
            a parameter names something the model does not have.
    """
    begin = time.monotonic()
    signatures, choose = _loader(manifest)(folder, manifest)
    first = signatures[min(signatures)]
    model = Model(
        name=graph_name or manifest.name,
        manifest=_with_inputs(manifest, first),
        digest=manifest.digest,
        signatures=signatures,
        default=first,
        choose=choose,
    )
    if parameters is not None:
        model = model.told(parameters)
    warm(model)
    logger.info("Loaded %s %s in %.2f s", model.name, model.digest[:12], time.monotonic() - begin)
    return model


def _with_inputs(manifest: Manifest, signature: Signature) -> Manifest:
    """Return the manifest of somebody else's model with the input that was found in it."""
    if manifest.inputs or manifest.digest:
        return manifest
    tensor = Tensor(signature.input, (-1, *signature.row_shape), datatype_of(signature.dtype))
    return replace(manifest, inputs=(tensor,))


def warm(model: Model) -> None:
    """Predict one row of zeros.

    Raises:
        StartError: the model does not answer; says why.
    """
    row_shape = [max(size, 1) for size in model.default.row_shape]
    try:
        predict(model.default, np.zeros((1, *row_shape), dtype=model.default.dtype))
    except RequestError as error:
        raise StartError(
            f"The model {model.name} loads, but does not answer: {error.sentence}. "
            f"It was made with {_versions(model.manifest)}.",
            code=ExitCode.MODEL,
        ) from error


Loader = Callable[[Path, Manifest], Signatures]


def _loader(manifest: Manifest) -> Loader:
    """Return the loader of the manifest's framework, importing the framework.

    Raises:
        StartError: an unknown framework, or one that is not installed here.
    """
    try:
        if manifest.framework == "sklearn":
            from mlops_pipeline.serving.sklearn_loader import load_sklearn

            return load_sklearn
        if manifest.framework == "tensorflow":
            from mlops_pipeline.serving.tensorflow_loader import load_tensorflow

            return load_tensorflow
    except ImportError as error:
        raise StartError(
            f"{manifest.name} is a {manifest.framework} model, and {manifest.framework} is not "
            f"usable here: {error}. Install it in the serving environment.",
            code=ExitCode.MODEL,
        ) from error
    raise StartError(
        f"The manifest of {manifest.name} says framework {manifest.framework!r}; "
        f"served are {', '.join(FRAMEWORKS.values())}.",
        code=ExitCode.MODEL,
    )


def _versions(manifest: Manifest) -> str:
    """Return the versions of the training process, for a sentence."""
    known = (f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    return ", ".join(known) or "unknown versions"
