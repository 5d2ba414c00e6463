"""Who may use the Dagster UI: whoever has the instance's token. As Jupyter does it.

Whoever reaches Dagster's webserver runs code as the user who started it: it launches runs with any
configuration. Loopback alone keeps out neither other users of the machine nor web pages that the
user's browser opens.
"""

import hashlib
import hmac
import html
import ipaddress
import re
import secrets
from collections.abc import Collection
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

PARAMETER = "token"
_COOKIE = "mlops-ui"
_NEEDED = (
    "This Dagster UI requires a token. Open the address that `mlops-pipeline ui` printed; it ends "
    "with ?token=… . Run `mlops-pipeline ui` to print the address again.\n"
)
_WRONG = "The token is wrong. Run `mlops-pipeline ui` to print the correct address.\n"
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'",
    "X-Frame-Options": "DENY",
}


def secret_path(token: str) -> str:
    """Return the path below which the UI is, such as `/0f…` with 32 hexadecimal digits."""
    return "/" + hmac.new(token.encode(), b"path", hashlib.sha256).hexdigest()[:32]


class TokenGate:
    """ASGI middleware that lets HTTP requests and websockets in that show the token.

    A browser shows it once, in the address, and gets a cookie for it. A program sends it as
    `Authorization: Bearer TOKEN`. Everything else is answered 401. A name in `Host` that is not
    ours (DNS rebinding) and an `Origin` other than the page's own (another site, or another port
    of this machine) are answered 403.

    Browsers send a cookie to every port of a host (RFC 6265, 8.5), so to other users of this
    machine, but only below the path that it is for: the UI has one that nobody can guess.
    """

    def __init__(self, app: ASGIApp, *, token: str, names: Collection[str]) -> None:
        """`app` answers below `secret_path(token)`; `names` are ours in `Host`."""
        self._app = app
        self._token = token
        self._names = {name.lower() for name in names} | {"localhost"}
        self._path = secret_path(token)
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for the application, or let it answer."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answer = self._answer(HTTPConnection(scope))
        if answer is None:
            await self._app({**scope, "path": self._below(scope["path"])}, receive, send)
        elif scope["type"] == "http":
            await answer(scope, receive, send)
        else:
            await _refuse_websocket(answer, scope, receive, send)

    def _answer(self, connection: HTTPConnection) -> Response | None:
        """Return what to answer instead of the application, or None where it may answer."""
        if reason := self._describe_stranger(connection):
            return PlainTextResponse(reason, 403, _HEADERS)
        shown = connection.query_params.get(PARAMETER)
        if shown is not None and connection.scope["type"] == "http":
            if not _equal(shown, self._token):
                return PlainTextResponse(_WRONG, 401, _HEADERS)
            return self._let_in(connection)
        bearer = connection.headers.get("authorization", "").removeprefix("Bearer ")
        cookie = connection.cookies.get(_COOKIE, "")
        if _equal(bearer, self._token) or _equal(cookie, self._session):
            return None
        return PlainTextResponse(_NEEDED, 401, _HEADERS)

    def _describe_stranger(self, connection: HTTPConnection) -> str | None:
        host = connection.headers.get("host", "")
        name = _name_in(host)
        if name not in self._names and not _is_address(name):
            return (
                f"{name or 'An empty Host header'} does not name this server. Use its IP address, "
                "`localhost`, or the name that you passed to `mlops-pipeline ui --host`.\n"
            )
        origin = connection.headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return f"This Dagster UI refuses requests from pages of {origin[:200]}.\n"
        return None

    def _let_in(self, connection: HTTPConnection) -> Response:
        """Give the cookie, and a page that goes on to the address without the token.

        A redirect would not do: browsers that come from another site follow it without a cookie
        that is `SameSite=Strict`.
        """
        rest = [(k, v) for k, v in parse_qsl(connection.url.query) if k != PARAMETER]
        path = quote(self._below(connection.scope["path"]))
        target = html.escape(path + (f"?{urlencode(rest)}" if rest else ""), quote=True)
        page = (
            f'<!doctype html><meta http-equiv="refresh" content="0;url={target}">'
            f'<title>Dagster</title><a href="{target}">Dagster UI</a>'
        )
        answer = HTMLResponse(page, 200, _HEADERS)
        answer.set_cookie(_COOKIE, self._session, httponly=True, samesite="strict", path=self._path)
        return answer

    def _below(self, path: str) -> str:
        """Return where `app` has what is asked for by `path`, with the secret path or without."""
        return path if f"{path}/".startswith(f"{self._path}/") else self._path + path


def _equal(shown: str, expected: str) -> bool:
    return hmac.compare_digest(shown.encode(), expected.encode())


def _name_in(host: str) -> str:
    """Return the name in a `Host` header, without port and brackets, in lower case."""
    return re.sub(r":\d+$", "", host).strip("[]").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse_websocket(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if "websocket.http.response" in scope.get("extensions", {}):
        await answer(scope, receive, send)  # Starlette sends it as the handshake's answer.
        return
    await receive()
    await send({"type": "websocket.close", "code": 1008})
