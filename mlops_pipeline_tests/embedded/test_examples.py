"""The examples: tasks and frameworks from an empty state folder to proven predictions."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_pipeline.catalog.registry import load_model
from mlops_pipeline_tests.command_line import CommandLine, free_ports, predict

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "examples"
HOUSES = EXAMPLES / "house_prices.py"
HOUSE = [120.0, 4.0, 30.0, 5.5, 200.0]
WIDTHS = {
    "tumours": (30, 2),
    "cultivars": (13, 3),
    "digits": (64, 10),
    "grower": (13, 3),
    "nearest_centre": (4, 3),
}
"""Model → features, classes."""
OTHERS = ("tumours", "cultivars", "grower")
"""Models of the frameworks that are brought up only in the long tests.

`catalog/test_examples.py` trains and loads them, `kind/test_serving_image.py` asks their servers.
"""
FEW = [name for name in WIDTHS if name not in OTHERS]
NAMES = ("house_prices", "anomalies", "digit_limits", "reviews", "tickets", *FEW)
FRAMEWORKS = {"tumours": "xgboost", "cultivars": "lightgbm", "digits": "onnx"}
COLUMNS = "area,rooms,age,distance,garden,price"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A platform that is up with an example of each kind; gone afterwards."""
    directory = tmp_path_factory.mktemp("examples")
    models = [str(path) for path in sorted(EXAMPLES.glob("*.py"))]
    (directory / "mlops.toml").write_text(f"models = {json.dumps(models)}\n")
    made = CommandLine(directory / "home", directory, free_ports(3))
    try:
        made.run("up", *NAMES)
        yield made
    finally:
        made.run("down", "--purge", "--yes")


@pytest.fixture(scope="module")
def whole_shop(shop: CommandLine) -> CommandLine:
    """The same with all examples."""
    shop.run("up", *OTHERS)
    return shop


@pytest.fixture
def shop_with(request: pytest.FixtureRequest) -> Callable[[str], CommandLine]:
    """A function that returns the platform on which an example is up."""
    return lambda name: request.getfixturevalue("whole_shop" if name in OTHERS else "shop")


def _each(names: Iterable[str]) -> list[Any]:
    return [pytest.param(n, marks=[pytest.mark.long] if n in OTHERS else []) for n in names]


def _config(folder: Path, *, trees: int = 200, data: Path | None = None) -> str:
    """Return the settings with a house price model that has so many trees, and its data."""
    changed = folder / "house_prices.py"
    changed.write_text(HOUSES.read_text().replace('"trees": 200', f'"trees": {trees}'))
    dataset = f'[datasets]\nhouse_prices = "{data}"\n' if data else ""
    config = folder / "mlops.toml"
    config.write_text(f'models = ["{changed}"]\n{dataset}')
    return str(config)


def _url(shop: CommandLine, model: str) -> str:
    """Return the URL of a model; `status` exits with 3, because iris and mnist are not deployed."""
    return shop.url(model, code=3)


def _answering(shop: CommandLine) -> str:
    return predict(_url(shop, "house_prices"), HOUSE).headers["x-model-digest"]


def test_everything_that_the_checks_say_of_it_is_green_and_a_second_up_changes_nothing(
    shop: CommandLine,
) -> None:
    done = shop.run("up", "house_prices")
    assert "nothing changed" in done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("house_prices  "))
    assert line.split()[1:4] == [shop.digest("house_prices", 3)[:12], "RMSE", "27568"]
    listed = shop.run("models", "house_prices").stdout
    assert "RMSE 27568" in listed
    assert "serving" in listed
    planned = shop.run("plan", code=3).stdout.splitlines()  # The others are not deployed.
    for name in NAMES:
        assert {line.split()[1] for line in planned if line.startswith(f"{name}/")} == {"keep"}


def _page(shop: CommandLine, *path: str) -> dict[str, Any]:
    """Return the metadata that the UI shows on the page of an asset."""
    with dg.DagsterInstance.from_config(str(shop.home / "dagster")) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["embedded", *path]))
    assert event is not None
    assert event.asset_materialization is not None
    return {
        name: [dict(row.data) for row in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in event.asset_materialization.metadata.items()
    }


def test_the_pages_show_what_the_task_has(shop: CommandLine) -> None:
    dataset, model = _page(shop, "house_prices", "dataset"), _page(shop, "house_prices", "model")
    assert [row["split"] for row in dataset["targets"]] == ["training", "hold-out"]
    assert "classes" not in dataset
    assert "data:image/png" in dataset["histograms"]
    assert [row["metric"] for row in model["metrics"]] == ["rmse", "mae", "r2"]
    first = model["metrics"][0]
    assert first["from"] < model["holdout_rmse"] < first["to"]
    assert (first["better"], first["limit"]) == ("lower", 40_000)
    for plot in ("predicted_against_true", "residuals"):
        assert "data:image/png" in model[plot]
    assert model["artifacts"][0]["rmse"] == pytest.approx(model["holdout_rmse"], abs=1e-3)
    served = _page(shop, "house_prices", "predictions")
    assert served["served_rmse"] == pytest.approx(model["holdout_rmse"])
    assert served["served_rmse_from"] < served["served_rmse"] < served["served_rmse_to"]
    assert served["max_difference"] < 1e-9
    deployment = _page(shop, "house_prices", "deployment")
    assert deployment["rmse"] == model["holdout_rmse"]
    assert "hold-out RMSE 27568" in deployment["served"]


def test_a_price_is_predicted_on_the_command_line_and_by_each_protocol(
    shop: CommandLine, tmp_path: Path
) -> None:
    (price,) = predict(_url(shop, "house_prices"), HOUSE).json()["data"]["ndarray"]
    assert 250_000 < price < 400_000
    shown = shop.run("predict", "house_prices").stdout.splitlines()  # Its example.
    assert shown[0].split() == ["prediction"]
    assert float(shown[1]) == pytest.approx(price, abs=0.01)
    table = tmp_path / "houses.csv"
    table.write_text("garden,area,rooms,age,distance\n200,120,4,30,5.5\n0,60,2,80,20\n")
    rows = shop.run("predict", "house_prices", "--file", str(table)).stdout.splitlines()
    assert float(rows[1]) == pytest.approx(price, abs=0.01)
    assert float(rows[2]) < price / 2


def test_a_custom_metric_is_shown_and_its_method_served(shop: CommandLine) -> None:
    spec = load_model(f"{EXAMPLES / 'anomalies.py'}:ANOMALIES")
    assert "ROC AUC 0.9591" in shop.run("models", "anomalies").stdout
    holdout, url = spec.dataset.load(None), _url(shop, "anomalies")
    for kind, (least, most) in {0: (-0.5, -0.3), 1: (-0.9, -0.5)}.items():
        rows = holdout.x_test[holdout.y_test == kind]
        scores = [predict(url, row).json()["data"]["ndarray"][0] for row in rows[:9]]
        assert least < float(np.median(scores)) < most  # score_samples, not decision_function


@pytest.mark.parametrize("name", _each(WIDTHS))
def test_an_example_answers_as_proved(shop_with: Callable[[str], CommandLine], name: str) -> None:
    (features, classes), shop = WIDTHS[name], shop_with(name)
    answer = predict(_url(shop, name), [0.5] * features)
    (scores,) = answer.json()["data"]["ndarray"]
    assert len(scores) == classes
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert answer.headers["x-model-digest"] == shop.digest(name, code=3)


def test_a_wrong_number_of_features_is_refused_with_the_right_one(shop: CommandLine) -> None:
    answer = predict(_url(shop, "digits"), [0.5] * 63)
    assert (answer.status_code, answer.json()["status"]["reason"]) == (400, "WRONG_SHAPE")
    assert "expected shape [n, 64], got [1, 63]" in answer.text


@pytest.mark.parametrize("name", _each(FRAMEWORKS))
def test_it_answers_by_v2_with_its_library_as_the_platform(
    shop_with: Callable[[str], CommandLine], name: str
) -> None:
    url, (features, classes) = f"{_url(shop_with(name), name)}/v2/models/{name}", WIDTHS[name]
    described = httpx.get(url, timeout=10).json()
    assert described["platform"] == FRAMEWORKS[name]
    (tensor,) = described["inputs"]
    assert tensor["shape"] == [-1, features]
    values = {**tensor, "shape": [2, features], "data": [0.5] * (2 * features)}
    answer = httpx.post(f"{url}/infer", json={"inputs": [values]}, timeout=10)
    (output,) = answer.json()["outputs"]
    assert output["shape"] == [2, classes]
    assert output["name"] == described["outputs"][0]["name"]


@pytest.mark.timeout(900)
def test_bad_data_worse_models_and_noise_are_told_apart(shop: CommandLine, tmp_path: Path) -> None:
    good = _answering(shop)
    spoilt = _spoilt_data(tmp_path)
    refused = shop.run("up", "house_prices", code=1, MLOPS_CONFIG=_config(tmp_path, data=spoilt))
    for check in ("rmse_at_most_threshold", "r2_at_least_threshold"):
        assert check in refused.stderr
    assert "not_worse_than" not in refused.stderr  # Nobody can predict such prices.
    assert _answering(shop) == good

    worse = shop.run("up", "house_prices", code=1, MLOPS_CONFIG=_config(tmp_path, trees=40))
    assert "not_worse_than_deployed" in worse.stderr
    assert "rmse_at_most_threshold" not in worse.stderr
    assert _answering(shop) == good

    shop.run("up", "house_prices", MLOPS_CONFIG=_config(tmp_path, trees=190))
    assert _answering(shop) != good
    listed = shop.run("models", "house_prices").stdout
    assert "refused by rmse_at_most_threshold" in listed
    assert "refused by not_worse_than_deployed" in listed


def _spoilt_data(folder: Path) -> Path:
    """Write houses with the prices of others."""
    x, price = _generated()
    shuffled = np.random.default_rng(1).permutation(price)
    file = folder / "houses.csv"
    np.savetxt(file, np.c_[x, shuffled], delimiter=",", header=COLUMNS, comments="")
    return file


def _generated() -> tuple[NDArray[Any], NDArray[Any]]:
    data = load_model(f"{HOUSES}:HOUSE_PRICES").dataset.load(None)
    return np.r_[data.x_train, data.x_test], np.r_[data.y_train, data.y_test]


def test_data_that_are_no_prices_train_nothing(shop: CommandLine, tmp_path: Path) -> None:
    before = _answering(shop)
    x, price = _generated()
    price[3], price[5] = np.nan, -1
    file = tmp_path / "houses.csv"
    np.savetxt(file, np.c_[x, price], delimiter=",", header=COLUMNS, comments="")
    done = shop.run("up", "house_prices", code=1, MLOPS_CONFIG=_config(tmp_path, data=file))
    assert "has_usable_targets" in done.stderr
    assert _answering(shop) == before


TICKETS = "age_hours,messages,channel,plan,rating,is_weekend,country,escalated"
TICKET: dict[str, Any] = {
    "country": "CH",
    "is_weekend": True,
    "rating": None,
    "plan": "team",
    "channel": "phone",
    "messages": 3,
    "age_hours": 30.5,
}


def test_a_table_with_missing_values_is_answered_by_names(
    shop: CommandLine, tmp_path: Path
) -> None:
    url = _url(shop, "tickets")
    data: dict[str, Any] = {"names": list(TICKET), "ndarray": [list(TICKET.values())]}
    answer = httpx.post(f"{url}/api/v1.0/predictions", json={"data": data}, timeout=10)
    assert answer.headers["x-model-digest"] == shop.digest("tickets", code=3)
    body = answer.json()["data"]
    assert body["names"] == ["closed", "escalated"]
    described = httpx.get(f"{url}/v2/models/tickets", timeout=10).json()
    tensors = [{**t, "shape": [1, 1], "data": [TICKET[t["name"]]]} for t in described["inputs"]]
    (output,) = httpx.post(
        f"{url}/v2/models/tickets/infer", json={"inputs": tensors}, timeout=10
    ).json()["outputs"]
    assert output["data"] == pytest.approx(body["ndarray"][0])
    table = tmp_path / "tickets.csv"
    table.write_text(f"{','.join(TICKET)}\nCH,true,,team,phone,3,30.5\n")
    shown = shop.run("predict", "tickets", "--file", str(table)).stdout.splitlines()[1].split()
    assert float(shown[2]) == pytest.approx(body["ndarray"][0][1], abs=1e-4)

    data["ndarray"].append([*list(TICKET.values())[:4], "fax", 3, 30.5])
    refused = httpx.post(f"{url}/api/v1.0/predictions", json={"data": data}, timeout=10)
    status = refused.json()["status"]
    assert (refused.status_code, status["reason"]) == (400, "UNKNOWN_CATEGORY")
    assert "row 2, column 'channel': expected one of 'mail', 'phone', 'web'" in status["info"]


def test_several_inputs_are_answered_by_name_and_in_the_order_of_the_schema(
    shop: CommandLine,
) -> None:
    url = _url(shop, "digit_limits")
    image = [[(row * column) % 3 / 2 for column in range(8)] for row in range(8)]
    data: dict[str, Any] = {"ndarray": [[image, 4]]}
    answer = httpx.post(f"{url}/api/v1.0/predictions", json={"data": data}, timeout=10)
    assert answer.headers["x-model-digest"] == shop.digest("digit_limits", code=3)
    body = answer.json()["data"]
    assert body["names"] == ["below", "reached"]
    named = {"jsonData": {"inputs": {"limit": [4], "image": [image]}}}
    by_name = httpx.post(f"{url}/api/v1.0/predictions", json=named, timeout=10).json()
    assert by_name["jsonData"]["outputs"] == [pytest.approx(body["ndarray"][0])]
    data["ndarray"][0][1] = 10
    refused = httpx.post(f"{url}/api/v1.0/predictions", json={"data": data}, timeout=10)
    assert (refused.status_code, refused.json()["status"]["reason"]) == (400, "OUT_OF_RANGE")
    assert "row 1, input 'limit': expected an integer from 1 to 9" in refused.text
    shown = shop.run("predict", "digit_limits").stdout.splitlines()[1].split()
    assert shown[0] in ("below", "reached")
    page = _page(shop, "digit_limits", "dataset")
    served = _page(shop, "digit_limits", "predictions")
    features = [row["feature"] for row in page["feature_statistics"]]
    assert features == ["mean of image", "limit"]
    assert "data:image/png" in page["histograms"]
    assert served["max_difference"] < 1e-5


def test_a_text_is_answered_and_the_page_shows_samples(shop: CommandLine) -> None:
    shown = shop.run("predict", "reviews", "--row", "Support was a pleasure, and fast.")
    assert shown.stdout.splitlines()[1].split()[0] == "good"
    page = _page(shop, "reviews", "dataset")
    assert page["feature_statistics"][0]["feature"] == "review"
    assert len(page["sample_rows"]) == 5
    assert "data:image/png" in page["histograms"]
    served = _page(shop, "reviews", "predictions")
    assert served["max_difference"] < 1e-9


def test_a_value_that_the_schema_does_not_allow_trains_nothing(
    shop: CommandLine, tmp_path: Path
) -> None:
    before = shop.digest("tickets", code=3)
    file, config = tmp_path / "tickets.csv", tmp_path / "mlops.toml"
    rows = ["5,1,mail,free,3,true,CH,0", "6,2,web,,,false,DE,1"] * 8
    file.write_text("\n".join([TICKETS, *rows, "7,2,fax,,,false,DE,1"]))
    config.write_text(
        f'models = ["{EXAMPLES / "tickets_table.py"}"]\n[datasets]\ntickets = "{file}"\n'
    )
    done = shop.run("up", "tickets", code=1, MLOPS_CONFIG=str(config))
    said = " ".join(done.stderr.split())
    assert "(index 16), column 'channel': expected one of 'mail', 'phone', 'web', got" in said
    assert shop.digest("tickets", code=3) == before
