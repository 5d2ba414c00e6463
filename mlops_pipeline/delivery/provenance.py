"""Where an artifact comes from, what is known of it and where it served: from what is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mlops_pipeline.clients.errors import RefusedError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.counts import counts_by_step
from mlops_pipeline.delivery.releases.records import ReleaseRecord
from mlops_pipeline.delivery.verdicts import Judgement, VerdictLog, standing
from mlops_pipeline.serving.signing.bundle import parse_bundle
from mlops_pipeline.serving.signing.errors import SignatureError


def find_provenance(
    ref: ModelRef,
    *,
    artifacts: ArtifactStore,
    log: VerdictLog,
    released: Sequence[ReleaseRecord] = (),
) -> dict[str, Any]:
    """Return what is known of an artifact, as JSON values.

    The newest verdict of each check is shown, with the facts on which it was given. `released` are
    the records of its releases (`releases_of`).

    Raises:
        NotFoundError: there is no such artifact.
        IntegrityError: its manifest is damaged.
        UnavailableError: the object store did not answer.
    """
    manifest, entries = artifacts.manifest(ref), log.entries(ref)
    verdicts = {entry.check: entry for entry in entries if isinstance(entry, Judgement)}
    known = standing(entries)
    return {
        "model": ref.name,
        "digest": ref.digest,
        "uri": ref.uri,
        "signature": _signature(ref, artifacts),
        "created": manifest.created,
        "origin": manifest.origin or ("trained here" if manifest.run_id else ""),
        "dagster_run": manifest.run_id,
        "git_commit": manifest.note_commit,
        "inputs_digest": manifest.inputs_digest,
        "dataset": _dataset(ref, manifest.dataset_digest),
        "framework": manifest.framework,
        "hyperparameters": dict(manifest.hyperparameters),
        "versions": dict(manifest.versions),
        "metrics": dict(manifest.metrics),
        "files": dict(manifest.files),
        "evaluation": dict(manifest.evaluation),
        "verdict": known.describe(),
        "checks": [
            {
                "check": entry.check,
                "passed": entry.passed,
                "sentence": entry.sentence,
                "facts": dict(entry.facts),
                "by": entry.by,
                "time": entry.time,
            }
            for entry in verdicts.values()
        ],
        "releases": [_release(record) for record in released],
        "served": [
            {
                "place": period.place,
                "since": period.since,
                "until": period.until,
                "although_refused": period.although_refused,
            }
            for period in known.served
        ],
    }


def _release(record: ReleaseRecord) -> dict[str, Any]:
    release, decision = record.release, record.decision
    return {
        "id": release.id,
        "place": record.place,
        "strategy": release.plan.strategy,
        "stable": release.stable,
        "since": release.since,
        "requested_by": release.by,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "by": decision.by,
        "time": decision.time,
        "evidence": [asdict(count) for count in counts_by_step(record.evidence, release.plan)],
        "signature": {"key": record.key, "doubt": record.doubt},
    }


def _dataset(ref: ModelRef, digest: str) -> Mapping[str, str]:
    if not digest:
        return {}
    return {"digest": digest, "uri": f"s3://datasets/{ref.name}/{digest}"}


def _signature(ref: ModelRef, artifacts: ArtifactStore) -> dict[str, str]:
    """Return the state of the signature and the fingerprint of the key, also of an unknown one."""
    if (signed := artifacts.signatures.find_signed(ref)) is not None:
        return {"state": "verified", "key": signed.fingerprint}
    if (bundle := artifacts.signatures.find(ref)) is None:
        return {"state": "unsigned", "key": ""}
    try:
        claimed = parse_bundle(bundle).hint
        artifacts.signatures.check(ref)
    except RefusedError as error:
        return {"state": f"refused: {error}", "key": claimed}
    except SignatureError as error:
        return {"state": f"damaged: {error}", "key": ""}
    return {"state": "not verified", "key": claimed}
