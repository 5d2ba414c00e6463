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
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": ".local"}, SERVER, Proxy(PROXY, left_out=".local")),
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


def test_the_one_that_is_named_comes_first_and_is_for_every_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")
    monkeypatch.setenv("NO_PROXY", "*")
    for server in (SERVER, "https://127.0.0.1:6443"):
        assert proxies.find(server, named="http://[::1]:3128") == Proxy("http://[::1]:3128")


def test_a_password_is_taken_out_of_the_address_and_not_shown() -> None:
    found = proxies.find(SERVER, named="https://me:s%40cret@proxy.example.com")
    assert found is not None
    assert (found.url, found.login) == ("https://proxy.example.com", "me:s@cret")
    assert "cret" not in repr(found)


@pytest.mark.parametrize(
    "address", ["socks5://me:secret@127.0.0.1:1080", "http://", "http://me:secret@proxy:port"]
)
def test_what_is_no_http_proxy_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(ConfigurationError, match="the proxy-url in the kubeconfig") as error:
        proxies.find(SERVER, named=address)
    assert "secret" not in str(error.value)
