"""HTTP requests to layers and deployments, with a timeout and without a proxy.

They are made by urllib3, which the clients of S3 and Kubernetes load anyway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import UnavailableError

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True)
class HttpAnswer:
    """The answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; invalid UTF-8 is replaced."""
        return self.body.decode(errors="replace")


class HttpClient:
    """Sends requests and keeps connections open. For several threads, as a context manager."""

    def __init__(self, *, timeout: float, trust: str = "", connections: int = 1) -> None:
        """`timeout` is in seconds and bounds each step; `connections` stay open to each server.

        `trust` is PEM of the certificates that an `https` address may present; empty: those that
        this machine trusts.
        """
        from urllib3 import PoolManager

        self._pools = PoolManager(
            timeout=timeout,
            retries=False,
            maxsize=connections,
            ssl_context=trusting(trust) if trust else None,
        )

    def __enter__(self) -> "HttpClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pools.clear()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HttpAnswer:
        """Send a request and return the answer with any status; redirects are not followed.

        Raises:
            UnavailableError: there is no answer; `<kind>: <reason>`.
        """
        from urllib3.exceptions import HTTPError

        try:
            answer = self._pools.urlopen(
                method, url, body=body, headers=dict(headers or {}), redirect=False
            )
        except (HTTPError, OSError, ValueError) as error:
            reason = str(error) or "no answer in time"
            raise UnavailableError(f"{type(error).__name__}: {reason}") from error
        named = {name.lower(): value for name, value in answer.headers.items()}
        return HttpAnswer(answer.status, named, answer.data)


def get(
    url: str, *, timeout: float, trust: str = "", headers: Mapping[str, str] | None = None
) -> HttpAnswer:
    """GET `url` and return the answer with any status; redirects are not followed.

    `timeout` is in seconds and bounds each step; `trust` is PEM of the certificates that an
    `https` address may present; empty: those that this machine trusts.

    Raises:
        UnavailableError: there is no answer; says why.
    """
    return _send("GET", url, timeout=timeout, trust=trust, headers=headers)


def post_json(
    url: str, body: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
) -> HttpAnswer:
    """POST JSON to `url`, with further `headers`, and return the answer with any status.

    Raises:
        UnavailableError: there is no answer; says why.
    """
    headers = {"Content-Type": "application/json", **(headers or {})}
    return _send("POST", url, timeout=timeout, headers=headers, body=body)


def probe(url: str, *, timeout: float = 2.0) -> HttpAnswer | str:
    """GET `url` and return the answer with any status, or why there is none."""
    try:
        with HttpClient(timeout=timeout) as client:
            return client.send("GET", url)
    except UnavailableError as error:
        return f"{url}: {error}"


def _send(
    method: str,
    url: str,
    *,
    timeout: float,
    trust: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> HttpAnswer:
    try:
        with HttpClient(timeout=timeout, trust=trust) as client:
            return client.send(method, url, headers=headers, body=body)
    except UnavailableError as error:
        raise UnavailableError(f"could not reach {url}: {error}") from error


def certificate_at(address: str, port: int, *, timeout: float) -> str:
    """Return the certificate (PEM) that a TLS server presents without a host name.

    Raises:
        UnavailableError: there is no answer, or not with TLS.
    """
    import ssl

    try:
        return ssl.get_server_certificate((address, port), timeout=timeout)
    except OSError as error:
        raise UnavailableError(
            f"could not read the certificate of {address}:{port}: {type(error).__name__}: {error}"
        ) from error


def trusting(certificates: str) -> "ssl.SSLContext":
    """Return a TLS context that trusts only these certificates (PEM)."""
    import ssl

    context = ssl.create_default_context(cadata=certificates)
    # A directly trusted certificate does not need a self-signed root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
