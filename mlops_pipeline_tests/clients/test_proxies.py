import traceback

import pytest

from mlops_pipeline.clients import proxies
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.proxies import Proxy

SERVER = "https://cluster.example.com:6443"
PROXY = "http://proxy.example.com:3128"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("variables", "server", "expected"),
    [
        ({}, SERVER, None),
        ({"HTTPS_PROXY": PROXY}, SERVER, Proxy(PROXY)),
        ({"https_proxy": PROXY}, SERVER, Proxy(PROXY)),
        ({"HTTPS_PROXY": "proxy.example.com:3128"}, SERVER, Proxy(PROXY)),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://other:1"}, SERVER, Proxy(PROXY)),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": ".local"}, SERVER, Proxy(PROXY)),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "a, .example.com"}, SERVER, None),
        ({"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}, SERVER, None),
        ({"HTTP_PROXY": PROXY}, "http://cluster.example.com", Proxy(PROXY)),
        ({"HTTPS_PROXY": PROXY}, "https://127.0.0.1:6443", None),
        ({"HTTPS_PROXY": PROXY}, "https://[::1]:6443", None),
        ({"HTTPS_PROXY": PROXY}, "https://localhost:6443", None),
    ],
)
def test_the_environments_is_for_other_machines(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    server: str,
    expected: Proxy | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxies.find(server, named="") == expected


@pytest.mark.parametrize(
    ("left_out", "host", "expected"),
    [
        ("*", "a.example.com", True),
        ("b,*", "a.example.com", True),
        ("example.com", "example.com", True),
        ("EXAMPLE.com", "a.example.com", True),
        ("example.com", "another-example.com", False),
        (".example.com", "a.example.com", True),
        (".example.com", "example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "example.com", False),
        ("example.com:6443", "a.example.com", True),
        ("example.com:443", "a.example.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "a.example.com", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:6443", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", False),
        ("fd00::/8", "[fd00::1]", True),
        ("fd00::1", "[fd00::1]", True),
        ("[fd00::1]:6443", "[fd00::1]", True),
        ("fe80::1", "[fd00::1]", False),
        (", ,:6443,.", "a.example.com", False),
    ],
)
def test_exceptions_follow_gos_rules(
    monkeypatch: pytest.MonkeyPatch,
    left_out: str,
    host: str,
    expected: bool,  # noqa: FBT001  # a parameter of pytest
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", left_out)
    assert (proxies.find(f"https://{host}:6443", named="") is None) is expected


def test_the_one_that_is_named_comes_first_and_is_for_every_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")
    monkeypatch.setenv("NO_PROXY", "*")
    for server in (SERVER, "https://127.0.0.1:6443"):
        assert proxies.find(server, named="http://[::1]:3128") == Proxy("http://[::1]:3128")


def test_a_password_is_removed_from_the_address_and_not_shown() -> None:
    found = proxies.find(SERVER, named="https://me:s%40cret@proxy.example.com")
    assert found is not None
    assert (found.url, found.login) == ("https://proxy.example.com", "me:s@cret")
    assert "cret" not in repr(found)


@pytest.mark.parametrize(
    "address",
    [
        "socks5://me:secret@127.0.0.1:1080",
        "http://",
        "http://me:secret@proxy:port",
        "http://me:secret\u2100@proxy:3128",
        "http://me:secret@[proxy:3128",
    ],
)
def test_a_proxy_that_is_not_http_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(ConfigurationError, match="the proxy-url in the kubeconfig") as error:
        proxies.find(SERVER, named=address)
    assert "secret" not in "".join(traceback.format_exception(error.value))
