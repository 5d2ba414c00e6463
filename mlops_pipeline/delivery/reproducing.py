"""Trains an artifact a second time, and says whether the result is the same."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.errors import ConflictError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.datasets import DatasetStore, ref_to
from mlops_pipeline.delivery.judging import Verdict
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.training import TrainingOrder, train_again
from mlops_pipeline.delivery.working import WorkerContext
from mlops_pipeline.serving.artifact import Manifest

_DEFAULT = WorkerContext()


@dataclass(frozen=True)
class Reproduction:
    """How a second training differs from the first one."""

    same_bytes: bool
    same_content: bool
    """Weights and signatures."""
    changed: tuple[str, ...]
    """Files with other bytes, also those of the evaluation."""


def check_reproduction(
    model: RegisteredModel,
    ref: ModelRef,
    *,
    datasets: DatasetStore,
    artifacts: ArtifactStore,
    worker_context: WorkerContext = _DEFAULT,
) -> Verdict:
    """Train with the inputs of the artifact again, and compare the digests.

    This is done once per artifact; the evidence is kept beside it.

    Raises:
        ConflictError: the artifact was made of other inputs than a training now has.
        CommandError: the training failed or ran out of time.
        UnavailableError: the object store did not answer.
    """
    first = artifacts.manifest(ref)
    order = TrainingOrder(model, ref_to(model.name, first.dataset_digest), first.hyperparameters)
    if order.inputs_digest() != first.inputs_digest:
        raise ConflictError(
            f"could not train {ref.name} {ref.digest[:12]} again: the model's file, the project or "
            f"a library changed since; run `mlops-pipeline up {ref.name}` first"
        )

    def make() -> Mapping[str, Any]:
        second = train_again(order, datasets=datasets, worker_context=worker_context)
        return asdict(compare(first, second))

    name = f"trained-again-{hashlib.sha256(first.inputs_digest.encode()).hexdigest()}"
    found = artifacts.evidence(ref, name, make=make, parse=_parse)
    return Verdict(found.same_content, _describe(found), {"changed_files": len(found.changed)})


def compare(first: Manifest, second: Manifest) -> Reproduction:
    """Return how two manifests of the same inputs differ."""
    files, again = ({**m.files, **m.evaluation} for m in (first, second))
    changed = sorted(
        path for path in files.keys() | again.keys() if files.get(path) != again.get(path)
    )
    same_bytes = first.digest == second.digest
    is_known = bool(first.content_digest)
    same_content = same_bytes or (is_known and first.content_digest == second.content_digest)
    return Reproduction(same_bytes, same_content, tuple(changed))


def _parse(found: Mapping[str, Any]) -> Reproduction:
    return Reproduction(
        bool(found["same_bytes"]), bool(found["same_content"]), tuple(map(str, found["changed"]))
    )


def _describe(found: Reproduction) -> str:
    if found.same_bytes:
        return "a second training gave the same bytes"
    names = ", ".join(found.changed[:5]) or "no file, but another metric or signature"
    if found.same_content:
        return f"a second training gave the same weights and signature, and other bytes in {names}"
    return (
        f"a second training gave other weights or another signature; other bytes in {names}. Set "
        "every seed, and use one thread where sums are split"
    )
