"""Records of releases: written once, signed, and read with what is known of their signature."""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.cli.provenance import describe
from mlops_pipeline.clients.errors import ConflictError, UnavailableError
from mlops_pipeline.delivery.artifacts import artifact_store, ref_to
from mlops_pipeline.delivery.provenance import find_provenance
from mlops_pipeline.delivery.releases.evidence import Evidence, Look, Seen, StepEvidence, Tally
from mlops_pipeline.delivery.releases.records import ReleaseRecord, history, keep, releases_of
from mlops_pipeline.delivery.releases.state import UNDONE, Decision, Release
from mlops_pipeline.delivery.verdicts import VerdictLog
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.settings.signing import SigningSettings
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY, published_files

CANDIDATE, STABLE = "c" * 64, "a" * 64
BUCKET, FOLDER = "models", f"toy/releases/fake/{TOY.server.namespace}/toy-model/"


def record(time: str = "20260102T030405Z", *, outcome: str = "promoted") -> ReleaseRecord:
    """Return the record of a canary that counted answers in two steps."""
    release = Release(
        id=f"{time}-cccccccc",
        candidate=CANDIDATE,
        stable=STABLE,
        by="mlops-pipeline up toy",
        since="2026-01-02T03:04:05+00:00",
        plan=ReleaseSpec("canary", steps=(Step(10, answers=50), Step(50))),
        step=1,
        step_since="2026-01-02T03:09:05+00:00",
        revision=7,
    )
    decision: Any = {"outcome": outcome, "reason": "all bounds are below their limits"}
    evidence = Evidence(
        release.id,
        steps=(
            StepEvidence(0, 10, "2026-01-02T03:04:05+00:00", live={"errors": Tally(0, 60, 1, 540)}),
            StepEvidence(
                1,
                50,
                "2026-01-02T03:09:05+00:00",
                slow_over=0.05,
                live={"errors": Tally(1, 300, 1, 310), "slow": Tally(9, 300, 12, 310)},
                replayed={"disagreement": Tally(2, 30, 0, 0)},
            ),
        ),
        seen={"toy-1": Seen(1.5, 360, 1, {"0.05": 9})},
        lost={"default-candidate": 0},
        looks=(Look("2026-01-02T03:05:05+00:00", 10, 60, {"errors": 0.5}),),
    )
    ended = Decision(by="Dagster run 1", time="2026-01-02T03:20:05+00:00", **decision)
    return ReleaseRecord(release, ended, evidence)


def signing(home: Path, mode: str = "required") -> Signing:
    return Signing(home, SigningSettings.model_validate({"mode": mode}))


@pytest.fixture
def platform(tmp_path: Path) -> FakePlatform:
    return FakePlatform(signing=signing(tmp_path / "home"))


def _key(kept: ReleaseRecord, suffix: str = ".json") -> tuple[str, str]:
    return BUCKET, f"{FOLDER}{kept.release.id}{suffix}"


def test_a_record_is_read_as_it_was_kept_with_the_key_that_signed_it(
    platform: FakePlatform,
) -> None:
    uri = keep(record(), TOY, platform)

    (found,) = history(TOY, platform)

    assert uri == f"s3://{BUCKET}/{FOLDER}20260102T030405Z-cccccccc.json"
    assert found == record()
    assert found.place == f"fake {TOY.server.namespace}/toy-model"
    (known,) = platform.signing.known_keys()
    assert (found.key, found.doubt) == (known.fingerprint, "")


def test_the_newest_releases_come_first_and_those_of_other_artifacts_are_told_apart(
    platform: FakePlatform,
) -> None:
    times = ["20260102T030405Z", "20260302T030405Z", "20260202T030405Z"]
    for time in times:
        keep(record(time), TOY, platform)
    other = record("20260402T030405Z")
    keep(replace(other, release=replace(other.release, candidate="d" * 64)), TOY, platform)

    assert [kept.release.id[:15] for kept in history(TOY, platform, most=2)] == [
        "20260402T030405",
        "20260302T030405",
    ]
    found = releases_of(ref_to("toy", CANDIDATE), platform)
    assert [kept.release.id[:16] for kept in found] == sorted(times, reverse=True)


def test_a_record_is_never_overwritten(platform: FakePlatform) -> None:
    keep(record(), TOY, platform)
    before = dict(platform.store.objects)

    keep(record(), TOY, platform)
    with pytest.raises(ConflictError, match=r"holds another record of it, which stays"):
        keep(record(outcome="aborted"), TOY, platform)

    assert platform.store.objects == before


def test_a_promotion_that_was_taken_back_has_two_records(platform: FakePlatform) -> None:
    keep(record(), TOY, platform)
    undone = record(outcome="rolled_back")
    keep(
        replace(undone, release=replace(undone.release, id=f"{undone.release.id}{UNDONE}")),
        TOY,
        platform,
    )

    assert [kept.decision.outcome for kept in history(TOY, platform)] == ["rolled_back", "promoted"]


def test_other_objects_beside_the_records_are_not_read(
    platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    keep(record(), TOY, platform)
    platform.store.objects[BUCKET, f"{FOLDER}notes.json"] = b"{}"

    assert history(TOY, platform, most=1) == [record()]
    assert caplog.text == ""


def test_a_record_that_a_killed_process_did_not_sign_is_signed_later(
    platform: FakePlatform,
) -> None:
    platform.store.fail_after = 1
    with pytest.raises(UnavailableError):
        keep(record(), TOY, platform)
    platform.store.fail_after = None
    assert [kept.doubt for kept in history(TOY, platform)] == ["it is not signed"]

    keep(record(), TOY, platform)

    assert [kept.doubt for kept in history(TOY, platform)] == [""]


def test_nothing_is_signed_and_nobody_looks_with_signing_off() -> None:
    platform = FakePlatform()
    keep(record(), TOY, platform)

    (found,) = history(TOY, platform)

    assert (found.key, found.doubt) == ("", "")
    assert [key for _, key in platform.store.objects] == [_key(record())[1]]


def test_a_signature_of_an_unknown_key_does_not_count(
    platform: FakePlatform, tmp_path: Path
) -> None:
    platform.signing = signing(tmp_path / "theirs")
    keep(record(), TOY, platform)
    platform.signing = signing(tmp_path / "ours", "warn")

    (found,) = history(TOY, platform)

    assert found.key == ""
    assert "which is not trusted here" in found.doubt


def _changed(platform: FakePlatform, *, resums: bool) -> None:
    """Change the outcome in the stored document, and its checksum too if `resums`."""
    stored = json.loads(platform.store.objects[_key(record())])
    stored["record"]["decision"]["outcome"] = "rolled_back"
    if resums:
        keep(record(outcome="rolled_back"), TOY, other := FakePlatform())
        stored["sha256"] = json.loads(other.store.objects[_key(record())])["sha256"]
    platform.store.objects[_key(record())] = json.dumps(stored, indent=2, sort_keys=True).encode()


def test_a_changed_record_is_skipped_and_one_with_a_new_checksum_has_no_signature(
    platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    keep(record(), TOY, platform)
    _changed(platform, resums=False)
    with caplog.at_level(logging.WARNING):
        assert history(TOY, platform) == []
    assert "is skipped: expected the SHA-256" in caplog.text

    platform.store.objects.pop(_key(record()))
    platform.store.objects.pop(_key(record(), ".json.sig"))
    keep(record(), TOY, platform)
    _changed(platform, resums=True)

    (found,) = history(TOY, platform)
    assert found.decision.outcome == "rolled_back"
    assert "altered: 20260102T030405Z-cccccccc.json" in found.doubt


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"{", "Expecting property name"),
        (b'{"format": 1}', "'record'"),
        (b'{"sha256": "", "record": {}}', "expected the SHA-256"),
        (bytes(5 << 20), "the maximum is"),
    ],
)
def test_a_damaged_record_is_skipped_with_a_warning_and_the_others_are_shown(
    document: bytes, complaint: str, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    keep(record(), TOY, platform)
    platform.store.objects[BUCKET, f"{FOLDER}20260601T000000Z-dddddddd.json"] = document

    with caplog.at_level(logging.WARNING):
        assert history(TOY, platform) == [record()]

    assert "20260601T000000Z-dddddddd.json is skipped" in caplog.text
    assert complaint in caplog.text


def test_a_record_that_somebody_copied_to_another_place_is_skipped(
    platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    keep(record(), TOY, platform)
    for suffix in (".json", ".json.sig"):
        name = f"20260601T000000Z-cccccccc{suffix}"
        platform.store.objects[BUCKET, FOLDER + name] = platform.store.objects[
            _key(record(), suffix)
        ]

    with caplog.at_level(logging.WARNING):
        assert history(TOY, platform) == [record()]

    assert f"it belongs to {BUCKET}/{FOLDER}20260102T030405Z-cccccccc.json" in caplog.text


def test_provenance_shows_every_release_of_an_artifact(
    platform: FakePlatform, tmp_path: Path
) -> None:
    manifest, files, evaluation = published_files(tmp_path / "published")
    artifacts = artifact_store(platform)
    ref = artifacts.publish(manifest, files=files, evaluation=evaluation)
    kept = record()
    keep(replace(kept, release=replace(kept.release, candidate=ref.digest)), TOY, platform)

    found = find_provenance(
        ref,
        artifacts=artifacts,
        log=VerdictLog(platform.store),
        released=releases_of(ref, platform),
    )
    lines = list(describe(found))

    assert json.loads(json.dumps(found)) == found
    at = lines.index("  releases:")
    assert lines[at + 1 : at + 7] == [
        f"    fake {TOY.server.namespace}/toy-model promoted at 2026-01-02T03:20:05+00:00 by "
        "Dagster run 1: all bounds are below their limits",
        f"      canary beside {STABLE[:12]} since 2026-01-02T03:04:05+00:00, requested by "
        "mlops-pipeline up toy",
        "      step 1, 10 %: errors 0 of 60, stable 1 of 540",
        "      step 2, 50 %: errors 1 of 300, stable 1 of 310",
        "      step 2, 50 %: slow 9 of 300, stable 12 of 310",
        "      step 2, 50 %: disagreement 2 of 30 (replayed rows)",
    ]
    (known,) = platform.signing.known_keys()
    assert found["releases"][0]["signature"] == {"key": known.fingerprint, "doubt": ""}


def test_fields_that_a_newer_version_adds_are_ignored(platform: FakePlatform) -> None:
    keep(record(), TOY, platform)
    stored = json.loads(platform.store.objects[_key(record())])
    stored["record"]["release"]["colour"] = stored["record"]["mood"] = "blue"
    text = json.dumps(stored["record"], sort_keys=True, separators=(",", ":"))
    stored["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    platform.store.objects[_key(record())] = json.dumps(stored).encode()

    assert history(TOY, platform) == [record()]
