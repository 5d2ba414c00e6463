"""Tables and strings of a model that was trained elsewhere, answered by its real server's code."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.holdout_files import read_holdout
from mlops_pipeline.catalog.spec import DatasetSpec
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.offered_files import Offer
from mlops_pipeline.delivery.probing import probe
from mlops_pipeline.delivery.publishing import publish
from mlops_pipeline.serving.offline import predict_file
from mlops_pipeline.serving.schema import Column, Schema
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.table_toy import CSV, REGISTERED, SCHEMA, TEXTS, Y, write_model


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    platform = FakePlatform()

    def predict(
        model: Path,
        rows: Path,
        *,
        implementation: str,
        parameters: Sequence[tuple[str, str]],
        signature: Path | None = None,
    ) -> Any:
        output = tmp_path / "scores.npy"
        predict_file(
            model,
            rows=rows,
            output=output,
            implementation=implementation,
            parameters=dict(parameters),
        )
        if signature is not None:
            signature.write_bytes(output.with_suffix(".json").read_bytes())
        return np.load(output).tolist()

    monkeypatch.setattr(platform.serving_environment, "predict", predict)
    return Judge(platform, by="a test")


def offer(name: str, folder: Path, **fields: Any) -> Offer:
    made = folder / "trained"
    made.mkdir()
    write_model(name, made)
    return Offer(REGISTERED[name], made, "published from a test", **fields)


def test_a_table_is_evaluated_on_a_csv_with_missing_values(judge: Judge, tmp_path: Path) -> None:
    file = tmp_path / "holdout.csv"
    file.write_text(CSV)
    published = publish(offer("table", tmp_path, holdout=file), judge)
    assert published.unmet == ()
    manifest = judge.artifacts.verify(published.ref)
    assert manifest.schema == SCHEMA
    assert [(t.name, t.datatype) for t in manifest.inputs] == [("size", "FP64"), ("city", "BYTES")]
    rows = judge.artifacts.holdout(published.ref).x
    assert rows[0].tolist() == [0.0, "Basel"]
    assert rows[-1].tolist() == [None, "Bern"]


@pytest.mark.usefixtures("worker_here")
def test_the_dataset_of_the_spec_is_the_hold_out_set(judge: Judge, tmp_path: Path) -> None:
    published = publish(offer("texts", tmp_path), judge)
    assert published.unmet == ()
    assert published.manifest.metrics["accuracy"] == 1.0


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_texts_are_read_from_both_kinds_of_files(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"holdout.{ending}"
    if ending == "npz":
        np.savez(file, x=np.array(TEXTS), y=np.array(Y))
    else:
        lines = (f"{y},{text}\n" for y, text in zip(Y, TEXTS, strict=True))
        file.write_text("target,text\n" + "".join(lines))
    worker.write_holdout(REGISTERED["texts"].spec, file, tmp_path)
    dataset = worker.read_dataset(tmp_path / worker.DATA)
    assert dataset.x_test.tolist() == TEXTS
    assert (dataset.y_test.tolist(), dataset.x_train.shape) == (Y, (0,))


@pytest.mark.parametrize(("name", "row"), [("table", [0.0, "Basel"]), ("texts", "a")])
def test_an_unevaluated_model_is_asked_one_row(
    name: str, row: Any, judge: Judge, tmp_path: Path
) -> None:
    published = publish(offer(name, tmp_path, is_unevaluated=True), judge)
    (unmet, *more) = published.unmet
    assert unmet.is_unevaluated
    assert more == []
    proof = judge.artifacts.proof_rows(published.ref)
    assert len(proof.x) == 1
    SCHEMA.columns[0].read(proof.x[0][0] if name == "table" else 0.0)
    assert type(proof.x.tolist()[0]) is type(row)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("Basel", "Geneva"), "line 2, column city: expected one of 'Basel', 'Bern', got the str"),
        (("8.0", "800"), "line 10, column size: expected a number from 0 to 100, got 800"),
    ],
)
def test_a_value_that_the_schema_does_not_allow_is_refused_with_its_place(
    change: tuple[str, str], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "holdout.csv"
    file.write_text(CSV.replace(*change))
    with pytest.raises(ValueError, match=said):
        read_holdout(REGISTERED["table"].spec, file)


def test_an_example_that_is_not_of_the_schema_is_refused(judge: Judge, tmp_path: Path) -> None:
    offered = offer("table", tmp_path, is_unevaluated=True)
    (offered.folder / "example.json").write_text(json.dumps([[1.0, "Geneva"]]))
    with pytest.raises(ConfigurationError, match=r"row 1, column 'city': expected one of"):
        publish(offered, judge)


def test_a_table_is_not_read_from_arrays(tmp_path: Path) -> None:
    file = tmp_path / "holdout.npz"
    np.savez(file, x=np.zeros((2, 2)), y=np.array([0, 1]))
    with pytest.raises(ValueError, match=r"is not a \.csv; .* columns size, city and target"):
        read_holdout(REGISTERED["table"].spec, file)


def test_a_row_that_nobody_gave_is_one_that_the_schema_allows(tmp_path: Path) -> None:
    columns = (Column("rate", range=(5, 9)), Column("pieces", "int", range=(1, 3)))
    table = REGISTERED["table"].spec
    schema, classes = Schema(columns, form="array"), ("no", "yes")
    dataset = DatasetSpec(table.dataset.load, classes=classes, schema=schema)
    rate, pieces = probe(replace(table, dataset=dataset), tmp_path)[0].tolist()
    assert 5 <= rate <= 9
    assert pieces in {1, 2, 3}
