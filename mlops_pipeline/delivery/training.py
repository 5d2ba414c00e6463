"""From a dataset to a published artifact, once per set of inputs."""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import Hyperparameters, ModelSpec, trained_elsewhere
from mlops_pipeline.clients.errors import CommandError, ConfigurationError, NotFoundError
from mlops_pipeline.clients.git import find_commit
from mlops_pipeline.clients.process import OnLine
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.datasets import DatasetStore, schema_part
from mlops_pipeline.delivery.references import DatasetRef, ModelRef
from mlops_pipeline.delivery.working import WorkerContext, work
from mlops_pipeline.serving.artifact import Manifest, Tensor, hash_files
from mlops_pipeline.serving.frameworks import get_framework

_DEFAULT = WorkerContext()


@dataclass(frozen=True)
class Training:
    """An artifact, and whether it had to be trained."""

    ref: ModelRef
    manifest: Manifest
    seconds: float | None
    """How long the training took; None: there was an artifact of these inputs."""

    @property
    def trained(self) -> bool:
        """Whether it had to be trained."""
        return self.seconds is not None


@dataclass(frozen=True)
class TrainingOrder:
    """What to train: everything that the result depends on."""

    model: RegisteredModel
    dataset: DatasetRef
    hyperparameters: Hyperparameters

    @property
    def is_trained_here(self) -> bool:
        """Whether the model's file trains it; otherwise its artifacts are published."""
        return self.model.spec.train is not trained_elsewhere

    def inputs_digest(self) -> str:
        """Return the SHA-256 of dataset, task, hyper-parameters, code and library versions."""
        parts = {
            "dataset": self.dataset.digest,
            "hyperparameters": dict(self.hyperparameters),
            "source": self.model.source_digest(),
            "task": self.model.spec.task.settings(),
            "classes": self.model.spec.dataset.classes,
            "worker": worker.fingerprint(),
            "versions": worker.versions(self.model.spec),
            **schema_part(self.model.spec),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def merge_hyperparameters(spec: ModelSpec, changes: Mapping[str, Any]) -> Hyperparameters:
    """Return the spec's hyper-parameters with `changes` applied.

    Raises:
        ConfigurationError: the model has no such hyper-parameter, or it has another type.
    """
    merged = dict(spec.hyperparameters)
    for name, value in changes.items():
        if name not in merged:
            raise ConfigurationError(
                f"{spec.name} has no hyper-parameter {name!r}; it has {', '.join(sorted(merged))}"
            )
        number = isinstance(merged[name], int | float)
        if isinstance(value, bool) or number != isinstance(value, int | float):
            raise ConfigurationError(
                f"expected the hyper-parameter {name} of {spec.name} to be of the type "
                f"{type(merged[name]).__name__}, got {value!r}"
            )
        merged[name] = value
    return merged


def ensure_trained(
    order: TrainingOrder,
    *,
    datasets: DatasetStore,
    artifacts: ArtifactStore,
    run_id: str,
    force: bool,
    worker_context: WorkerContext = _DEFAULT,
) -> Training:
    """Return the artifact of these inputs; train and publish it when there is none, or by `force`.

    For a model that is trained elsewhere, it is the artifact that was published last.

    Raises:
        NotFoundError: it is trained elsewhere, and no artifact was published.
        RefusedError: there is one, signed by a key that is unknown or revoked; what to do.
        CommandError: the training failed or ran out of time; the end of its log.
        UnavailableError: the object store did not answer.
    """
    found = find_trained(order, artifacts) if not (force and order.is_trained_here) else None
    if found is not None:
        return Training(found, artifacts.manifest(found), seconds=None)
    if not order.is_trained_here:
        raise NotFoundError(
            f"{order.model.name} is trained elsewhere, and no artifact of it was published; run "
            f"`mlops-pipeline publish FOLDER --model {order.model.name}`"
        )
    with temporary_folder("training") as folder:
        datasets.download(order.dataset, folder / worker.DATA)
        # Nobody else changes artifacts or layers during a training. So the artifact is stored even
        # if the turn does not come back.
        with worker_context.without_turn():
            start = time.monotonic()
            _train(order, folder, worker_context.on_line)
            seconds = time.monotonic() - start
            manifest = _manifest(order, folder, order.inputs_digest(), run_id)
            ref = artifacts.publish(
                manifest,
                files=folder / worker.MODEL,
                evaluation=folder / worker.EVALUATION,
                replaces=force,
            )
    return Training(ref, manifest, seconds=seconds)


def find_trained(order: TrainingOrder, artifacts: ArtifactStore) -> ModelRef | None:
    """Return the artifact of these inputs, or the one published last; None if there is none."""
    if not order.is_trained_here:
        return artifacts.find_published(order.model.name)
    return artifacts.find_by_inputs(order.model.name, inputs_digest=order.inputs_digest())


def train_again(
    order: TrainingOrder, *, datasets: DatasetStore, worker_context: WorkerContext = _DEFAULT
) -> Manifest:
    """Train, publish nothing, and return the manifest that the artifact would have.

    Raises:
        CommandError: the training failed or ran out of time; the end of its log.
        UnavailableError: the object store did not answer.
    """
    with temporary_folder("training") as folder:
        datasets.download(order.dataset, folder / worker.DATA)
        with worker_context.without_turn():
            _train(order, folder, worker_context.on_line)
        return _manifest(order, folder, order.inputs_digest(), run_id="")


def _train(order: TrainingOrder, folder: Path, on_line: OnLine) -> None:
    work(
        "train",
        order.model,
        *("--input", str(folder / worker.DATA)),
        *("--hyperparameters", json.dumps(dict(order.hyperparameters))),
        *("--output", str(folder)),
        purpose=f"train {order.model.name}",
        timeout=order.model.spec.training_timeout,
        on_line=on_line,
    )


def _manifest(order: TrainingOrder, folder: Path, inputs_digest: str, run_id: str) -> Manifest:
    if not (folder / worker.REPORT).is_file():
        raise CommandError(
            f"the training of {order.model.name} wrote no report; its code must not exit by itself"
        )
    report = json.loads((folder / worker.REPORT).read_bytes())
    spec = order.model.spec
    return Manifest(
        name=spec.name,
        framework=spec.framework,
        task=spec.task.name,
        files=hash_files(folder / worker.MODEL),
        inputs=tensors(report["inputs"]),
        outputs=tensors(report["outputs"]),
        output_names=spec.output_names,
        versions=report["versions"],
        dataset_digest=order.dataset.digest,
        hyperparameters=dict(order.hyperparameters),
        metrics=report["metrics"],
        inputs_digest=inputs_digest,
        schema=spec.dataset.schema,
        run_id=run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        evaluation=hash_files(folder / worker.EVALUATION),
        content_digest=report["content_digest"],
        reproducible=get_framework(spec.framework).reproducible,
        note_commit=find_commit(order.model.folder),
    )


def tensors(described: Iterable[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    """Return the tensors that a report describes by `name`, `shape` and `datatype`."""
    return tuple(Tensor(t["name"], tuple(t["shape"]), t["datatype"]) for t in described)
