"""A model without a framework: scores are sums of a row, and its negative."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mlops_pipeline.serving.artifact import Manifest, Tensor
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.models import Model, Signature
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.settings import Parameter


def toy_signature(
    *, dtype: str = "float64", row_shape: tuple[int, ...] = (4,), several: bool = False
) -> Signature:
    def compute(rows: Array, names: Sequence[str]) -> list[Array]:
        total = rows.reshape(len(rows), -1).sum(axis=1)
        both = {"scores": np.stack([total, -total], axis=1), "label": (total > 0).astype(np.int64)}
        return [both[name] for name in names]

    return Signature(
        name="serving_default",
        input="features",
        row_shape=row_shape,
        dtype=np.dtype(dtype),
        outputs=("scores", "label"),
        default_outputs=("scores", "label") if several else ("scores",),
        compute=compute,
        is_rowwise=True,
    )


def toy_manifest(*, framework: str = "sklearn", output_names: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        name="toy",
        framework=framework,
        files={"model.joblib": "ab" * 32},
        inputs=(Tensor("features", (-1, 4), "FP64"),),
        outputs=(Tensor("scores", (-1, 2), "FP64"),),
        output_names=output_names,
    )


def toy_model(signature: Signature | None = None, *, manifest: Manifest | None = None) -> Model:
    signature = signature or toy_signature()
    manifest = manifest or toy_manifest()
    return Model(
        name="classifier",
        manifest=manifest,
        digest=manifest.digest,
        signatures={signature.name: signature},
        default=signature,
        choose=lambda parameters: _chosen(signature, parameters),
    )


def _chosen(signature: Signature, parameters: Mapping[str, Parameter]) -> Signature:
    output = str(parameters.get("output", signature.default_outputs[0]))
    if output not in signature.outputs:
        raise StartError(f"The parameter output is {output!r}.", code=ExitCode.SETTINGS)
    return replace(signature, default_outputs=(output,))


def toy_unit(model: Model | None = None) -> Unit:
    return Unit(model or toy_model(), image="toy:1", predictor="default")
