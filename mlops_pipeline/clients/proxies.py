"""The proxy that leads to an API server, by the rules that kubectl and helm go by."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

from mlops_pipeline.clients.errors import ConfigurationError


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy."""

    url: str
    """Without a password."""
    login: str = ""
    """`name:password`; empty where it asks for none."""
    left_out: str = ""
    """Hosts that are reached without it, as NO_PROXY has them."""

    def __repr__(self) -> str:
        return f"Proxy({self.url!r})"


def find(server: str, *, named: str) -> Proxy | None:
    """Return the proxy to `server`, a URL: the one that is `named`, else the environment's.

    As Go's `http.ProxyFromEnvironment` has it, by which kubectl and helm go, this machine itself is
    reached without the environment's. The `proxy-url` of a kubeconfig is for every server.

    Raises:
        ConfigurationError: it is no HTTP proxy. No password is shown.
    """
    if named:
        return _parsed(named, of="the proxy-url in the kubeconfig")
    parts, environment = urlsplit(server), getproxies_environment()
    chosen = environment.get(parts.scheme, "")
    if not chosen or _is_here(parts.hostname or ""):
        return None
    proxy = _parsed(chosen, of=f"{parts.scheme.upper()}_PROXY")
    return Proxy(proxy.url, proxy.login, environment.get("no", ""))


def _parsed(text: str, *, of: str) -> Proxy:
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host = None, None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(
            f"{of} names no proxy that can be used: it must be http://HOST:PORT or https://…, and "
            f"it is a {parts.scheme or 'bare'} address; name another, or leave the server out with "
            "NO_PROXY"
        )
    shown = f"[{host}]" if ":" in host else host
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return Proxy(f"{parts.scheme}://{shown}{f':{port}' if port else ''}", login)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
