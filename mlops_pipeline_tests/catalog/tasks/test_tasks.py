"""What each task makes of targets and predictions, with values that are known to be right."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, mean_absolute_error, r2_score, root_mean_squared_error

from mlops_pipeline.catalog import evaluating, worker
from mlops_pipeline.catalog.registry import RegisteredModel, load_catalog, load_model
from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    InvalidSpecError,
    ModelSpec,
    Thresholds,
    TrainedModel,
)
from mlops_pipeline.catalog.tasks import Classification, Custom, Metric, Regression, regression
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline_tests.toy import TOY

EXAMPLES = Path(__file__).parents[3] / "examples"
NUMBERS = DatasetSpec(load=lambda _file: None, features=2, target_range=(0, 10))  # type: ignore[arg-type, return-value]
PAIR = DatasetSpec(load=NUMBERS.load, features=2, classes=("low", "high"))
PRICES = replace(
    TOY, task=Regression(), dataset=replace(NUMBERS), thresholds=Thresholds({"rmse": 1.0})
)


def _column(values: Any) -> NDArray[Any]:
    return np.asarray(values, dtype=float).reshape(-1, 1)


# Regression


def test_the_metrics_of_a_regression() -> None:
    found = Regression().measure(np.array([1.0, 2.0, 3.0]), _column([1, 2, 5]))
    assert found == pytest.approx({"rmse": (4 / 3) ** 0.5, "mae": 2 / 3, "r2": -1.0})
    random = np.random.default_rng(7)
    y, p = random.normal(5e5, 1e5, 300), random.normal(5e5, 1e5, 300)
    assert Regression().measure(y, _column(p)) == pytest.approx(
        {
            "rmse": root_mean_squared_error(y, p),
            "mae": mean_absolute_error(y, p),
            "r2": r2_score(y, p),
        }
    )
    # Of class float32 and whole numbers too: nothing overflows.
    assert Regression().measure(np.array([2, 4]), np.array([[3], [4]], dtype=np.float32)) == (
        pytest.approx({"rmse": 0.5**0.5, "mae": 0.5, "r2": 0.5})
    )


def _problems(*targets: Any) -> list[str]:
    task = Regression()
    train, test = (
        {"shape": [len(y), 2], **task.profile(np.asarray(y, dtype=float), NUMBERS)} for y in targets
    )
    return task.target_check(NUMBERS).find_problems({"train": train, "test": test})


def test_targets_are_finite_in_their_range_and_not_all_the_same() -> None:
    assert _problems([1, 2.5, 10], [0, 3]) == []
    assert _problems([1, np.nan, np.inf], [3, 3]) == [
        "train: 2 targets are missing or infinite",
        "train: every target is 1",
        "test: every target is 3",
    ]
    assert _problems([-1, 5], [2, 11]) == [
        "train: expected targets from 0 to 10, got -1 to 5",
        "test: expected targets from 0 to 10, got 2 to 11",
    ]
    assert _problems([np.nan, np.nan], [1, 2]) == ["train: 2 targets are missing or infinite"]


def test_targets_of_a_regression_are_described() -> None:
    profile = Regression().profile(np.array([1.0, 3.0, np.nan]), NUMBERS)
    profiles = {split: {"shape": [3, 2], **profile} for split in ("train", "test")}
    assert Regression().target_tables(profiles, NUMBERS)["targets"][1] == {
        **{"split": "hold-out", "rows": 3, "min": 1.0, "mean": 2.0, "std": 1.0, "max": 3.0},
        **{"missing": 1, "distinct": 2},
    }


def test_the_plots_of_a_regression(tmp_path: Path) -> None:
    y = np.linspace(0, 1, 5_000)
    plots = Regression().plots(y, _column(y + 0.1), NUMBERS)
    assert list(plots) == ["predicted_against_true.png", "residuals.png"]
    for name, plot in plots.items():
        plot(tmp_path / name)
        assert 2_000 < (tmp_path / name).stat().st_size < 60_000


@pytest.mark.parametrize("shape", [(3, 2), (2, 1), (3, 1, 1)])
def test_a_regression_predicts_one_number_for_each_row(shape: tuple[int, ...]) -> None:
    assert "expected finite numbers of shape (3, 1) or (3,)" in Regression().describe_misfit(
        np.zeros(shape), 3, NUMBERS
    )
    assert Regression().describe_misfit(_column([1, np.inf, 2]), 3, NUMBERS)
    assert Regression().describe_misfit(_column([1, 0, 2]), 3, NUMBERS) == ""


def _trains(predict: Callable[[Any], Any]) -> ModelSpec:
    """Return a regression whose model predicts so; the targets are a column of the rows."""
    x = np.arange(20.0).reshape(10, 2) / 2

    def train(_dataset: Dataset, _hyperparameters: Any, folder: Path) -> TrainedModel:
        (folder / "model.joblib").write_text("weights")
        return TrainedModel(predict=predict, inputs=(), outputs=())

    data = Dataset(x, x[:, 0], x, x[:, 0])
    return replace(PRICES, train=train, dataset=replace(NUMBERS, load=lambda _file: data))


def _write(spec: ModelSpec, folder: Path) -> Any:
    worker.write_dataset(spec, None, folder)
    worker.write_model(spec, folder / worker.DATA, {}, folder)
    return folder / worker.EVALUATION


def test_the_worker_writes_flat_predictions_as_a_column(tmp_path: Path) -> None:
    evaluation = _write(_trains(lambda rows: rows[:, 0] + 1), tmp_path)
    with np.load(evaluation / "holdout.npz") as arrays:
        assert arrays["scores"].tolist() == [[n + 1.0] for n in range(10)]
        assert arrays["y"].tolist() == list(range(10))
    report = (tmp_path / worker.REPORT).read_text()
    assert '"rmse": 1.0, "mae": 1.0' in report
    assert (evaluation / "residuals.png").is_file()
    assert "problems" not in (evaluation / "tables.json").read_text()


def test_a_metric_that_fails_on_drawn_rows_fails_the_training(tmp_path: Path) -> None:
    def fragile(targets: NDArray[Any], _predictions: NDArray[Any]) -> float:
        if len(np.unique(targets)) < len(targets):
            raise ArithmeticError("a row occurs twice")
        return 1.0

    task = Custom((Metric("mine", fragile, higher_is_better=True),))
    spec = replace(_trains(lambda rows: rows), task=task, thresholds=Thresholds({"mine": 0.5}))
    with pytest.raises(
        ConfigurationError, match=r"the metric mine of 10 rows .* a row occurs twice"
    ):
        _write(spec, tmp_path)


def test_a_model_that_predicts_text_is_refused_by_the_worker(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not predict numbers .* where a class is a number"):
        _write(_trains(lambda rows: ["dear"] * len(rows)), tmp_path)


def test_targets_that_are_text_are_refused_by_the_worker(tmp_path: Path) -> None:
    spec = _trains(lambda rows: rows[:, 0])
    data = replace(spec.dataset.load(None), y_test=["dear"] * 10)  # type: ignore[arg-type]
    spec = replace(spec, dataset=replace(spec.dataset, load=lambda _file: data))
    with pytest.raises(
        ValueError, match=r"y_test of the dataset of toy must contain numbers: .*dear"
    ):
        worker.write_dataset(spec, None, tmp_path)


# Classification


def test_the_metrics_of_a_classification() -> None:
    y, p = np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    found = Classification().measure(y, p)
    assert found == pytest.approx({"accuracy": 0.75, "log_loss": log_loss(y, p)})
    decisions = np.array([[3.0, -1.0], [-2.0, 5.0], [0.1, 0.2], [1.0, 0.0]])
    assert Classification().measure(y, decisions) == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("threshold", "column", "wanted"),
    [
        (None, [0, 1, 1, 0], [0, 1, 1, 0]),  # predict
        (0.5, [0.2, 0.6, 0.5, 0.9], [0, 1, 0, 1]),  # a probability
        (0.0, [-3.0, 0.2, 4.0, 0.0], [0, 1, 1, 0]),  # decision_function
    ],
)
def test_one_column_is_read_as_the_threshold_says(
    threshold: float | None, column: list[float], wanted: list[int]
) -> None:
    task = Classification(threshold=threshold)
    assert task.predicted(_column(column)).tolist() == wanted
    assert task.describe_misfit(_column(column), 4, PAIR) == ""
    assert list(task.plots(np.array(wanted), _column(column), PAIR)) == ["confusion_matrix.png"]
    tables = task.tables(np.array(wanted), _column(column), PAIR)
    assert [row["f1"] for row in tables["per_class"]] == [1.0, 1.0]
    header, rows = task.answer_table(_column(column).tolist(), [], PAIR)
    assert header == (["class"] if threshold is None else ["class", "score"])
    assert [row[0] for row in rows] == [PAIR.classes[number] for number in wanted]


def test_a_decision_that_is_no_class_says_what_to_write() -> None:
    reason = Classification().describe_misfit(_column([-3.0, 0.2]), 2, PAIR)
    assert "Classification(threshold=0.5) for probabilities, threshold=0.0 for a deci" in reason
    assert "one column per class" in Classification().describe_misfit(np.zeros((2, 3)), 2, PAIR)


def test_a_row_that_was_not_answered_is_wrong() -> None:
    p = np.array([[1.0, 0.0], [np.nan, np.nan]])
    (accuracy, _) = Classification().metrics
    assert accuracy.value(np.array([0, 0]), p) == 0.5


# Custom, and the specs


def test_the_metric_of_the_example_is_the_area_that_scikit_learn_computes() -> None:
    from sklearn.metrics import roc_auc_score

    spec = load_model(f"{EXAMPLES / 'anomalies.py'}:ANOMALIES")
    random = np.random.default_rng(7)
    y, p = random.integers(0, 2, 200), random.normal(0, 1, 200).round(1)
    assert spec.metric.value(y, _column(p)) == pytest.approx(roc_auc_score(y, -p))
    assert math.isnan(spec.metric.value(np.zeros(3), _column([1, 2, 3])))
    assert spec.max_loss == 0.02


def test_the_examples_are_registered_with_their_main_metrics() -> None:
    found = load_catalog([str(file) for file in sorted(EXAMPLES.glob("*.py"))])
    assert found.refused == ()
    metrics = {model.name: model.spec.metric.name for model in found.models}
    assert metrics | {"anomalies": "roc_auc", "house_prices": "rmse", "iris": "accuracy"} == metrics


def test_a_changed_metric_trains_again(tmp_path: Path) -> None:
    file = tmp_path / "measures.py"
    file.write_text("def mine(targets, predictions):\n    return 1.0\n")
    scope: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    task = Custom((Metric("mine", scope["mine"], higher_is_better=True),))
    dataset = replace(TOY.dataset, classes=())
    spec = replace(TOY, task=task, dataset=dataset, thresholds=Thresholds({"mine": 0.5}))
    model = RegisteredModel(spec, "toy")
    before = model.source_digest()
    file.write_text(file.read_text().replace("1.0", "2.0"))
    assert model.source_digest() != before


def test_the_settings_of_a_task_are_those_that_change_its_results() -> None:
    mine = Metric("mine", partial(max, 1), higher_is_better=True)
    found = {
        task.settings()
        for task in (
            *(Classification(), Classification(), Classification(threshold=0.5), Regression()),
            *(Custom((mine,)), Custom((replace(mine, higher_is_better=False),))),
        )
    }
    assert len(found) == 5
    assert not any(" at 0x" in settings for settings in found)
    assert '"threshold": 0.5' in Classification(threshold=0.5).settings()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"thresholds": Thresholds({"accuracy": 0.9})},
            "the metrics of a regression are: rmse, ma",
        ),
        ({"thresholds": Thresholds({"r2": 1.5})}, r"limits\['r2'\] is 1.5; .* at most 1"),
        ({"thresholds": Thresholds({"rmse": -1.0})}, r"limits\['rmse'\] is -1.0; .* at least 0"),
        ({"dataset": PAIR}, "dataset.classes is .*; only a classification has classes"),
        ({"output_names": ("a", "b")}, "output_names has 2 names for 1 prediction"),
        ({"dataset": replace(NUMBERS, classes=None)}, "dataset.classes is None; only"),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_a_regression_is_refused(changes: Any, complaint: str) -> None:
    with pytest.raises(InvalidSpecError, match=complaint):
        replace(PRICES, **changes)


def test_min_accuracy_is_short_for_a_limit() -> None:
    short = Thresholds(min_accuracy=0.9, max_accuracy_drop=0.1)
    assert short == Thresholds({"accuracy": 0.9}, max_loss=0.1)
    assert replace(short, tolerance=1.0).limits == {"accuracy": 0.9}
    assert replace(TOY, thresholds=Thresholds({"accuracy": 0.9})).max_loss == 0.02


@pytest.mark.parametrize("classes", [None, 3])
def test_classes_that_are_not_names_are_refused(classes: Any) -> None:
    for task in (Classification(), Classification(threshold=0.5)):
        with pytest.raises(InvalidSpecError, match=f"classes is {classes}; it must be a tuple of"):
            replace(TOY, task=task, dataset=replace(TOY.dataset, classes=classes))


def test_a_loss_beyond_the_bounds_of_the_metric_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match=r"max_loss is 2; .* at least 0, at most 1$"):
        replace(TOY, thresholds=Thresholds(min_accuracy=0.9, max_accuracy_drop=2))
    assert replace(PRICES, thresholds=Thresholds({"rmse": 1.0}, max_loss=2)).max_loss == 2
    assert replace(PRICES, thresholds=Thresholds({"r2": 0.5}, max_loss=2)).max_loss == 2


def test_an_error_of_the_model_is_not_one_of_its_predictions() -> None:
    def predict(_rows: Any) -> Any:
        raise ValueError("X has 3 features")

    dataset = _trains(predict).dataset.load(None)
    with pytest.raises(ValueError, match=r"^X has 3 features$"):
        worker._predictions(PRICES, TrainedModel(predict, (), ()), dataset)


def test_a_plot_says_how_many_rows_it_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(
        regression, "save", lambda figure, _path: titles.append(figure.axes[0].get_title())
    )
    for rows in (10, 5_000):
        y = np.linspace(0, 1, rows)
        Regression().plots(y, _column(y), NUMBERS)["predicted_against_true.png"](tmp_path)
    assert titles == ["10 hold-out rows", "2000 of 5000 hold-out rows"]


def test_curves_of_the_holdout_set_alone_are_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[list[str]] = []
    monkeypatch.setattr(
        evaluating,
        "save",
        lambda figure, _path: drawn.append([axes.get_ylabel() for axes in figure.axes]),
    )
    evaluating._plot_curves({"val_loss": [2.0, 1.0], "val_rmse": [1.0, 0.5]}, tmp_path)
    assert drawn == [["loss", "rmse"]]


def test_a_threshold_is_not_part_of_an_artifact(tmp_path: Path) -> None:
    written = []
    for limit in (1.0, 2.0):
        spec = replace(
            _trains(lambda rows: rows[:, 0] + 0.5), thresholds=Thresholds({"rmse": limit})
        )
        evaluation = _write(spec, tmp_path / str(limit))
        written.append((evaluation / evaluating.TABLES).read_bytes())
    assert written[0] == written[1]
