"""From the files of a model that was trained elsewhere to an artifact, judged as any other.

The files are checked by the row of the model's framework, and the serving environment computes
their scores for a hold-out set. Manifest, evaluation, storage and verdicts are those of a training.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import evaluating, worker
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError, RefusedError
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.criteria import (
    dataset_criteria,
    describe_holdout_problems,
    model_criteria,
)
from mlops_pipeline.delivery.judging import Judge, Unmet
from mlops_pipeline.delivery.offered_files import find_files
from mlops_pipeline.delivery.probing import probe, write_probe, write_rows
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.training import tensors
from mlops_pipeline.delivery.verdicts import standing
from mlops_pipeline.delivery.verification import max_difference
from mlops_pipeline.delivery.working import WorkerContext, work
from mlops_pipeline.serving.artifact import (
    EXAMPLE,
    MANIFEST,
    MOST_BYTES,
    Manifest,
    hash_files,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TIMEOUT = 600.0
"""Seconds to read and evaluate a hold-out set."""
_DEFAULT = WorkerContext()


@dataclass(frozen=True)
class Offer:
    """A model that was trained elsewhere, and what it is to be evaluated on."""

    model: RegisteredModel
    folder: Path
    origin: str
    """For the manifest: `published from iris`."""
    holdout: Path | None = None
    """File with the hold-out set; None: the dataset of the model's spec."""
    dataset: Path | None = None
    """The configured file of that dataset."""
    is_unevaluated: bool = False
    """Publish it without any hold-out set."""
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True)
class Published:
    """An artifact in the object store, and what its checks found."""

    ref: ModelRef
    manifest: Manifest
    unmet: tuple[Unmet, ...]
    """What keeps it from being deployed; empty: it passed every blocking check."""


def publish(offer: Offer, judge: Judge, *, worker_context: WorkerContext = _DEFAULT) -> Published:
    """Store the model as an artifact and judge it. What exists stays; nothing is deployed.

    Raises:
        ConfigurationError: the files are not those of the model's framework, are too large, lead
            out of the folder, or the hold-out set does not fit the model; nothing was stored.
        IntegrityError: the folder has a manifest that does not match its files.
        CommandError: the serving environment does not load the model, or it refuses the rows.
        RefusedError: it is published without a hold-out set, and checks refuse the same files.
        UnavailableError: the object store did not answer.
    """
    files = find_files(offer.folder, offer.model.spec, most_bytes=offer.most_bytes)
    judge.sign_older()
    with temporary_folder("publish") as folder:
        if not offer.is_unevaluated:
            _take_holdout(offer, judge, folder, worker_context)
        _stage(offer, files, folder / worker.MODEL)
        if offer.is_unevaluated:
            _require_unrefused(offer, judge, folder / worker.MODEL)
        evaluated = _evaluate(offer, judge, folder, worker_context)
        manifest = replace(evaluated, evaluation=hash_files(folder / worker.EVALUATION))
        ref = judge.artifacts.publish(
            manifest, files=folder / worker.MODEL, evaluation=folder / worker.EVALUATION
        )
    criteria = model_criteria(offer.model.spec)
    for criterion in criteria:  # Each one, so that the log has a verdict of every check.
        judge.evaluate(criterion, ref)
    return Published(ref, judge.artifacts.manifest(ref), judge.find_unmet(criteria, ref))


def _stage(offer: Offer, files: Mapping[str, Path], folder: Path) -> None:
    """Copy the files, so that nobody changes them until they are stored."""
    folder.mkdir()
    try:
        for path, file in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except OSError as error:
        raise ConfigurationError(
            f"could not copy {offer.folder} to {folder}: {error.strerror or error}; free disk "
            "space there, or make the files readable. Nothing was stored"
        ) from error


def _require_unrefused(offer: Offer, judge: Judge, folder: Path) -> None:
    """Refuse files without a hold-out set that were refused with one: nothing else changed."""
    name, files = offer.model.name, _weights(hash_files(folder))
    for stored in judge.artifacts.list(name):
        if not stored.complete or _weights(judge.artifacts.manifest(stored.ref).files) != files:
            continue
        refusals = standing(judge.log.entries(stored.ref)).refusals
        if reasons := [f"{j.check}: {j.sentence}" for j in refusals if not j.is_unevaluated]:
            digest = stored.ref.digest[:12]
            raise RefusedError(
                f"could not publish {offer.folder} without a hold-out set: its files are those of "
                f"the artifact {name} {digest}, which is refused by {'; '.join(reasons)}. Nothing "
                "was stored. Publish it with --holdout FILE, or accept that artifact: "
                f"`mlops-pipeline deploy {name} --digest {digest} --accept-refused`"
            )


def _weights(files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a model without its example, which this project may have written."""
    return {path: sha for path, sha in files.items() if path != EXAMPLE}


def _take_holdout(offer: Offer, judge: Judge, folder: Path, worker_context: WorkerContext) -> None:
    """Write the hold-out set as `data.npz`: from its file, or from the dataset of the spec."""
    model, spec = offer.model, offer.model.spec
    if offer.holdout is None:
        snapshot = judge.datasets.ensure(model, file=offer.dataset, worker_context=worker_context)
        if unmet := judge.judge_anew(dataset_criteria(spec), snapshot.ref):
            reasons = "; ".join(problem.describe() for problem in unmet)
            raise ConfigurationError(
                f"could not evaluate {offer.folder} on the dataset of {spec.name}: {reasons}. Give "
                "another hold-out set with --holdout FILE. Nothing was stored"
            )
        judge.datasets.download(snapshot.ref, folder / worker.DATA)
        return
    if not offer.holdout.is_file():
        raise ConfigurationError(f"the hold-out file {offer.holdout} does not exist")
    work(
        "holdout",
        model,
        *("--input", str(offer.holdout.absolute()), "--output", str(folder)),
        purpose=f"read the hold-out set {offer.holdout} of {spec.name}",
        timeout=_TIMEOUT,
        on_line=worker_context.on_line,
    )
    profile = json.loads((folder / worker.PROFILE).read_bytes())
    if problems := describe_holdout_problems(spec, profile):
        raise ConfigurationError(
            f"the hold-out set {offer.holdout} does not fit {spec.name}: {'; '.join(problems)}. "
            "Nothing was stored"
        )


def _evaluate(offer: Offer, judge: Judge, folder: Path, worker_context: WorkerContext) -> Manifest:
    """Let the serving environment answer the rows, write the evaluation, return the manifest."""
    import numpy as np

    spec, model = offer.model.spec, folder / worker.MODEL
    evaluation = folder / worker.EVALUATION
    evaluation.mkdir()
    rows = probe(spec, model) if offer.is_unevaluated else _holdout_rows(folder)
    if not (model / EXAMPLE).exists():
        (model / EXAMPLE).write_text(json.dumps(rows[:1].tolist()))
    manifest = _manifest(offer, model)
    manifest, served = _ask(judge, spec, manifest, rows, folder)
    if offer.is_unevaluated:
        write_probe(evaluation / evaluating.PROBE, rows, served)
        return manifest
    if (folder / worker.SCORES).exists():
        _require_claimed(offer, np.load(folder / worker.SCORES, allow_pickle=False), served)
    np.save(folder / worker.SCORES, served)
    work(
        "evaluate",
        offer.model,
        *("--input", str(folder / worker.DATA), "--scores", str(folder / worker.SCORES)),
        *("--output", str(folder)),
        purpose=f"evaluate the files of {spec.name}",
        timeout=_TIMEOUT,
        on_line=worker_context.on_line,
    )
    report = json.loads((folder / worker.REPORT).read_bytes())
    return replace(manifest, metrics=report["metrics"])


def _require_claimed(offer: Offer, claimed: "NDArray[Any]", served: "NDArray[Any]") -> None:
    """Compare every row's scores in the hold-out file with those of the serving environment."""
    if claimed.ndim == 1 and served.ndim == 2:
        claimed = claimed.reshape(-1, 1)
    tolerance = offer.model.spec.thresholds.tolerance
    if (found := max_difference(served, claimed)) > tolerance:
        raise ConfigurationError(
            f"the scores in {offer.holdout}, shape {list(claimed.shape)}, are not those that the "
            f"serving environment returns, shape {list(served.shape)}: they differ by at most "
            f"{found:.3g}, and the tolerance is {tolerance:g}. Compare the versions of the "
            "libraries and the preparation of the rows, or leave out `scores`. Nothing was stored"
        )


def _ask(
    judge: Judge, spec: ModelSpec, manifest: Manifest, rows: "NDArray[Any]", folder: Path
) -> "tuple[Manifest, NDArray[Any]]":
    """Return the manifest with the signature, and what the model answers, shape [n, outputs]."""
    import numpy as np

    description, file = folder / worker.MODEL / MANIFEST, folder / "rows.npy"
    signature = folder / "signature.json"
    write_rows(file, rows)
    description.write_text(manifest.to_json())
    scores = judge.platform.serving_environment.predict(
        folder / worker.MODEL,
        file,
        implementation=spec.server.implementation,
        parameters=spec.server.parameters,
        signature=signature,
    )
    description.unlink()
    seen = json.loads(signature.read_bytes())
    described = replace(manifest, inputs=tensors(seen["inputs"]), outputs=tensors(seen["outputs"]))
    return described, np.asarray(scores, dtype=np.float64)


def _holdout_rows(folder: Path) -> "NDArray[Any]":
    return worker.read_dataset(folder / worker.DATA).x_test


def _manifest(offer: Offer, model: Path) -> Manifest:
    spec = offer.model.spec
    return Manifest(
        name=spec.name,
        framework=spec.framework,
        task=spec.task.name,
        files=hash_files(model),
        inputs=(),
        outputs=(),
        output_names=spec.output_names,
        schema=spec.dataset.schema,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=offer.origin,
    )
