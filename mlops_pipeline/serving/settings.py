"""The server's configuration, read once from the environment: Seldon's contract and some limits.

Variables (Seldon's and MLServer's names, so that the same process runs in a pod):

    PREDICTIVE_UNIT_ID                 graph name; else MLSERVER_MODEL_NAME, the artifact's name
    PREDICTIVE_UNIT_PARAMETERS         JSON list of {"name", "value", "type"}
    PREDICTIVE_UNIT_HTTP_SERVICE_PORT  else PREDICTIVE_UNIT_SERVICE_PORT, MLSERVER_HTTP_PORT, 9000
    PREDICTIVE_UNIT_GRPC_SERVICE_PORT  else MLSERVER_GRPC_PORT, 9500
    PREDICTIVE_UNIT_METRICS_SERVICE_PORT  else MLSERVER_METRICS_PORT, none: answers as the HTTP port
    PREDICTIVE_UNIT_IMAGE              the image in `meta.requestPath`
    SELDON_DEPLOYMENT_ID, PREDICTOR_ID
    MLSERVER_HOST                      address to listen on, 127.0.0.1
    MLSERVER_MODEL_URI                 folder, if no option or parameter sets it: /mnt/models
    MLOPS_TRUST                        which signatures of artifacts count, as JSON: `mode`,
                                       `trusted` (public keys in PEM), `revoked` (fingerprints)
    MLOPS_TRUST_FILE                   a file with that; neither: no signature is verified
    MLOPS_MAX_BODY_BYTES               largest request body, 16 MiB
    MLOPS_RECEIVE_SECONDS              from a request's first byte to its last, 30
    MLOPS_DRAIN_SECONDS                to finish the current requests after the signal to stop, 10
    MLOPS_ANSWER_SECONDS               for the model's server to answer a forwarder, 60
    MLOPS_SCRATCH                      folder of this server alone for the working directories of
                                       custom components, emptied at the start; else TMPDIR
    MLOPS_RECORDING                    records rows of requests and answers: JSON, see
                                       recording/format.py; none
    MLOPS_KEEP_ALIVE_SECONDS           how long an idle connection stays open, 3660: a gateway
                                       (Envoy: 1 h) must be the first to close its connections
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from mlops_pipeline.serving.batch_limits import PARAMETERS as BATCHING
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.recording import format as recording_format
from mlops_pipeline.serving.recording.format import Recording
from mlops_pipeline.serving.signing.policy import TRUST, TRUST_FILE, Policy, parse_policy

Parameter = str | int | float | bool
Number = TypeVar("Number", int, float)

DEFAULT_FOLDER = "/mnt/models"


class Place(Enum):
    """The differences between the places where a server runs."""

    MACHINE = "machine"
    """Under a supervisor, which observes the ports. The server opens them before it loads, so
    that two servers on one port are detected, and serves only published artifacts."""
    POD = "pod"
    """Ports open when the model answers: a probe may only connect. The folder may contain a
    model that somebody else created."""
    BEHIND = "behind a forwarder"
    """Like a pod; another container adds to each request the configuration that this one lacks."""


@dataclass(frozen=True)
class ServerSettings:
    """The configuration of one server process. Created by `read_settings`."""

    graph_name: str | None
    """Name of the model in every URL; None: the name in the artifact's manifest."""
    model_folder: Path
    parameters: Mapping[str, Parameter]
    """`method`, `signature_name`, `model_input`, `model_output` …"""
    host: str
    http_port: int
    grpc_port: int
    """0: any free port."""
    metrics_port: int
    """Another HTTP port, for Prometheus's metrics; 0: none."""
    image: str
    deployment: str
    predictor: str
    max_body_bytes: int
    receive_seconds: float
    drain_seconds: float
    answer_seconds: float
    """Seconds that a forwarder waits for the model's server."""
    keep_alive_seconds: float
    place: Place = Place.MACHINE
    signing: Policy = field(default_factory=Policy)
    """Which signatures of artifacts count."""
    recording: Recording | None = None
    """How rows of requests and answers are recorded; None: not at all."""


def read_settings(
    environment: Mapping[str, str], *, model: str | None = None, place: Place = Place.MACHINE
) -> ServerSettings:
    """Read the settings from `environment`; `model` is the folder given on the command line.

    Raises:
        StartError: a value is invalid; has the variable, the value and what is expected.
    """
    first = _finder(environment)
    parameters = parse_parameters(environment.get("PREDICTIVE_UNIT_PARAMETERS", ""))
    folder = model or parameters.get("model_uri") or first("MLSERVER_MODEL_URI", DEFAULT_FOLDER)
    return ServerSettings(
        graph_name=first("PREDICTIVE_UNIT_ID", "MLSERVER_MODEL_NAME", "") or None,
        model_folder=_local_folder(str(folder)),
        parameters=parameters,
        host=first("MLSERVER_HOST", "127.0.0.1"),
        http_port=_port(environment, *_HTTP_PORTS, default=9000),
        grpc_port=_port(environment, *_GRPC_PORTS, default=9500),
        metrics_port=_port(environment, *_METRICS_PORTS, default=0),
        image=first("PREDICTIVE_UNIT_IMAGE", "mlops-pipeline/serving"),
        deployment=first("SELDON_DEPLOYMENT_ID", ""),
        predictor=first("PREDICTOR_ID", ""),
        max_body_bytes=_number(environment, "MLOPS_MAX_BODY_BYTES", 16 << 20, convert=int),
        receive_seconds=_number(environment, "MLOPS_RECEIVE_SECONDS", 30.0, convert=float),
        drain_seconds=_number(environment, "MLOPS_DRAIN_SECONDS", 10.0, convert=float),
        answer_seconds=_number(environment, "MLOPS_ANSWER_SECONDS", 60.0, convert=float),
        keep_alive_seconds=_number(environment, "MLOPS_KEEP_ALIVE_SECONDS", 3660.0, convert=float),
        place=place,
        signing=_policy(environment),
        recording=_recording(environment.get(recording_format.VARIABLE, "")),
    )


def _policy(environment: Mapping[str, str]) -> Policy:
    """Return which signatures count.

    Raises:
        StartError: the variable or its file cannot be read: then nobody knows whom to trust.
    """
    text, file = environment.get(TRUST, ""), environment.get(TRUST_FILE, "")
    if not (text or file):
        return Policy()
    try:
        return parse_policy(text or Path(file).read_text())
    except (OSError, ValueError) as error:
        name, value = (TRUST, text) if text else (TRUST_FILE, file)
        raise StartError(
            f"could not read which signatures count from {name} ({value[:200]}): {error}.",
            code=ExitCode.SETTINGS,
        ) from error


def _recording(text: str) -> Recording | None:
    """Return the settings of the recording; None without any.

    Raises:
        StartError: they are invalid.
    """
    try:
        return recording_format.parse(text) if text else None
    except ValueError as error:
        wanted = f"the JSON of a Recording ({error})"
        raise _unusable(recording_format.VARIABLE, text, wanted) from error


_HTTP_PORTS = (
    "PREDICTIVE_UNIT_HTTP_SERVICE_PORT",
    "PREDICTIVE_UNIT_SERVICE_PORT",
    "MLSERVER_HTTP_PORT",
)
_GRPC_PORTS = ("PREDICTIVE_UNIT_GRPC_SERVICE_PORT", "MLSERVER_GRPC_PORT")
_METRICS_PORTS = ("PREDICTIVE_UNIT_METRICS_SERVICE_PORT", "MLSERVER_METRICS_PORT")


def parse_parameters(text: str) -> dict[str, Parameter]:
    """Parse Seldon's parameters, `[{"name": "method", "value": "predict", "type": "STRING"}]`.

    Raises:
        StartError: it is not such a list, or a value does not have its type.
    """
    try:
        entries = json.loads(text or "[]")
        return {str(entry["name"]): _typed(entry) for entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unusable(
            "PREDICTIVE_UNIT_PARAMETERS",
            text,
            'a JSON list of {"name", "value", "type"}, type INT, FLOAT, DOUBLE, STRING or BOOL',
        ) from error


ADDRESSES = ("model_uri", "model_name", "rest_endpoint", "grpc_endpoint")
"""Parameters that every unit may have; they set its addresses."""


def check_known(parameters: Mapping[str, Parameter], *names: str) -> None:
    """Require that each parameter is one of `names`, or one that every unit may have.

    Raises:
        StartError: it is not, which is most often a misspelling; has the known names.
    """
    unknown = [repr(name) for name in parameters if name not in (*names, *ADDRESSES, *BATCHING)]
    if unknown:
        raise StartError(
            f"Unknown parameter {', '.join(unknown)}; this model accepts "
            f"{', '.join((*names, *BATCHING, 'model_uri'))}.",
            code=ExitCode.SETTINGS,
        )


def _typed(entry: Mapping[str, object]) -> Parameter:
    """Convert a parameter's value, which Seldon's manifests write as a string, to its type."""
    value = str(entry["value"])
    return _CONVERTERS[str(entry.get("type", "STRING"))](value)


def _to_bool(value: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[value.lower()]


_CONVERTERS: Mapping[str, Callable[[str], Parameter]] = {
    "INT": int,
    "FLOAT": float,
    "DOUBLE": float,
    "STRING": str,
    "BOOL": _to_bool,
}


def _finder(environment: Mapping[str, str]) -> Callable[..., str]:
    """Return a function that returns the first variable that is set, or its last argument."""

    def first(*names_then_default: str) -> str:
        *names, default = names_then_default
        return next((environment[name] for name in names if environment.get(name)), default)

    return first


def _local_folder(folder: str) -> Path:
    """Return `folder` as a path; `file://` is the only scheme that a server can read by itself."""
    folder = folder.removeprefix("file://")
    if "://" in folder:
        raise _unusable("the model's folder", folder, "a downloaded folder on this machine")
    return Path(folder)


def _port(environment: Mapping[str, str], *names: str, default: int) -> int:
    """Return the first port that is set.

    Raises:
        StartError: it is not a number from 0 to 65535.
    """
    for name in names:
        text = environment.get(name)
        if text:
            if not (text.isascii() and text.isdigit() and int(text) <= 65535):
                raise _unusable(name, text, "a port, 0 to 65535")
            return int(text)
    return default


def _number(
    environment: Mapping[str, str], name: str, default: Number, *, convert: Callable[[str], Number]
) -> Number:
    """Return a positive number from the environment.

    Raises:
        StartError: it is not a number, or not positive.
    """
    text = environment.get(name, "")
    try:
        number = convert(text) if text else default
    except ValueError as error:
        raise _unusable(name, text, "a positive number") from error
    if not 0 < number < float("inf"):
        raise _unusable(name, text, "a positive number")
    return number


def _unusable(name: str, value: str, wanted: str) -> StartError:
    return StartError(f"{name} must be {wanted}, got {value!r}.", code=ExitCode.SETTINGS)
