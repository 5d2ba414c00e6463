"""Single HTTP requests to layers, with a timeout and without a proxy."""

from collections.abc import Mapping
from dataclasses import dataclass
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


def _send(
    method: str,
    url: str,
    *,
    timeout: float,
    trust: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> HttpAnswer:
    import httpx

    try:
        # Reading the machine's certificates takes longer than an answer over plain HTTP.
        verify = trusting(trust) if trust else url.startswith("https:")
        answer = httpx.request(
            method,
            url,
            timeout=timeout,
            trust_env=False,
            verify=verify,
            headers=headers,
            content=body,
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        reason = str(error) or "no answer in time"
        raise UnavailableError(
            f"could not reach {url}: {type(error).__name__}: {reason}"
        ) from error
    return HttpAnswer(answer.status_code, dict(answer.headers), answer.content)


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
