"""What the UI shows on the pages of the assets, and what it is free of."""

from pathlib import Path

import dagster as dg
import pytest

from mlops_pipeline.assets import serving
from mlops_pipeline.assets.metadata import of_problems, records
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.references import DatasetRef, DeploymentRef, ModelRef
from mlops_pipeline.delivery.verdicts import Judgement, ServingEnded, ServingStarted, VerdictLog
from mlops_pipeline.resources.references import decode, encode
from mlops_pipeline_tests.assets.whole_graph import ALL, WholeGraph
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY, published_files

pytestmark = pytest.mark.usefixtures("worker_here")
_MOST_MARKDOWN = 1000
"""Characters from which on Dagster's UI hides Markdown behind a link."""


def _rows(value: dg.MetadataValue) -> list[dict[str, object]]:
    assert isinstance(value, dg.TableMetadataValue)
    names = {name for row in value.records for name in row.data}
    assert {column.name for column in value.schema.columns} == names
    return [dict(row.data) for row in value.records]


def test_no_page_repeats_internal_fields(graph_that_is_up: WholeGraph) -> None:
    pages = {name: graph_that_is_up.metadata(name) for name in ALL}
    for name, page in pages.items():
        assert not {"reference", "report", "failures"} & page.keys(), name
    assert [*pages["toy/dataset"]][-2:] == ["digest", "uri"]
    assert [*pages["toy/model"]][-2:] == ["digest", "uri"]
    assert [*pages["toy/deployment"]][-2:] == ["endpoint", "artifact"]


def test_the_dataset_is_described(graph_that_is_up: WholeGraph) -> None:
    page = graph_that_is_up.metadata("toy/dataset")
    assert page["dagster/row_count"].value == 20
    columns = page["dagster/column_schema"].schema.columns
    assert [c.name for c in columns] == ["x0", "x1", "class"]
    assert _rows(page["classes"])[1] == {
        "class": "high",
        "training rows": 5,
        "hold-out rows": 5,
        "% of training rows": 50.0,
    }
    first = _rows(page["feature_statistics"])[0]
    assert (first["feature"], first["min"], first["mean"], first["max"]) == ("x0", 0, 9, 18)
    assert (first["std"], first["missing"], first["distinct"]) == (5.7446, 0, 10)
    assert _rows(page["sample_rows"])[0] == {"class": "low", "x0": 0.0, "x1": 1.0}
    assert "data:image/png;base64," in page["histograms"].value


def test_a_no_op_shows_how_good_the_model_is_too(graph_that_is_up: WholeGraph) -> None:
    key = WholeGraph.key("toy/model")
    events = graph_that_is_up.instance.fetch_materializations(key, limit=10).records
    trained, kept = (e.asset_materialization for e in reversed(events[-2:]))
    assert trained is not None
    assert kept is not None
    assert trained.metadata["change"].value == "created"
    assert float(str(trained.metadata["training_seconds"].value)) > 0
    assert kept.metadata["change"].value == "unchanged"
    assert "training_seconds" not in kept.metadata
    for page in (trained.metadata, kept.metadata):
        assert page["holdout_accuracy"].value == 1.0
        assert [row["class"] for row in _rows(page["per_class"])] == ["low", "high"]
        assert _rows(page["per_class"])[0]["rows"] == 5
        assert _rows(page["confusion"])[0]["predicted low"] == 5
        assert "accuracy" not in page  # a refused artifact would stand in this curve too
        for plot in ("confusion_matrix", "roc_and_calibration"):
            assert len(str(page[plot].value)) < 60_000


def test_the_metrics_have_the_limits_of_the_spec(graph_that_is_up: WholeGraph) -> None:
    rows = _rows(graph_that_is_up.metadata("toy/model")["metrics"])
    assert {row["metric"]: row["limit"] for row in rows} == {"accuracy": 0.9, "log_loss": None}


def test_the_artifacts_are_listed_with_their_verdicts(graph_that_is_up: WholeGraph) -> None:
    ref = decode(graph_that_is_up.metadata("toy/model"))
    assert isinstance(ref, ModelRef)
    events = graph_that_is_up.instance.fetch_materializations(WholeGraph.key("toy/model"), limit=10)
    first = events.records[-1].asset_materialization
    assert first is not None
    assert [row["verdict"] for row in _rows(first.metadata["artifacts"])] == ["being checked"]
    for page in ("toy/model", "toy/deployment"):
        newest = _rows(graph_that_is_up.metadata(page)["artifacts"])[0]
        assert (newest["artifact"], newest["accuracy"]) == (ref.digest[:12], 1.0)
        assert newest["verdict"] == "serving"
        assert str(newest["served from"]).startswith("20")


def test_the_page_of_the_deployment_says_what_serves(graph_that_is_up: WholeGraph) -> None:
    page = graph_that_is_up.metadata("toy/deployment")
    deployed = decode(page)
    assert isinstance(deployed, DeploymentRef)
    assert (deployed.namespace, deployed.name) == ("seldon", "toy-model")
    assert str(page["served"].value).startswith(f"**{deployed.digest[:12]}** serves since 20")
    assert isinstance(page["serving_since"], dg.TimestampMetadataValue)
    assert _rows(page["served_before"])[0]["to"] == "now"
    assert page["accuracy"].value == 1.0


def test_the_predictions_are_numbers(graph_that_is_up: WholeGraph) -> None:
    page = graph_that_is_up.metadata("toy/predictions")
    assert (page["served_accuracy"].value, page["rows"].value, page["failed_requests"].value) == (
        1,
        10,
        0,
    )
    assert {"requests", "wrong_digests", "max_difference", "p50_ms", "p99_ms"} <= page.keys()


def test_the_page_names_the_previous_artifact(tmp_path: Path) -> None:
    platform, refs = FakePlatform(), []
    store = platform.store
    for number, accuracy in enumerate((0.95, 0.5, 0.97)):
        manifest, files, evaluation = published_files(
            tmp_path / str(number),
            content=str(number),
            accuracy=accuracy,
            created=f"2026-01-0{number + 1}T10:00:00+00:00",
        )
        refs.append(ArtifactStore(store).publish(manifest, files=files, evaluation=evaluation))
    old, refused, new = refs
    log, place = VerdictLog(store), "fake seldon/toy-model"
    log.append(old, ServingStarted(place))
    unproved, files, evaluation = published_files(tmp_path / "3", content="3", created="yesterday")
    last = ArtifactStore(store).publish(unproved, files=files, evaluation=evaluation)
    log.append(last, Judgement("accuracy_at_least_threshold", passed=True, sentence="0.97"))
    log.append(refused, Judgement("accuracy_at_least_threshold", passed=False, sentence="0.5"))
    log.append(old, ServingEnded(place))
    log.append(new, ServingStarted(place))

    table = _rows(serving.artifacts(TOY, platform=platform))
    assert [row["artifact"] for row in table] == [r.digest[:12] for r in (last, new, refused, old)]
    assert [row["verdict"] for row in table] == [
        "unjudged",  # By three of four checks.
        "serving",
        "refused by accuracy_at_least_threshold",
        "served",
    ]
    assert table[0]["trained"] == "yesterday"
    assert table[2]["served from"] == ""
    assert table[3]["served to"] != ""
    deployment = DeploymentRef("toy-model", "seldon", "http://gateway/seldon/seldon/toy-model", new)
    page = serving.of(deployment, TOY, platform=platform)
    sentence = page["served"].value
    assert sentence.startswith(f"**{new.digest[:12]}** serves since 20")
    assert f"\n\nhold-out accuracy 0.9700\n\npreviously {old.digest[:12]}\n\nfrom 20" in sentence
    assert len(sentence) < _MOST_MARKDOWN
    assert page["accuracy"] == 0.97
    assert [row["to"] == "now" for row in _rows(page["served_before"])] == [True, False]
    platform.name = "kind"
    elsewhere = serving.of(deployment, TOY, platform=platform)
    assert "no earlier version is recorded" in elsewhere["served"].value
    assert "serving_since" not in elsewhere
    store.silent = {"get", "sizes"}
    assert "could not be read" in serving.of(deployment, TOY, platform=platform)["served"].value
    assert "could not be read" in str(serving.artifacts(TOY, platform=platform).value)


@pytest.mark.parametrize(
    "reference",
    [
        DatasetRef("toy", f"s3://datasets/toy/{'a' * 64}", "a" * 64),
        ModelRef("toy", f"s3://models/toy/{'a' * 64}", "a" * 64),
        DeploymentRef(
            "toy-model",
            "seldon",
            "https://[::1]:8080/seldon/seldon/toy-model",
            ModelRef("toy", f"s3://models/toy/{'a' * 64}", "a" * 64),
        ),
    ],
)
def test_references_come_back(reference: DatasetRef | ModelRef | DeploymentRef) -> None:
    assert decode(encode(reference)) == reference


def test_a_deployment_that_an_earlier_version_made_is_understood() -> None:
    model = {"name": "toy", "uri": f"s3://models/toy/{'a' * 64}", "digest": "a" * 64}
    fields = {
        "type": "DeploymentRef",
        "name": "toy-model",
        "namespace": "seldon",
        "url": "http://gateway/seldon/seldon/toy-model",
        "model": model,
    }
    earlier = {
        "digest": dg.MetadataValue.text("a" * 64),
        "reference": dg.MetadataValue.json(fields),
    }
    found = decode(earlier)
    assert isinstance(found, DeploymentRef)
    assert (found.name, found.digest) == ("toy-model", "a" * 64)
    assert decode({"change": dg.MetadataValue.text("unchanged")}) is None


def test_a_table_has_typed_columns() -> None:
    table = records([{"name": "a", "n": 1, "x": None}, {"name": "b", "n": 2, "x": 0.123456}])
    assert [(c.name, c.type) for c in table.schema.columns] == [
        ("name", "string"),
        ("n", "int"),
        ("x", "float"),
    ]
    assert table.records[1].data["x"] == 0.1235


def test_a_missing_plot_is_named() -> None:
    problems = ["could not draw a.png: ValueError: x", "could not draw b.png: OSError: y"]
    shown = of_problems({"features": [], "problems": problems})
    assert shown == {"not_shown": dg.MetadataValue.text("\n".join(problems))}
    assert of_problems({"features": []}) == {}
