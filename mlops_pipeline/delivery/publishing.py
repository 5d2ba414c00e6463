"""From the files of a model that was trained elsewhere to an artifact, judged as any other.

The files are checked by the row of the model's framework, and the serving environment computes
their scores for a hold-out set. Manifest, evaluation, storage and verdicts are those of a training.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mlops_pipeline.catalog import evaluating, worker
from mlops_pipeline.clients.errors import RefusedError
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.criteria import model_criteria
from mlops_pipeline.delivery.holdouts import TIMEOUT, holdout_rows, require_claimed, take_holdout
from mlops_pipeline.delivery.judging import Judge, Unmet
from mlops_pipeline.delivery.offered_files import Offer, find_files
from mlops_pipeline.delivery.probing import ask, probe, write_probe
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import standing
from mlops_pipeline.delivery.working import WorkerContext, work
from mlops_pipeline.serving.artifact import EXAMPLE, Manifest, hash_files

_DEFAULT = WorkerContext()


@dataclass(frozen=True)
class Published:
    """An artifact in the object store, and what its checks found."""

    ref: ModelRef
    manifest: Manifest
    unmet: tuple[Unmet, ...]
    """What keeps it from being deployed; empty: it passed every blocking check."""
    passed_over: tuple[str, ...] = ()
    """Files and folders beside the model that are not in the artifact."""


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
    offered = find_files(offer.folder, offer.model.spec, most_bytes=offer.most_bytes)
    judge.sign_older()
    with temporary_folder("publish") as folder:
        if not offer.is_unevaluated:
            take_holdout(offer, judge, folder, worker_context)
        offered.copy_to(folder / worker.MODEL)
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
    unmet = judge.find_unmet(criteria, ref)
    return Published(ref, judge.artifacts.manifest(ref), unmet, offered.passed_over)


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


def _evaluate(offer: Offer, judge: Judge, folder: Path, worker_context: WorkerContext) -> Manifest:
    """Let the serving environment answer the rows, write the evaluation, return the manifest."""
    import numpy as np

    spec, model = offer.model.spec, folder / worker.MODEL
    evaluation = folder / worker.EVALUATION
    evaluation.mkdir()
    rows = probe(spec, model) if offer.is_unevaluated else holdout_rows(folder)
    if not (model / EXAMPLE).exists():
        (model / EXAMPLE).write_text(json.dumps(rows[:1].tolist()))
    manifest = _manifest(offer, model)
    manifest, served = ask(judge, spec, manifest, rows, folder)
    if offer.is_unevaluated:
        write_probe(evaluation / evaluating.PROBE, rows, served)
        return manifest
    if (folder / worker.SCORES).exists():
        require_claimed(offer, np.load(folder / worker.SCORES, allow_pickle=False), served)
    np.save(folder / worker.SCORES, served)
    work(
        "evaluate",
        offer.model,
        *("--input", str(folder / worker.DATA), "--scores", str(folder / worker.SCORES)),
        *("--output", str(folder)),
        purpose=f"evaluate the files of {spec.name}",
        timeout=TIMEOUT,
        on_line=worker_context.on_line,
    )
    report = json.loads((folder / worker.REPORT).read_bytes())
    return replace(manifest, metrics=report["metrics"])


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
