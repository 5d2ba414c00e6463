"""HTTP to a Kubernetes API server, with timeouts, and with refusals as this project's errors."""

import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlencode

from mlops_pipeline.clients import kubeconfig, proxies
from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    InvalidManifestError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.login import Login, log_in
from mlops_pipeline.clients.proxies import Proxy
from mlops_pipeline.clients.temporary import temporary_folder

_CONNECT_TIMEOUT = 5.0
_ATTEMPTS = 2
_REFUSED = 10.0
"""Seconds for which a failed login is not tried again: its error is for all who wait for it."""
_SHOWN = 600
"""Maximum number of characters of an answer in an error."""
_REFUSALS = (" denied the request", "failed to create typed patch object")
"""Parts of the answer, with any status, when an object is refused: by an admission webhook, or by
server-side apply because a field is unknown or has the wrong type."""
_ENDING = "because it is being terminated"


@dataclass(frozen=True)
class Limits:
    """What one answer may take; a server behind the API server may be slow or talk too much."""

    seconds: float
    """Maximum time of a connection, and of each step of the answer."""
    size: int
    """Maximum number of bytes that are wanted; one more shows that there are more."""


class ApiServer:
    """The API server of the context `context` in `kubeconfig`.

    `timeout` is the maximum time of an answer in seconds. Nothing is read or contacted before the
    first request; the connection is kept open between requests.
    """

    def __init__(
        self, kubeconfig: Path, *, context: str, timeout: float, login_timeout: float
    ) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._timeout = timeout
        self._login_timeout = login_timeout
        self._made: Any = None
        self._login = Login({})
        self._refusal, self._refused = "", -math.inf
        self._lock = Lock()

    def __str__(self) -> str:
        return f"the cluster {self._context}"

    def json(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        accept: str = "",
        content_type: str = "",
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a request and return the object in the answer.

        `what` finishes the sentence "could not ..." in the error.

        Raises:
            PipelineError: the request is refused or not answered; see `checked`.
        """
        answer = self.send(
            method,
            path,
            what=what,
            query=query,
            accept=accept,
            content_type=content_type,
            body=body,
        )
        try:
            return dict(json.loads(self.checked(answer, what=what).body))
        except ValueError as error:
            raise UnavailableError(
                f"could not {what}: expected a JSON object from {self}, got "
                f"{answer.text[:_SHOWN]!r}; is it a Kubernetes API server?"
            ) from error

    def items(
        self, path: str, *, what: str, query: Mapping[str, str], accept: str
    ) -> list[dict[str, Any]]:
        """Return the objects of a list, which the server returns in parts.

        Raises:
            PipelineError: a request is refused or not answered; see `checked`.
        """
        found: list[dict[str, Any]] = []
        while True:
            page = self.json("GET", path, what=what, query=query, accept=accept)
            found += page["items"] or ()
            if not (more := page["metadata"].get("continue")):
                return found
            query = {**query, "continue": more}

    def send(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        accept: str = "",
        content_type: str = "",
        body: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> HttpAnswer:
        """Send a request and return any answer. Bytes are sent unchanged, a mapping as JSON.

        With `limits`, at most one byte more than their size is read.

        It is retried once if the connection is refused or breaks. This is safe for declarative
        requests.

        Raises:
            UnavailableError: there is no answer.
        """
        from urllib3 import exceptions

        lost = (exceptions.NewConnectionError, exceptions.ProtocolError)
        kind = {"Content-Type": content_type} if body else {}
        sent = {"Accept": accept or "*/*", **kind, **(headers or {})}
        url = f"{self._client.configuration.host}{path}?{urlencode(query or {})}"
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._client.rest_client.pool_manager.request(
                    method,
                    url.removesuffix("?"),
                    headers=self._authorized(sent),
                    body=json.dumps(body) if isinstance(body, Mapping) else body,
                    timeout=self._patience(limits),
                    preload_content=limits is None,
                )
                content = answer.data if limits is None else _read(answer, limits.size)
            except exceptions.HTTPError as error:
                if attempt == _ATTEMPTS or not isinstance(error, lost):
                    raise UnavailableError(
                        f"could not {what}: {self} does not answer at "
                        f"{self._client.configuration.host} ({type(error).__name__}: {error}); "
                        "see `mlops-pipeline status`"
                    ) from error
            else:
                named = {name.lower(): value for name, value in answer.headers.items()}
                return HttpAnswer(answer.status, named, content)
        raise AssertionError

    def checked(self, answer: HttpAnswer, *, what: str) -> HttpAnswer:
        """Return the answer if it is a success.

        Raises:
            InvalidManifestError: a webhook or the server itself refuses the object.
            AccessDeniedError: the credentials are rejected or lack a permission.
            NotFoundError: the object, its namespace or its kind does not exist.
            ConflictError: somebody else changed it at the same time, or it already exists.
            UnavailableError: the server, or a webhook that it calls, is not available.
        """
        if 200 <= answer.status < 300:
            return answer
        raise self._translated(answer.status, described(answer), f"could not {what}")

    def _translated(self, status: int, message: str, what: str) -> PipelineError:
        refused = any(words in message for words in _REFUSALS)
        if refused or status in (400, 413, 422):
            return InvalidManifestError(f"{what}: {message}")
        if status in (401, 403) and _ENDING not in message:
            return AccessDeniedError(
                f"{what}: {self} rejected the credentials in {self._kubeconfig}: {message}; grant "
                "the permission, or renew the credentials"
            )
        if status == 404:
            return NotFoundError(f"{what}: {message}")
        if status == 409:
            return ConflictError(f"{what}: {message}")
        return UnavailableError(f"{what}: {self} answered {status}: {message}")

    def _authorized(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Add the credentials. A token may expire, so it is read at each request."""
        sent = dict(headers)
        self._client.update_params_for_auth(sent, [], ["BearerToken"])
        return sent

    def _patience(self, limits: Limits | None) -> Any:
        from urllib3 import Timeout

        if limits is not None:
            return Timeout(connect=limits.seconds, read=limits.seconds)
        return Timeout(connect=_CONNECT_TIMEOUT, read=self._timeout)

    def require_access(self) -> None:
        """Read the kubeconfig, like the first request, and raise the same errors."""
        _ = self._client

    @property
    def _client(self) -> Any:
        """The client of the package `kubernetes`, created again when a program's login has expired.

        One login is for all threads: those that need it meanwhile wait.

        Raises:
            AccessDeniedError: the login program in the kubeconfig fails.
            NotFoundError: the file does not exist.
            ConfigurationError: it does not contain the context, or is invalid.
        """
        with self._lock:
            if self._made is None or self._login.is_over():
                self._made = self._connected()
            return self._made

    def _connected(self) -> Any:
        """Return a client for any kind of access in the kubeconfig; a login has a timeout."""
        from kubernetes.config import ConfigException

        folder = self._kubeconfig.absolute().parent
        try:
            content = self._logged_in(copy.deepcopy(kubeconfig.read(self._kubeconfig)), folder)
            return _made(content, self._context, folder, proxy=self._proxy_of(content))
        except (
            ConfigException,
            OSError,
            ValueError,
            TypeError,
            AttributeError,
        ) as error:
            raise ConfigurationError(
                f"could not read the context {self._context} of {self._kubeconfig}: "
                f"{type(error).__name__}: {error}; correct the file, or choose a context that it "
                "contains"
            ) from error

    def _entry(self, content: Mapping[str, Any], table: str, name: object) -> Mapping[str, Any]:
        found = dict(kubeconfig.entries(content, table, path=self._kubeconfig))
        return found.get(str(name), {})

    def _proxy_of(self, content: Mapping[str, Any]) -> Proxy | None:
        context = self._entry(content, "contexts", self._context)
        cluster = self._entry(content, "clusters", context.get("cluster"))
        server, named = (str(cluster.get(key) or "") for key in ("server", "proxy-url"))
        return proxies.find(server, named=named)

    def _logged_in(self, content: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """Run the login program of the context's user, and replace it by its result."""
        context = self._entry(content, "contexts", self._context)
        user, cluster = (
            self._entry(content, f"{part}s", context.get(part)) for part in ("user", "cluster")
        )
        if "exec" not in user or user.get("token") or user.get("tokenFile"):
            return content
        if time.monotonic() < self._refused + _REFUSED:
            raise AccessDeniedError(self._refusal)
        try:
            self._login = log_in(
                user["exec"], cluster=cluster, folder=folder, timeout=self._login_timeout
            )
        except AccessDeniedError as error:
            self._refusal, self._refused = str(error), time.monotonic()
            raise
        users = [{"name": str(context.get("user")), "user": self._login.user}]
        return {**content, "users": users}


def _read(answer: Any, size: int) -> bytes:
    """Return the body, or the first `size` + 1 bytes; the connection is free or closed then."""
    content: bytes = answer.read(size + 1)
    if len(content) > size:
        answer.close()
    else:
        answer.release_conn()
    return content


def _made(content: Mapping[str, Any], context: str, folder: Path, *, proxy: Proxy | None) -> Any:
    """Return the package's client for a context of a kubeconfig in `folder`."""
    from kubernetes import client
    from kubernetes.config.kube_config import KubeConfigLoader
    from urllib3 import make_headers

    configuration = client.Configuration()
    with temporary_folder("keys") as keys:
        KubeConfigLoader(
            content, active_context=context, config_base_path=str(folder), temp_file_path=str(keys)
        ).load_and_set(configuration)
        # The package would use a proxy of the environment for every server.
        configuration.proxy, configuration.no_proxy = None, None
        if proxy is not None:
            configuration.proxy = proxy.url
            configuration.proxy_headers = make_headers(proxy_basic_auth=proxy.login or None)
        configuration.retries = False
        made = client.ApiClient(configuration)
        _keep_keys(made.rest_client.pool_manager.connection_pool_kw, written=keys)
    return made


def _keep_keys(options: dict[str, Any], *, written: Path) -> None:
    """Load the keys from the files in `written`, so that these files can be deleted.

    The package writes the keys in a kubeconfig to files until its process ends, and does not delete
    them when it is killed. Files that the kubeconfig names are read at each connection.
    """
    from urllib3.util.ssl_ import create_urllib3_context

    files = [options.get(name) for name in ("ca_certs", "cert_file", "key_file")]
    if not any(path and Path(path).parent == written for path in files):
        return
    authority, certificate, key = files
    context = create_urllib3_context(cert_reqs=options["cert_reqs"])
    if authority:
        context.load_verify_locations(authority)
    else:
        context.load_default_certs()
    if certificate:
        context.load_cert_chain(certificate, key)
    options |= {"ssl_context": context, "ca_certs": None, "cert_file": None, "key_file": None}


def is_status(answer: HttpAnswer) -> bool:
    """Say whether the API server itself answered, with a `Status` object."""
    return _status(answer) is not None


def described(answer: HttpAnswer) -> str:
    """Return the error message of the API server."""
    status = _status(answer)
    text = str(status.get("message", "")) if status else answer.text
    return text.strip()[:_SHOWN] or f"status {answer.status}"


def _status(answer: HttpAnswer) -> Mapping[str, Any] | None:
    try:
        content = json.loads(answer.body)
    except ValueError:
        return None
    return content if isinstance(content, dict) and content.get("kind") == "Status" else None
