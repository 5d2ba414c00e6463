"""The address of the model's server, and the unit's configuration in each request to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlops_pipeline.serving import unit_header
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.settings import Parameter, ServerSettings

REST, GRPC = "rest_endpoint", "grpc_endpoint"
"""The parameters in which the operator sets the address of the model's server."""
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
    """The header with the unit's configuration."""


def is_forwarder(parameters: Mapping[str, Parameter]) -> bool:
    """Say whether a unit's parameters make its container a forwarder."""
    return REST in parameters


def read_target(own: ServerSettings, parameters: str) -> Target:
    """Return the target of the unit with these settings.

    `parameters` is PREDICTIVE_UNIT_PARAMETERS.

    Raises:
        StartError: an endpoint is invalid; says what is expected.
    """
    rest, grpc = str(own.parameters[REST]), str(own.parameters.get(GRPC, ""))
    try:
        url, other = urlsplit(rest), urlsplit(f"//{grpc}")
        if url.scheme == "http" and url.hostname and url.port and other.hostname and other.port:
            said = unit_header.write(
                image=own.image, predictor=own.predictor, parameters=parameters
            )
            address = f"{_reachable(other.hostname)}:{other.port}"
            return Target(_reachable(url.hostname), url.port, address, said)
    except ValueError:
        pass
    raise StartError(
        f"The parameters {REST} and {GRPC} must have values like 'http://0.0.0.0:2001' and "
        f"'0.0.0.0:2000', got {rest!r} and {grpc!r}.",
        code=ExitCode.SETTINGS,
    )


def _reachable(host: str) -> str:
    return _HERE if host == _ANY else host
