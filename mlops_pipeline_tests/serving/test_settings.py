from pathlib import Path

import pytest

from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.settings import parse_parameters, read_settings


def test_defaults_are_those_of_seldon() -> None:
    own = read_settings({})
    assert (own.http_port, own.grpc_port, own.host) == (9000, 9500, "127.0.0.1")
    assert own.model_folder == Path("/mnt/models")
    assert own.graph_name is None
    assert own.max_body_bytes == 16 << 20


def test_reads_seldons_contract() -> None:
    own = read_settings(
        {
            "PREDICTIVE_UNIT_ID": "classifier",
            "PREDICTIVE_UNIT_PARAMETERS": '[{"name":"method","value":"predict","type":"STRING"}]',
            "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": "9001",
            "PREDICTIVE_UNIT_SERVICE_PORT": "9002",
            "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": "9501",
            "PREDICTIVE_UNIT_IMAGE": "image:1",
            "SELDON_DEPLOYMENT_ID": "iris-model",
            "PREDICTOR_ID": "default",
        }
    )
    assert own.graph_name == "classifier"
    assert own.parameters == {"method": "predict"}
    assert (own.http_port, own.grpc_port) == (9001, 9501)
    assert (own.image, own.deployment, own.predictor) == ("image:1", "iris-model", "default")


def test_reads_mlservers_names_where_seldons_are_missing() -> None:
    own = read_settings(
        {
            "MLSERVER_HTTP_PORT": "8080",
            "MLSERVER_GRPC_PORT": "8081",
            "MLSERVER_MODEL_NAME": "iris",
            "MLSERVER_MODEL_URI": "/models/iris",
        }
    )
    assert (own.http_port, own.grpc_port, own.graph_name) == (8080, 8081, "iris")
    assert own.model_folder == Path("/models/iris")


@pytest.mark.parametrize(
    ("option", "uri", "folder"),
    [("/option", "/uri", "/option"), (None, "/uri", "/uri"), (None, "file:///uri", "/uri")],
)
def test_the_folder_is_the_options_then_the_parameters(
    option: str | None, uri: str, folder: str
) -> None:
    parameters = f'[{{"name":"model_uri","value":"{uri}","type":"STRING"}}]'
    own = read_settings({"PREDICTIVE_UNIT_PARAMETERS": parameters}, model=option)
    assert own.model_folder == Path(folder)


def test_parameters_have_their_types() -> None:
    text = (
        '[{"name":"a","value":"1","type":"INT"},{"name":"b","value":"1.5","type":"FLOAT"},'
        '{"name":"c","value":"true","type":"BOOL"},{"name":"d","value":"x"}]'
    )
    assert parse_parameters(text) == {"a": 1, "b": 1.5, "c": True, "d": "x"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREDICTIVE_UNIT_HTTP_SERVICE_PORT", "http"),
        ("PREDICTIVE_UNIT_GRPC_SERVICE_PORT", "65536"),
        ("MLSERVER_HTTP_PORT", "-1"),
        ("MLOPS_MAX_BODY_BYTES", "16 MiB"),
        ("MLOPS_MAX_BODY_BYTES", "0"),
        ("MLOPS_RECEIVE_SECONDS", "nan"),
        ("MLOPS_DRAIN_SECONDS", "inf"),
        ("PREDICTIVE_UNIT_PARAMETERS", "{"),
        ("PREDICTIVE_UNIT_PARAMETERS", "[1]"),
        ("PREDICTIVE_UNIT_PARAMETERS", '[{"name":"a","value":"x","type":"INT"}]'),
        ("PREDICTIVE_UNIT_PARAMETERS", '[{"name":"a","value":"x","type":"SHAPE"}]'),
        ("MLSERVER_MODEL_URI", "s3://models/iris"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(StartError, match=r"must be a.*got") as caught:
        read_settings({name: value})
    assert caught.value.code == ExitCode.SETTINGS
    assert repr(value)[1:-1] in str(caught.value)
