"""Where the model's server is, and what each request to it says of the unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlops_pipeline.serving import telling
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.settings import Parameter, ServerSettings

REST, GRPC = "rest_endpoint", "grpc_endpoint"
"""The parameters by which the operator says where the model's server is."""
_ANY = "0.0.0.0"
"""The operator's name for this pod."""
_HERE = "127.0.0.1"


@dataclass(frozen=True)
class Target:
    """The model's server."""

    host: str
    port: int
    """Of REST."""
    grpc_address: str
    said: str
    """The header that tells it of the unit."""


def is_told(parameters: Mapping[str, Parameter]) -> bool:
    """Say whether a unit's parameters make its container a forwarder."""
    return REST in parameters


def read_target(own: ServerSettings, parameters: str) -> Target:
    """Return where the unit with these settings forwards to.

    `parameters` is PREDICTIVE_UNIT_PARAMETERS.

    Raises:
        StartError: an endpoint cannot be used; says what it has to be.
    """
    rest, grpc = str(own.parameters[REST]), str(own.parameters.get(GRPC, ""))
    try:
        url, other = urlsplit(rest), urlsplit(f"//{grpc}")
        if url.scheme == "http" and url.hostname and url.port and other.hostname and other.port:
            said = telling.write(image=own.image, predictor=own.predictor, parameters=parameters)
            address = f"{_reachable(other.hostname)}:{other.port}"
            return Target(_reachable(url.hostname), url.port, address, said)
    except ValueError:
        pass
    raise StartError(
        f"The parameters {REST} and {GRPC} are {rest!r} and {grpc!r}; they have to be like "
        "'http://0.0.0.0:2001' and '0.0.0.0:2000'.",
        code=ExitCode.SETTINGS,
    )


def _reachable(host: str) -> str:
    return _HERE if host == _ANY else host
