"""A model that was trained elsewhere is an artifact like any other, or is refused as a whole."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog.holdout_files import read_holdout
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import trained_elsewhere
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    RefusedError,
)
from mlops_pipeline.delivery import offered_files
from mlops_pipeline.delivery.choosing import choose_named, describe_refusal, find_pinned
from mlops_pipeline.delivery.criteria import model_criteria, required_checks
from mlops_pipeline.delivery.deploying import find_last_good, seldon_deployment
from mlops_pipeline.delivery.desired import DesiredState
from mlops_pipeline.delivery.history import record_serving
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.offered_files import Offer, find_files
from mlops_pipeline.delivery.publishing import publish
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.rolling_back import previous_good
from mlops_pipeline.delivery.training import TrainingOrder, ensure_trained
from mlops_pipeline.delivery.verdicts import Acceptance, standing
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    ArtifactError,
    Manifest,
    hash_files,
    parse_manifest,
    verify,
)
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import REGISTERED, TOY, published_files

RIGHT = [[float(n < 5), float(n >= 5)] for n in range(10)]
CSV = "x1,target,comment,x0\n" + "".join(
    f"{2 * n + 1},{'low' if n < 5 else 'high'},-,{2 * n}\n" for n in range(10)
)
THRESHOLD = "accuracy_at_least_threshold"


@pytest.fixture
def judge(worker_here: None) -> Judge:
    return judging()


def judging() -> Judge:
    """Return a judge of a platform that answers every row right."""
    platform = FakePlatform()
    platform.serving_environment.scores = RIGHT
    return Judge(platform, by="a test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "trained"
    (made / "more").mkdir(parents=True)
    (made / "model.joblib").write_text("weights")
    (made / "more" / "part").write_text("further weights")
    return made


def offer(folder: Path, **fields: Any) -> Offer:
    return Offer(REGISTERED, folder, "published from a test", **fields)


def unevaluated(judge: Judge, folder: Path) -> ModelRef:
    judge.platform.serving_environment.scores = RIGHT[:1]  # type: ignore[attr-defined]
    return publish(offer(folder, is_unevaluated=True), judge).ref


def stored(judge: Judge) -> list[str]:
    store = judge.platform.object_store()
    assert isinstance(store, FakeObjectStore)
    return [key for bucket, key in store.objects if bucket == "models"]


def test_a_hold_out_file_makes_an_artifact_that_passes(folder: Path, tmp_path: Path) -> None:
    """By the worker's own processes."""
    judge = judging()
    (tmp_path / "holdout.csv").write_text(CSV)
    published = publish(offer(folder, holdout=tmp_path / "holdout.csv"), judge)

    assert published.unmet == ()
    manifest = judge.artifacts.verify(published.ref)
    assert manifest.files.keys() == {"model.joblib", "more/part", "example.json"}
    assert manifest.metrics["accuracy"] == 1.0
    assert manifest.metrics["holdout_rows"] == 10
    assert manifest.origin == "published from a test"
    assert (manifest.task, manifest.framework) == ("classification", "sklearn")
    assert [t.name for t in (*manifest.inputs, *manifest.outputs)] == ["predict", "predict_proba"]
    assert {"holdout.npz", "confusion_matrix.png", "tables.json"} <= manifest.evaluation.keys()
    holdout = judge.artifacts.holdout(published.ref)
    assert holdout.x.tolist() == [[2.0 * n, 2.0 * n + 1] for n in range(10)]
    assert holdout.y.tolist() == [0] * 5 + [1] * 5
    known = standing(judge.log.entries(published.ref), required=required_checks(TOY))
    assert known.describe() == "passed"
    assert judge.artifacts.find_published("toy") == published.ref


def holdout_file(folder: Path, *, rows: int = 10, **arrays: Any) -> Path:
    file = folder / "holdout.npz"
    y = np.array([0] * (rows // 2) + [1] * (rows // 2))
    np.savez(file, x=np.arange(2.0 * rows).reshape(rows, 2) % 100, y=y, **arrays)
    return file


def refused(judge: Judge, folder: Path, place: Path) -> ModelRef:
    """Publish a model that answers every row wrong."""
    judge.platform.serving_environment.scores = RIGHT[::-1]  # type: ignore[attr-defined]
    return publish(offer(folder, holdout=holdout_file(place)), judge).ref


def test_a_bad_model_is_stored_and_refused(judge: Judge, folder: Path, tmp_path: Path) -> None:
    ref = refused(judge, folder, tmp_path)
    assert judge.artifacts.manifest(ref).metrics["accuracy"] == 0
    assert standing(judge.log.entries(ref)).describe() == f"refused by {THRESHOLD}"
    with pytest.raises(RefusedError, match=THRESHOLD):
        choose_named(TOY, judge, prefix=ref.digest, accept_refused=False, accept_unevaluated=True)


def test_the_metrics_are_those_of_the_serving_environment(
    judge: Judge, folder: Path, tmp_path: Path
) -> None:
    """A file with other scores in one of many rows is refused, and similar scores do not count."""
    served = np.array([[0.5 + 1e-9, 0.5 - 1e-9]] * 2000 + [[0.0, 1.0]] * 2000)
    judge.platform.serving_environment.scores = served.tolist()  # type: ignore[attr-defined]
    claimed = served.copy()
    claimed[1234] = [0.0, 1.0]
    file = holdout_file(tmp_path, rows=4000, scores=claimed)
    with pytest.raises(
        ConfigurationError, match=r"are not those that the serving .* most 0\.5, and"
    ):
        publish(offer(folder, holdout=file), judge)
    np.savez(tmp_path / "narrow.npz", **{**np.load(file), "scores": served[:, 0]})
    with pytest.raises(ConfigurationError, match=r"shape \[4000, 1\], .* shape \[4000, 2\]"):
        publish(offer(folder, holdout=tmp_path / "narrow.npz"), judge)
    assert stored(judge) == []

    turned = served[:, ::-1].copy()
    turned[2000:] = served[2000:]
    file = holdout_file(tmp_path, rows=4000, scores=turned)
    published = publish(offer(folder, holdout=file), judge)
    assert published.manifest.metrics["accuracy"] == 1, "the file's scores give 0.5"


def test_a_refused_model_is_not_published_again_without_a_hold_out_set(
    judge: Judge, folder: Path, tmp_path: Path
) -> None:
    ref = refused(judge, folder, tmp_path)
    before = stored(judge)
    with pytest.raises(RefusedError) as caught:
        unevaluated(judge, folder)
    for part in (
        f"the artifact toy {ref.digest[:12]}, which is refused by",
        THRESHOLD,
        "--holdout",
    ):
        assert part in str(caught.value)
    assert stored(judge) == before
    (folder / "model.joblib").write_text("other weights")
    first = unevaluated(judge, folder)
    assert unevaluated(judge, folder) == first, "unevaluated is no refusal"


def test_the_dataset_of_the_spec_is_the_default(judge: Judge, folder: Path) -> None:
    published = publish(offer(folder), judge)
    assert published.unmet == ()
    assert len(judge.artifacts.holdout(published.ref).x) == 10


def test_without_a_hold_out_set_a_person_must_accept_it(judge: Judge, folder: Path) -> None:
    ref = unevaluated(judge, folder)
    assert standing(judge.log.entries(ref)).describe() == "unevaluated"
    assert judge.artifacts.manifest(ref).metrics == {}
    with pytest.raises(RefusedError, match=r"is unevaluated: .* --accept-unevaluated"):
        choose_named(TOY, judge, prefix=ref.digest, accept_refused=False)

    chosen = choose_named(
        TOY, judge, prefix=ref.digest, accept_refused=False, accept_unevaluated=True
    )
    assert chosen.accepted.keys() == {THRESHOLD}
    deployment = seldon_deployment(TOY, ref, secret=judge.platform.object_store_secret())
    record_serving(
        None, deployment, platform=judge.platform, by="t", accepted={ref: chosen.accepted}
    )
    accepted = [e for e in judge.log.entries(ref) if isinstance(e, Acceptance)]
    assert [(a.kind, list(a.checks)) for a in accepted] == [("unevaluated", [THRESHOLD])]
    assert standing(judge.log.entries(ref)).describe() == "unevaluated (accepted)"


@pytest.mark.parametrize("by_run", [True, False])
def test_each_way_to_accept_it_is_recorded_the_same(
    judge: Judge, folder: Path, tmp_path: Path, *, by_run: bool
) -> None:
    """By `up --accept-unevaluated` in a check, or by `deploy --accept-unevaluated`."""
    ref = unevaluated(judge, folder)
    accepted = {}
    if by_run:
        criterion = next(c for c in model_criteria(TOY) if c.name == THRESHOLD)
        judge.evaluate(criterion, ref, accepts_unevaluated=True)
    else:
        chosen = choose_named(
            TOY, judge, prefix=ref.digest, accept_refused=False, accept_unevaluated=True
        )
        accepted = {ref: chosen.accepted}
    serve(judge, ref, accepted)
    (period,) = standing(judge.log.entries(ref)).served
    assert period.although_refused
    serve(judge, ref, {})
    assert standing(judge.log.entries(ref)).served == (period,), "deployed again, it is the same"

    (folder / "model.joblib").write_text("other weights")
    judge.platform.serving_environment.scores = RIGHT  # type: ignore[attr-defined]
    serve(judge, publish(offer(folder, holdout=holdout_file(tmp_path)), judge).ref, {})
    assert previous_good(TOY, judge) == ref, "a rollback takes what a person accepted"


def serve(judge: Judge, ref: ModelRef, accepted: dict[ModelRef, Any]) -> None:
    before = judge.platform.deployments.find("toy-model", namespace="seldon")
    deployment = seldon_deployment(TOY, ref, secret=judge.platform.object_store_secret())
    judge.platform.deployments.apply(deployment)
    record_serving(before, deployment, platform=judge.platform, by="t", accepted=accepted)


def test_an_accepted_one_stays_deployed_and_is_no_reference(judge: Judge, folder: Path) -> None:
    ref = unevaluated(judge, folder)
    state = DesiredState(TOY, judge.platform)
    state.keep(state.wanting(ref, by="t", is_pinned=True))
    with pytest.raises(RefusedError, match="is refused by accuracy_at_least_threshold: uneval"):
        find_pinned(TOY, judge)
    assert "unevaluated" in describe_refusal(TOY, ref.digest, judge)

    judge.log.append(ref, Acceptance("unevaluated", {THRESHOLD: "because"}, "t"))
    pinned = find_pinned(TOY, judge)
    assert pinned is not None
    assert pinned.ref == ref
    assert describe_refusal(TOY, ref.digest, judge) == ""
    assert judge.find_unmet(model_criteria(TOY), ref) == ()

    deployment = seldon_deployment(TOY, ref, secret=judge.platform.object_store_secret())
    judge.platform.deployments.apply(deployment)
    record_serving(None, deployment, platform=judge.platform, by="t")
    last = find_last_good(TOY, judge.platform, artifacts=judge.artifacts, log=judge.log)
    assert last is None, "nothing is known of its quality"


def test_the_checks_of_a_run_accept_it_from_then_on(judge: Judge, folder: Path) -> None:
    ref = unevaluated(judge, folder)
    criterion = next(c for c in model_criteria(TOY) if c.name == THRESHOLD)
    assert not judge.evaluate(criterion, ref, accepts_worse=True).passed
    first = judge.evaluate(criterion, ref, accepts_unevaluated=True)
    assert first.passed
    assert "accepted from now on by --accept-unevaluated" in first.description
    assert judge.evaluate(criterion, ref).passed
    kinds = [e.kind for e in judge.log.entries(ref) if isinstance(e, Acceptance)]
    assert kinds == ["unevaluated"]


def test_an_unevaluated_one_is_proved_with_its_own_row(judge: Judge, folder: Path) -> None:
    ref = unevaluated(judge, folder)
    rows = judge.artifacts.proof_rows(ref)
    assert rows.x.tolist() == [[1.0, 2.0]]  # The example of the spec.
    assert rows.scores.tolist() == RIGHT[:1]
    assert np.isnan(rows.y).all()
    with pytest.raises(NotFoundError, match=r"does not contain holdout\.npz"):
        judge.artifacts.holdout(ref)


@pytest.mark.parametrize("example", ["5", "[1, 2]", "[]", "[[]]", '"text"', "[" * 100_000])
def test_an_example_that_is_not_a_list_of_rows_is_named(
    judge: Judge, folder: Path, example: str
) -> None:
    (folder / "example.json").write_text(example)
    with pytest.raises(ConfigurationError, match=r"could not read example\.json .* a list of rows"):
        unevaluated(judge, folder)
    assert stored(judge) == []


def test_a_folder_of_ours_is_published_as_it_was(judge: Judge, tmp_path: Path) -> None:
    manifest, files, _ = published_files(tmp_path)
    (files / MANIFEST).write_text(manifest.to_json())
    found = find_files(files, TOY).files
    assert found.keys() == manifest.files.keys()
    (files / "model.joblib").write_text("changed")
    with pytest.raises(IntegrityError, match=r"has a manifest\.json, .* changed: model\.joblib"):
        find_files(files, TOY)


def test_a_saved_model_is_put_into_a_numbered_folder(tmp_path: Path) -> None:
    spec = replace(
        TOY,
        framework="tensorflow",
        server=replace(TOY.server, implementation="TENSORFLOW_SERVER"),
    )
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "variables.index").write_bytes(b"weights")
    found = find_files(tmp_path, spec).files
    assert found.keys() == {"1/saved_model.pb", "1/variables/variables.index"}


def test_a_keras_file_is_refused_with_the_line_that_exports_it(tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_bytes(b"PK")
    spec = replace(
        TOY,
        framework="tensorflow",
        server=replace(TOY.server, implementation="TENSORFLOW_SERVER"),
    )
    with pytest.raises(ConfigurationError, match=r"net\.keras is a file of Keras .* `python -c"):
        find_files(tmp_path, spec)


def _replace_by(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.joblib").rename(folder / name)

    return change


def _link(target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "link").symlink_to(target)

    return change


def _foreign_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"name": "an app"}')


def _manifest_of_another_framework(folder: Path) -> None:
    made = Manifest("toy", "xgboost", hash_files(folder), inputs=(), outputs=())
    (folder / MANIFEST).write_text(made.to_json())


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        (
            _replace_by("model.bst"),
            ConfigurationError,
            r"is a scikit-learn model, which is model\.joblib or .* but it has model\.bst, more, "
            "which is a XGBoost model",
        ),
        (_replace_by("weights.bin"), ConfigurationError, r"but it has more, weights\.bin\. Give"),
        (_link("/etc/hostname"), ConfigurationError, "link is a link to .*, outside of it"),
        (_link(".."), ConfigurationError, "link is a link to .*, outside of it"),
        (_link("more"), ConfigurationError, "link is a link that does not lead to a file"),
        (_link("nowhere"), ConfigurationError, "link is a link that does not lead to a file"),
        (_replace_by("a\nb"), ConfigurationError, "control character or a backslash"),
        (_replace_by("model\udcff"), ConfigurationError, "bytes that are not UTF-8"),
        (lambda f: os.mkfifo(f / "pipe"), ConfigurationError, "pipe is not a regular file"),
        (_foreign_manifest, IntegrityError, r"it has a manifest\.json, which is the name of"),
        (_manifest_of_another_framework, ConfigurationError, "says xgboost, .* toy is sklearn"),
    ],
)
def test_files_that_are_not_a_model_of_the_framework_are_refused(
    judge: Judge,
    folder: Path,
    change: Callable[[Path], None],
    error: type[Exception],
    complaint: str,
) -> None:
    change(folder)
    with pytest.raises(error, match=complaint):
        publish(offer(folder), judge)
    assert stored(judge) == []


def test_a_link_inside_is_a_copy_of_the_file(folder: Path) -> None:
    (folder / "same").symlink_to("model.joblib")
    assert find_files(folder, TOY).files["same"].read_text() == "weights"


def test_what_tools_wrote_beside_the_model_is_passed_over(
    judge: Judge, folder: Path, tmp_path: Path
) -> None:
    for name in (".git/objects/ab", "more/__pycache__/part.pyc", ".ipynb_checkpoints/x.ipynb"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("no weights")
    (folder / ".git" / "link").symlink_to("/etc")
    for name in (".DS_Store", "._model.joblib", "more/Thumbs.db"):
        (folder / name).write_text("no weights")
    published = publish(offer(folder, holdout=holdout_file(tmp_path), most_bytes=22), judge)
    assert published.manifest.files.keys() == {"model.joblib", "more/part", "example.json"}
    assert published.passed_over == (
        *(".DS_Store", "._model.joblib", ".git/", ".ipynb_checkpoints/"),
        *("more/Thumbs.db", "more/__pycache__/"),
    )


def test_a_folder_of_ours_may_have_them_too(tmp_path: Path) -> None:
    manifest, files, _ = published_files(tmp_path)
    (files / MANIFEST).write_text(manifest.to_json())
    (files / ".DS_Store").write_text("")
    found = find_files(files, TOY)
    assert (found.files.keys(), found.passed_over) == (manifest.files.keys(), (".DS_Store",))
    (files / "DS_Store").write_text("")
    with pytest.raises(IntegrityError, match="extra: DS_Store"):
        find_files(files, TOY)


def test_the_limit_that_was_met_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered_files, "MOST_FILES", 1)
    with pytest.raises(ConfigurationError, match="has 2 files, and the maximum is 1 files; give"):
        find_files(folder, TOY)


def test_an_empty_folder_is_refused(judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"scikit-learn model, .* but it is empty\. Give"):
        publish(offer(tmp_path / "empty"), judge)
    assert stored(judge) == []


def test_what_is_too_large_is_refused(judge: Judge, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"it has 22 bytes, and the maximum is 21 bytes"):
        publish(offer(folder, most_bytes=21), judge)
    with pytest.raises(ConfigurationError, match="it is not a folder"):
        publish(offer(folder / "model.joblib"), judge)
    assert stored(judge) == []


def test_a_hold_out_file_that_cannot_be_used_stores_nothing(
    judge: Judge, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "holdout.csv").write_text("x0,x1,target\n1,2,middle\n")
    with pytest.raises(CommandError, match=r"must contain numbers, or \('low', 'high'\)"):
        publish(offer(folder, holdout=tmp_path / "holdout.csv"), judge)
    assert stored(judge) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"x0,x1\n1,2\n", r"has the columns x0, x1, but not target"),
        (b"x0,x1,target\n", "has a header, but no rows"),
        (b"", "has the columns none, but not x0, x1, target"),
        (b"x0,x1,target\n1,two,low\n", r"line 2, column x1: 'two' is not a number"),
        (b"\xff\xfe", "could not read .* as CSV"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "holdout.csv").write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        read_holdout(TOY, tmp_path / "holdout.csv")


@pytest.mark.parametrize(
    ("classes", "texts", "wanted"),
    [
        (("1", "0"), ("1", "0", "1"), ["1", "0", "1"]),
        (("low", "high"), ("1", "0", "1"), [1, 0, 1]),
        ((), ("1.5", "2", "0"), [1.5, 2.0, 0.0]),
    ],
)
def test_targets_are_names_of_classes_before_they_are_numbers(
    tmp_path: Path, classes: tuple[str, ...], texts: tuple[str, ...], wanted: list[object]
) -> None:
    file = tmp_path / "holdout.csv"
    file.write_text("x0,x1,target\n" + "".join(f"1,2,{text}\n" for text in texts))
    spec = replace(TOY)
    object.__setattr__(spec, "dataset", replace(TOY.dataset, classes=classes))
    assert read_holdout(spec, file).y.tolist() == wanted


def test_an_npz_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "holdout.npz"
    file.write_bytes(b"PK\x03\x04 not a whole file")
    with pytest.raises(ValueError, match=r"as \.npz: .*; write it with numpy\.savez"):
        read_holdout(TOY, file)
    np.save(tmp_path / "holdout.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"as \.npz: .*; write it with numpy\.savez"):
        read_holdout(TOY, tmp_path / "holdout.npy")
    np.savez_compressed(file, x=np.zeros((100, 2)), y=np.zeros(100))
    damaged = bytearray(file.read_bytes())
    damaged[60:80] = b"\xff" * 20
    file.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"as \.npz: "):
        read_holdout(TOY, file)
    np.savez(file, x=np.zeros((1, 2)), labels=np.zeros(1))
    with pytest.raises(ValueError, match="has labels, x, but not y"):
        read_holdout(TOY, file)


def test_a_hold_out_set_that_does_not_fit_the_model_is_refused(
    judge: Judge, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "holdout.npz"
    np.savez(file, x=np.full((3, 3), 200.0), y=np.array([0, 0, 0]))
    with pytest.raises(ConfigurationError) as refused:
        publish(offer(folder, holdout=file), judge)
    for problem in ("expected shape", "expected values from 0 to 100", "no row of the class high"):
        assert problem in str(refused.value)
    with pytest.raises(ConfigurationError, match=r"nowhere\.csv does not exist"):
        publish(offer(folder, holdout=tmp_path / "nowhere.csv"), judge)
    assert stored(judge) == []


def test_a_model_that_the_serving_environment_does_not_load_is_not_stored(
    judge: Judge, folder: Path
) -> None:
    judge.platform.serving_environment.error = CommandError("it does not load")  # type: ignore[attr-defined]
    with pytest.raises(CommandError, match="it does not load"):
        publish(offer(folder, is_unevaluated=True), judge)
    assert stored(judge) == []


def test_up_takes_what_was_published_last_if_nothing_trains_here(
    judge: Judge, folder: Path
) -> None:
    model = RegisteredModel(replace(TOY, train=trained_elsewhere), REGISTERED.source)
    data = judge.datasets.ensure(REGISTERED, file=None).ref
    order = TrainingOrder(model, data, TOY.hyperparameters)

    def train() -> ModelRef:
        return ensure_trained(
            order, datasets=judge.datasets, artifacts=judge.artifacts, run_id="one", force=True
        ).ref

    with pytest.raises(NotFoundError, match="trained elsewhere, and no artifact of it was publi"):
        train()
    first = unevaluated(judge, folder)
    (folder / "model.joblib").write_text("other weights")
    second = unevaluated(judge, folder)
    assert first != second
    assert train() == second
    (folder / "model.joblib").write_text("weights")
    assert unevaluated(judge, folder) == first
    assert train() == first


OLD = """{"created": "", "dataset_digest": "", "evaluation": {}, "files": {"model.joblib":
"0000000000000000000000000000000000000000000000000000000000000000"}, "format": 1, "framework":
"sklearn", "hyperparameters": {}, "inputs": [{"datatype": "FP64", "name": "predict", "shape":
[-1, 2]}], "inputs_digest": "", "metrics": {"accuracy": 0.9}, "name": "toy", "output_names": [],
"outputs": [], "run_id": "", "task": "classification", "versions": {},
"digest": "8c6c29a8a3c0b6dc4ea52d6af16d07b0378224697c8b26095fd0106e17048a7d"}"""
"""As it was written before `origin`, `content_digest` and `reproducible` were in manifests."""


def test_a_manifest_of_before_has_the_same_digest() -> None:
    manifest = parse_manifest(OLD.encode())
    assert manifest.digest == json.loads(OLD)["digest"]
    assert (manifest.origin, manifest.content_digest, manifest.reproducible) == ("", "", "")
    changed = replace(manifest, origin="x", content_digest="y", reproducible="bytes")
    assert changed.digest == manifest.digest


def test_a_file_of_a_tool_that_a_manifest_names_is_compared(tmp_path: Path) -> None:
    for name in ("model.joblib", "__pycache__/a.pyc", "__pycache__/more.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    files = hash_files(tmp_path)
    del files["__pycache__/more.pyc"]
    written = Manifest("toy", "sklearn", files, (), ())
    (tmp_path / MANIFEST).write_text(written.to_json())
    assert verify(tmp_path, passed_over=("__pycache__/",)).files == files
    (tmp_path / "__pycache__" / "a.pyc").write_text("other")
    with pytest.raises(ArtifactError, match=r"changed: __pycache__/a\.pyc"):
        verify(tmp_path, passed_over=("__pycache__/",))
