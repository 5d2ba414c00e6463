"""Artifacts are signed where they are written, and verified where they are read."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from mlops_pipeline.delivery.adopting import adopt
from mlops_pipeline.delivery.applying import (
    Checked,
    Judging,
    apply_manifest,
    check_manifest,
)
from mlops_pipeline.delivery.artifacts import BUCKET, ArtifactStore, artifact_store, ref_to
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.deploying import deploy, seldon_deployment
from mlops_pipeline.delivery.provenance import find_provenance
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.signatures import sign_folder
from mlops_pipeline.delivery.training import TrainingOrder, ensure_trained
from mlops_pipeline.delivery.verdicts import Judgement, ServingStarted, VerdictLog
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.serving.signing.keys import fingerprint, make_private, public_pem
from mlops_pipeline.settings.signing import SigningSettings
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import REGISTERED, TOY, published_files


def _signing(home: Path, mode: str = "required") -> Signing:
    return Signing(home, SigningSettings.model_validate({"mode": mode}))


@pytest.fixture
def platform(tmp_path: Path) -> FakePlatform:
    return FakePlatform(signing=_signing(tmp_path / "home"))


@pytest.fixture
def ref(platform: FakePlatform, tmp_path: Path) -> ModelRef:
    adopt(platform)  # As every command that writes: there is nothing from before.
    manifest, files, evaluation = published_files(tmp_path / "published")
    return artifact_store(platform).publish(manifest, files=files, evaluation=evaluation)


def _key(ref: ModelRef, path: str) -> tuple[str, str]:
    return BUCKET, f"{ref.name}/{ref.digest}/{path}"


def test_publishing_signs_and_everything_that_reads_verifies(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path
) -> None:
    artifacts = artifact_store(platform)

    assert artifacts.exists(ref)
    assert artifacts.find_by_inputs("toy", inputs_digest="inputs-of-weights") == ref
    assert artifacts.download(ref, tmp_path / "copy").digest == ref.digest
    signed = artifacts.signatures.check(ref)
    assert signed is not None
    assert set(signed.statement.files) == {"1/part", "manifest.json", "model.joblib"}
    private = tmp_path / "home" / "keys" / "signing.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    assert private.parent.stat().st_mode & 0o777 == 0o700
    assert not [path for path in (tmp_path / "home" / "keys").iterdir() if path.suffix == ".tmp"]


def _rewrite(store: FakeObjectStore, ref: ModelRef) -> None:
    """Change a field of the manifest that is no part of the digest."""
    fields = json.loads(store.objects[_key(ref, "manifest.json")])
    store.objects[_key(ref, "manifest.json")] = json.dumps(fields | {"run_id": "other"}).encode()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda s, r: s.objects.pop(_key(r, "model.sig")), "has no model.sig"),
        (lambda s, r: s.objects.update({_key(r, "model.sig"): b"{"}), "cannot be used"),
        (lambda s, r: s.objects.update({_key(r, "model.sig"): bytes(17 << 20)}), "the maximum is"),
        (_rewrite, "altered: manifest.json"),
        (lambda s, r: s.objects.update({_key(r, "more.py"): b""}), "not signed: more.py"),
        (lambda s, r: s.objects.pop(_key(r, "1/part")), "missing: 1/part"),
    ],
)
def test_what_is_not_as_it_was_signed_is_not_deployed(
    damage: Callable[[FakeObjectStore, ModelRef], object],
    complaint: str,
    platform: FakePlatform,
    ref: ModelRef,
) -> None:
    damage(platform.store, ref)
    artifacts = artifact_store(platform)

    with pytest.raises(RefusedError, match=complaint) as refusal:
        deploy(TOY, ref, platform=platform, artifacts=artifacts)

    assert f"`mlops-pipeline sign toy/{ref.digest[:12]}`" in str(refusal.value)
    assert platform.deployments.applied == {}
    assert not artifacts.exists(ref)


def test_an_altered_byte_is_refused_where_the_files_are_read(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path
) -> None:
    platform.store.objects[_key(ref, "model.joblib")] = b"weightS"
    with pytest.raises(IntegrityError, match=r"changed: model\.joblib"):
        artifact_store(platform).download(ref, tmp_path / "copy")


def test_an_altered_file_with_a_manifest_that_fits_is_another_artifact(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path
) -> None:
    manifest, files, _ = published_files(tmp_path / "evil", content="evil")
    for name in ("model.joblib", "1/part"):
        platform.store.objects[_key(ref, name)] = (files / name).read_bytes()
    platform.store.objects[_key(ref, "manifest.json")] = manifest.to_json().encode()
    with pytest.raises(IntegrityError, match="belongs to the artifact"):
        artifact_store(platform).signatures.check(ref)


def test_the_signature_of_another_model_with_the_same_files(
    platform: FakePlatform, ref: ModelRef
) -> None:
    moved = ref_to("other", ref.digest)
    for path in ("model.joblib", "1/part", "manifest.json", "model.sig"):
        platform.store.objects[_key(moved, path)] = platform.store.objects[_key(ref, path)]
    with pytest.raises(IntegrityError, match="belongs to the artifact toy"):
        artifact_store(platform).signatures.check(moved)


def test_a_key_that_is_not_trusted_until_somebody_trusts_it(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path
) -> None:
    elsewhere = FakePlatform(platform.store, signing=_signing(tmp_path / "elsewhere"))
    artifacts = artifact_store(elsewhere)
    with pytest.raises(RefusedError, match="keys trust FILE"):
        artifacts.signatures.check(ref)
    assert artifacts.signatures.find_signed(ref) is None

    (key,) = platform.signing.keyring.trusted().values()
    elsewhere.signing.keyring.trust(key[0].encode())

    assert artifacts.signatures.check(ref) is not None


def test_a_revoked_key_is_refused_and_another_one_may_sign_again(
    platform: FakePlatform, ref: ModelRef
) -> None:
    artifacts, signing = artifact_store(platform), platform.signing
    (first,) = signing.known_keys()
    assert first.state == "signs"
    with pytest.raises(ConfigurationError, match="keys rotate"):
        signing.revoke(first.fingerprint[:10])

    second = signing.rotate()
    assert artifacts.signatures.check(ref) is not None
    assert signing.revoke(first.fingerprint[:10]) == first.fingerprint
    assert {k.fingerprint: k.state for k in signing.known_keys()} == {
        second: "signs",
        first.fingerprint: "revoked",
    }

    with pytest.raises(RefusedError, match="revoked"):
        artifacts.signatures.check(ref)
    with pytest.raises(ConfigurationError, match="is revoked"):
        signing.keyring.trust(signing.keyring.trusted()[first.fingerprint][0].encode())
    before = artifacts.etags(ref)
    artifacts.signatures.sign(ref, replaces=True)
    signed = artifacts.signatures.check(ref)
    assert signed is not None
    assert signed.fingerprint == second
    assert artifacts.etags(ref) == before


@pytest.mark.usefixtures("worker_here")
def test_a_second_user_of_a_store_trains_nothing_over_what_the_first_signed(
    tmp_path: Path,
) -> None:
    store = FakeObjectStore()
    first = FakePlatform(store, signing=_signing(tmp_path / "first"))
    second = FakePlatform(store, signing=_signing(tmp_path / "second"))
    datasets = DatasetStore(store)
    snapshot = datasets.ensure(REGISTERED, file=None)
    order = TrainingOrder(REGISTERED, snapshot.ref, TOY.hyperparameters)
    manifest, files, evaluation = published_files(tmp_path / "files")
    manifest = replace(manifest, inputs_digest=order.inputs_digest())
    ref = artifact_store(first).publish(manifest, files=files, evaluation=evaluation)
    before = dict(store.objects)

    def train(platform: FakePlatform) -> ModelRef:
        artifacts = artifact_store(platform)
        return ensure_trained(
            order, datasets=datasets, artifacts=artifacts, run_id="r", force=False
        ).ref

    with pytest.raises(
        RefusedError, match=r"which is not trusted here.*keys trust FILE.*sign toy/"
    ):
        train(second)
    with pytest.raises(RefusedError, match="keys trust FILE"):
        artifact_store(second).publish(manifest, files=files, evaluation=evaluation)
    assert store.objects == before
    assert train(first) == ref
    second.signing.keyring.trust(first.signing.keyring.private())
    assert train(second) == ref
    assert store.objects == before
    revoked = first.signing.known_keys()[0].fingerprint
    first.signing.rotate()
    first.signing.revoke(revoked)
    with pytest.raises(RefusedError, match=r"revoked.*sign toy/"):
        train(first)

    artifact_store(first).publish(manifest, files=files, evaluation=evaluation, replaces=True)
    assert train(first) == ref
    assert artifact_store(second).signatures.find_signed(ref) is None


def test_where_signatures_only_warn_that_of_another_key_stays(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = dict(platform.store.objects)
    artifacts = ArtifactStore(platform.store, signing=_signing(tmp_path / "warns", "warn"))
    manifest, files, evaluation = published_files(tmp_path / "again", created="2026-02-02")
    artifacts.publish(manifest, files=files, evaluation=evaluation)
    assert platform.store.objects == before
    assert "The signature stays" in caplog.text


def test_a_manifest_that_nobody_vouches_for_is_replaced_by_the_publishers(tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path / "files")
    store = FakeObjectStore()
    theirs = replace(manifest, run_id="forged", note_commit="0" * 40)
    ref = ref_to("toy", manifest.digest)
    store.objects[_key(ref, "manifest.json")] = theirs.to_json().encode()

    artifacts = ArtifactStore(store, signing=_signing(tmp_path / "home"))
    artifacts.publish(manifest, files=files, evaluation=evaluation)

    assert artifacts.manifest(ref) == manifest
    assert artifacts.signatures.check(ref) is not None
    later = replace(manifest, run_id="later")
    artifacts.publish(later, files=files, evaluation=evaluation)
    assert artifacts.manifest(ref) == manifest


def test_to_look_for_an_artifact_takes_three_requests_and_two_again(
    platform: FakePlatform, ref: ModelRef
) -> None:
    artifacts = ArtifactStore(store := _Counting(platform.store), signing=platform.signing)
    assert artifacts.exists(ref)
    assert store.asked == ["get", "sizes", "get"]
    artifacts.signatures.check(ref)
    assert store.asked[3:] == ["sizes", "get"]  # The manifest is known.


class _Counting(FakeObjectStore):
    """Notes what it is asked."""

    def __init__(self, store: FakeObjectStore) -> None:
        super().__init__()
        self.objects, self.asked = store.objects, list[str]()

    def _answer(self, method: str) -> None:
        self.asked.append(method)


def test_symbolic_links_are_not_signed(platform: FakePlatform, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.joblib").write_bytes(b"weights")
    (tmp_path / "code").mkdir()
    (folder / "code").symlink_to(tmp_path / "code")
    with pytest.raises(IntegrityError, match="code are symbolic links"):
        sign_folder(folder, platform.signing, name="model")


def test_the_key_and_the_trusted_keys_of_the_organisation(tmp_path: Path) -> None:
    private = make_private()
    (tmp_path / "org.pem").write_bytes(private)
    (tmp_path / "public.pem").write_text(public_pem(private))
    signs = Signing(tmp_path / "a", SigningSettings(key_file=tmp_path / "org.pem"))
    trusts = Signing(tmp_path / "b", SigningSettings(trusted=(tmp_path / "public.pem",)))
    files = {"model.joblib": "0" * 64}

    signature = signs.sign(files, name="iris")

    assert trusts.check(files, signature, what="iris", target="iris") is not None
    assert signs.check(files, signature, what="iris", target="iris") is not None
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigurationError, match=r"signing\.key_file names"):
        signs.rotate()
    with pytest.raises(ConfigurationError, match="it signs here"):
        signs.revoke(fingerprint(public_pem(private)))
    with pytest.raises(ConfigurationError, match="could not use the key"):
        Signing(tmp_path, SigningSettings(trusted=(Path(__file__),))).policy()


def test_a_warning_and_no_look_at_all(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    del platform.store.objects[_key(ref, "model.sig")]
    home = tmp_path / "home"
    for mode in ("warn", "off"):
        artifacts = ArtifactStore(platform.store, signing=_signing(home, mode))
        assert artifacts.exists(ref)
        assert artifacts.signatures.check(ref) is None
        assert ("has no model.sig" in caplog.text) == (mode == "warn")
        caplog.clear()


@pytest.mark.parametrize("answered", range(6))
def test_an_interrupted_publication_is_completed_by_the_next(answered: int, tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path / "files")
    store = FakeObjectStore(fail_after=answered)
    artifacts = ArtifactStore(store, signing=_signing(tmp_path / "home"))
    ref = ref_to("toy", manifest.digest)

    with pytest.raises(UnavailableError, match="network went away"):
        artifacts.publish(manifest, files=files, evaluation=evaluation)

    assert artifacts.exists(ref) == (answered == 5)
    store.fail_after = None
    assert artifacts.publish(manifest, files=files, evaluation=evaluation) == ref
    assert artifacts.download(ref, tmp_path / "copy") == manifest


def test_two_publishers_of_one_digest_leave_one_artifact_that_is_signed(tmp_path: Path) -> None:
    store, signing = FakeObjectStore(), _signing(tmp_path / "home")
    manifest, files, evaluation = published_files(tmp_path / "files")
    together, failures = threading.Barrier(4), []

    def publish(number: int) -> None:
        own = replace(manifest, created=f"2026-01-0{number}", run_id=str(number))
        artifacts = ArtifactStore(store, signing=signing)
        together.wait()
        try:
            artifacts.publish(own, files=files, evaluation=evaluation)
        except Exception as error:  # noqa: BLE001  # A thread's error is the test's.
            failures.append(error)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    ref = ref_to("toy", manifest.digest)
    assert ArtifactStore(store, signing=signing).signatures.check(ref) is not None
    assert len(signing.known_keys()) == 1


def test_a_manifest_that_is_replaced_while_it_is_signed_is_signed_again(
    platform: FakePlatform, ref: ModelRef, tmp_path: Path
) -> None:
    del platform.store.objects[_key(ref, "model.sig")]
    store = _Replacing(platform.store, ref)
    artifacts = ArtifactStore(store, signing=platform.signing)
    artifacts.signatures.sign(ref)
    assert store.replaced == 1
    assert artifacts.signatures.check(ref) is not None


class _Replacing(FakeObjectStore):
    """Somebody replaces the manifest just before the first signature is stored."""

    def __init__(self, store: FakeObjectStore, ref: ModelRef) -> None:
        super().__init__()
        self.objects, self.ref, self.replaced = store.objects, ref, 0

    def put(self, bucket: str, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if key.endswith("model.sig") and not self.replaced:
            self.replaced += 1
            _rewrite(self, self.ref)
        super().put(bucket, key, data, if_absent=if_absent)


# What existed before


@pytest.fixture
def older(tmp_path: Path) -> tuple[FakePlatform, list[ModelRef]]:
    """Artifacts of a version that did not sign, with verdicts."""
    store, refs = FakeObjectStore(), []
    for number in (1, 2):
        manifest, files, evaluation = published_files(
            tmp_path / str(number), content=f"v{number}", created=f"2026-01-0{number}"
        )
        refs.append(ArtifactStore(store).publish(manifest, files=files, evaluation=evaluation))
    log = VerdictLog(store)
    log.append(refs[0], Judgement("accuracy", passed=True, sentence="0.97"))
    log.append(refs[0], ServingStarted("fake a/b"))
    log.append(refs[1], Judgement("accuracy", passed=False, sentence="0.36"))
    return FakePlatform(store, signing=_signing(tmp_path / "home")), refs


def test_what_existed_before_is_signed_once_and_its_verdicts_stay(
    older: tuple[FakePlatform, list[ModelRef]], caplog: pytest.LogCaptureFixture
) -> None:
    platform, refs = older
    artifacts, log = artifact_store(platform), VerdictLog(platform.store)
    entries, tags = [log.entries(ref) for ref in refs], [artifacts.etags(ref) for ref in refs]
    assert not artifacts.exists(refs[0])
    caplog.set_level("INFO", logger="mlops_pipeline")

    assert set(adopt(platform)) == set(refs)

    assert all(ref.uri in caplog.text for ref in refs)
    assert all(artifacts.signatures.check(ref) for ref in refs)
    assert [log.entries(ref) for ref in refs] == entries
    assert [artifacts.etags(ref) for ref in refs] == tags
    for ref in refs:
        del platform.store.objects[_key(ref, "model.sig")]
    assert adopt(platform) == ()
    assert not artifacts.exists(refs[0])


def test_an_upgrade_that_was_interrupted_goes_on_with_the_same_artifacts(
    older: tuple[FakePlatform, list[ModelRef]], tmp_path: Path
) -> None:
    platform, refs = older
    platform.store.fail_after = 1
    with pytest.raises(UnavailableError, match="network went away"):
        adopt(platform)
    platform.store.fail_after = None
    manifest, files, evaluation = published_files(tmp_path / "later", content="later")
    later = ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)

    adopt(platform)

    artifacts = artifact_store(platform)
    assert all(artifacts.signatures.check(ref) for ref in refs)
    assert artifacts.signatures.find_signed(later) is None


def test_one_signature_does_not_end_what_is_from_before(
    older: tuple[FakePlatform, list[ModelRef]],
) -> None:
    platform, refs = older
    artifact_store(platform).signatures.sign(refs[0])
    platform.store.objects[BUCKET, "by-hand/model.sig"] = b"{}"
    assert adopt(platform) == (refs[1],)
    assert all(artifact_store(platform).signatures.check(ref) for ref in refs)


def test_what_another_user_signed_at_the_upgrade_stays(
    older: tuple[FakePlatform, list[ModelRef]], tmp_path: Path
) -> None:
    platform, refs = older
    other = FakePlatform(platform.store, signing=_signing(tmp_path / "other"))
    platform.store.fail_after = 0
    with pytest.raises(UnavailableError):
        adopt(platform)  # It has written down both.
    platform.store.fail_after = None
    assert set(adopt(other)) == set(refs)
    assert adopt(platform) == ()
    assert all(artifact_store(other).signatures.check(ref) for ref in refs)


def test_each_store_has_its_upgrade(
    older: tuple[FakePlatform, list[ModelRef]], tmp_path: Path
) -> None:
    platform, refs = older
    elsewhere = FakePlatform(signing=platform.signing)
    elsewhere.store_id = "0123456789ab"
    assert adopt(elsewhere) == ()
    assert set(adopt(platform)) == set(refs)
    assert len(list((tmp_path / "home" / "keys").glob("adopted-fake*.json"))) == 2


def test_apply_signs_what_existed_before(older: tuple[FakePlatform, list[ModelRef]]) -> None:
    platform, refs = older
    manifest = seldon_deployment(TOY, refs[0], secret="seldon-rclone-secret")
    assert refs[0] in check_manifest(manifest, platform=platform, judging=JUDGING).accepted


# Manifests of people's own

JUDGING = Judging((), accept_refused=True, by="test")


def test_a_manifest_with_an_unsigned_folder_needs_sign_first(platform: FakePlatform) -> None:
    uri = "s3://models/by-hand"
    platform.store.objects[BUCKET, "by-hand/model.joblib"] = b"weights"
    manifest = seldon_deployment(
        TOY, replace(ref_to("toy", "0" * 64), uri=uri), secret="seldon-rclone-secret"
    )
    with pytest.raises(RefusedError, match=r"`mlops-pipeline sign s3://models/by-hand`"):
        check_manifest(manifest, platform=platform, judging=JUDGING)

    artifact_store(platform).signatures.sign_place(uri)

    assert check_manifest(manifest, platform=platform, judging=JUDGING) == Checked({})
    small = replace(JUDGING, most_bytes=3)
    with pytest.raises(ConfigurationError, match="max_artifact_gigabytes"):
        check_manifest(manifest, platform=platform, judging=small)
    platform.store.objects[BUCKET, "by-hand/model.joblib"] = b"other"
    with pytest.raises(RefusedError, match=r"altered: model\.joblib"):
        check_manifest(manifest, platform=platform, judging=JUDGING)


def test_a_copy_of_an_artifact_is_read_whole(platform: FakePlatform, ref: ModelRef) -> None:
    uri = f"s3://models/copies/{ref.digest}"
    for path in ("model.joblib", "1/part", "manifest.json", "model.sig"):
        copied = platform.store.objects[_key(ref, path)]
        platform.store.objects[BUCKET, f"copies/{ref.digest}/{path}"] = copied
    manifest = seldon_deployment(TOY, replace(ref, uri=uri), secret="seldon-rclone-secret")
    assert ref in check_manifest(manifest, platform=platform, judging=JUDGING).accepted
    platform.store.objects[BUCKET, f"copies/{ref.digest}/model.joblib"] = b"other"
    with pytest.raises(IntegrityError, match=r"model\.joblib"):
        check_manifest(manifest, platform=platform, judging=JUDGING)


def test_what_neither_delivery_nor_the_server_can_verify_is_refused(
    platform: FakePlatform,
) -> None:
    platform.reads_elsewhere, platform.verifies_when_loading = True, False
    elsewhere = replace(ref_to("toy", "0" * 64), uri="gs://bucket/model")
    manifest = seldon_deployment(TOY, elsewhere, secret="s")
    with pytest.raises(RefusedError, match="mlops-pipeline import gs://bucket/model"):
        check_manifest(manifest, platform=platform, judging=JUDGING)
    platform.verifies_when_loading = True
    (warning,) = check_manifest(manifest, platform=platform, judging=JUDGING).warnings
    assert "mlops-pipeline sign gs://bucket/model --output model.sig" in warning


def test_a_public_folder_of_google_needs_a_signature_before_anything_is_changed(
    platform: FakePlatform, tmp_path: Path
) -> None:
    platform.reads_elsewhere = True
    uri = "gs://seldon-models/v1/iris"
    manifest = seldon_deployment(TOY, replace(ref_to("toy", "0" * 64), uri=uri), secret="")
    found: list[bytes | None] = [None]
    judging = replace(JUDGING, find_elsewhere=lambda _, __: found[0])
    with pytest.raises(
        RefusedError, match=rf"{uri} has no model\.sig.*mlops-pipeline import"
    ) as no:
        apply_manifest(manifest, platform=platform, judging=judging)
    assert 'signing.mode = "warn"' in str(no.value)
    assert platform.deployments.applied == {}
    files = {"model.joblib": "0" * 64}
    found[0] = _signing(tmp_path / "others").sign(files, name="iris")
    with pytest.raises(RefusedError, match=r"not trusted here.*keys trust FILE"):
        check_manifest(manifest, platform=platform, judging=judging)
    found[0] = platform.signing.sign(files, name="iris")
    assert check_manifest(manifest, platform=platform, judging=judging) == Checked({})
    warns = FakePlatform(signing=_signing(tmp_path / "home", "warn"))
    warns.reads_elsewhere, found[0] = True, None
    assert check_manifest(manifest, platform=warns, judging=judging) == Checked({})


def test_another_store_is_not_read_with_the_keys_of_the_platforms(
    platform: FakePlatform, ref: ModelRef
) -> None:
    uri = "s3://models/by-hand"
    platform.store.objects[BUCKET, "by-hand/model.joblib"] = b"weights"
    manifest = seldon_deployment(TOY, replace(ref, uri=uri), secret="theirs")
    (warning,) = check_manifest(manifest, platform=platform, judging=JUDGING).warnings
    assert "mlops-pipeline sign ./FOLDER" in warning
    copied = seldon_deployment(TOY, ref, secret="theirs")
    assert ref in check_manifest(copied, platform=platform, judging=JUDGING).accepted
    platform.verifies_when_loading = False
    with pytest.raises(RefusedError, match="Seldon's own servers verify no signature"):
        check_manifest(manifest, platform=platform, judging=JUDGING)


def test_the_bytes_are_compared_where_the_servers_compare_none(
    platform: FakePlatform, ref: ModelRef
) -> None:
    platform.store.objects[_key(ref, "model.joblib")] = b"weightS"
    manifest = seldon_deployment(TOY, ref, secret="seldon-rclone-secret")
    assert ref in check_manifest(manifest, platform=platform, judging=JUDGING).accepted
    platform.verifies_when_loading = False
    with pytest.raises(IntegrityError, match=r"changed: model\.joblib"):
        check_manifest(manifest, platform=platform, judging=JUDGING)
    with pytest.raises(IntegrityError, match=r"changed: model\.joblib"):
        deploy(TOY, ref, platform=platform, artifacts=artifact_store(platform))
    assert platform.deployments.applied == {}


def test_signing_an_empty_folder_says_so(platform: FakePlatform) -> None:
    with pytest.raises(NotFoundError, match="s3://models/nothing"):
        artifact_store(platform).signatures.sign_place("s3://models/nothing")


def test_a_key_in_the_store_never_leads_out_of_the_folder(platform: FakePlatform) -> None:
    platform.store.objects[BUCKET, "evil/../../../escape"] = b"x"
    with pytest.raises(IntegrityError, match="outside"):
        artifact_store(platform).signatures.check_place("s3://models/evil")


# Provenance


def test_provenance_tells_where_an_artifact_comes_from(
    platform: FakePlatform, ref: ModelRef
) -> None:
    artifacts, log = artifact_store(platform), VerdictLog(platform.store)
    log.append(ref, Judgement("accuracy", passed=False, sentence="0.5", by="first"))
    log.append(ref, Judgement("accuracy", passed=True, sentence="0.97", by="second"))
    log.append(ref, ServingStarted("fake seldon/toy-model"))

    found = find_provenance(ref, artifacts=artifacts, log=log)

    (key,) = platform.signing.known_keys()
    assert found["signature"] == {"state": "verified", "key": key.fingerprint}
    assert found["digest"] == ref.digest
    assert found["metrics"] == {"accuracy": 1.0, "log_loss": 0.1}
    assert [(check["passed"], check["by"]) for check in found["checks"]] == [(True, "second")]
    assert [period["place"] for period in found["served"]] == ["fake seldon/toy-model"]
    assert found["releases"] == []
    assert json.loads(json.dumps(found)) == found
    del platform.store.objects[_key(ref, "model.sig")]
    found = find_provenance(ref, artifacts=artifacts, log=log)
    assert found["signature"] == {"state": "unsigned", "key": ""}
