import base64
import json
import shlex
import ssl
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlops_pipeline.clients import api_server
from mlops_pipeline.clients.api_server import Limits
from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    InvalidManifestError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    GATEWAY,
    NAMESPACE,
    Access,
    Kubernetes,
    Resource,
    parse_all,
    resource_of,
)
from mlops_pipeline.platforms.kubernetes.layers.istio import tls
from mlops_pipeline_tests.clients.connect_proxy import connect_proxy
from mlops_pipeline_tests.clients.stub_api_server import StubApiServer, stub_api_server

MAPS = "/api/v1/namespaces/n/configmaps"
POD = "/api/v1/namespaces/n/pods/p"
CONFIG: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "n"},
    "data": {"x": "1"},
}


@pytest.fixture
def server() -> Iterator[StubApiServer]:
    with stub_api_server() as made:
        yield made


@pytest.fixture
def api(server: StubApiServer, tmp_path: Path) -> Kubernetes:
    return _client(tmp_path, server.url)


def _client(
    tmp_path: Path,
    url: str,
    *,
    user: dict[str, Any] | None = None,
    authority: str = "",
    proxy: str = "",
    timeout: float = 5,
    login_timeout: float = 20,
) -> Kubernetes:
    path = tmp_path / "kubeconfig"
    more = {"certificate-authority-data": _encoded(authority)} if authority else {}
    if proxy:
        more["proxy-url"] = proxy
    content = {
        "current-context": "somebody-elses",
        "contexts": [
            {"name": "somebody-elses", "context": {"cluster": "b", "user": "b"}},
            {"name": "kind-a", "context": {"cluster": "a", "user": "a"}},
        ],
        "clusters": [
            {"name": "b", "cluster": {"server": "http://127.0.0.1:1"}},
            {"name": "a", "cluster": {"server": url, **more}},
        ],
        "users": [{"name": "b", "user": {}}, {"name": "a", "user": user or {"token": "secret"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return Kubernetes(path, context="kind-a", timeout=timeout, login_timeout=login_timeout)


# Requests


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _client_pair() -> tuple[str, str]:
    """Return a certificate by which a client is known, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    now = tls.utc_now()
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return (
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(serialization.Encoding.PEM, form, plain).decode(),
    )


def test_keys_that_the_kubeconfig_holds_stay_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed leaves none behind."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    theirs, (certificate, key) = tls.make("127.0.0.1", now=tls.utc_now()), _client_pair()
    (tmp_path / "pair.pem").write_text(theirs.chain + theirs.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "pair.pem")
    user = {"client-certificate-data": _encoded(certificate), "client-key-data": _encoded(key)}
    with stub_api_server(context) as server:
        server.on("GET /version", (200, {"gitVersion": "v1.34.4"}))
        for _ in range(2):
            api = _client(tmp_path, server.url, user=user, authority=theirs.chain)
            assert api.version() == "v1.34.4"
            assert list(folder.iterdir()) == []
        stranger = _client(tmp_path, server.url, user=user, authority=certificate)
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.version()
        unknown = _client(tmp_path, server.url, authority=theirs.chain)
        with pytest.raises(UnavailableError):
            unknown.version()


def test_its_own_context_is_asked_whatever_the_environment_says(
    server: StubApiServer, api: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", "/somebody-elses")
    server.on("GET /version", (200, {"gitVersion": "v1.34.4"}))
    assert api.version() == "v1.34.4"
    assert server.asked[0].headers["authorization"] == "Bearer secret"


def test_the_proxy_that_the_kubeconfig_names_is_gone_through(
    server: StubApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    proxy = server.url.replace("://", "://me:secret@")
    api = _client(tmp_path, "http://cluster.example.com:6443", proxy=proxy)
    server.on("GET /version", (200, {"gitVersion": "v1.34.4"}))
    assert api.version() == "v1.34.4"
    (asked,) = server.asked
    assert asked.headers["host"] == "cluster.example.com:6443"
    assert asked.headers["proxy-authorization"] == f"Basic {_encoded('me:secret')}"
    silent = _client(tmp_path, "http://cluster.example.com", proxy="http://me:secret@127.0.0.1:1")
    with pytest.raises(UnavailableError) as error:
        silent.version()
    assert "proxy" in str(error.value).lower()
    assert "secret" not in str(error.value)


def test_a_proxy_sees_nothing_of_what_goes_by_tls(tmp_path: Path) -> None:
    theirs = tls.make("127.0.0.1", now=tls.utc_now())
    (tmp_path / "pair.pem").write_text(theirs.chain + theirs.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pair.pem")
    with stub_api_server(context) as server, connect_proxy() as proxy:
        server.on("GET /version", (200, {"gitVersion": "v1.34.4"}))
        api = _client(tmp_path, server.url, authority=theirs.chain, proxy=proxy.url)
        assert api.version() == "v1.34.4"
        assert proxy.asked == [f"CONNECT {server.url.removeprefix('https://')}"]
        stranger = tls.make("127.0.0.1", now=tls.utc_now())
        api = _client(tmp_path, server.url, authority=stranger.chain, proxy=proxy.url)
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            api.version()


def test_an_object_is_applied_by_the_server_with_our_field_manager(
    server: StubApiServer, api: Kubernetes
) -> None:
    server.on(f"PATCH {MAPS}/a", (201, CONFIG))
    assert api.apply(CONFIG).action == "created"
    asked = server.asked[-1]
    assert asked.query == {"fieldManager": "mlops-pipeline", "force": "true"}
    assert asked.headers["content-type"] == "application/apply-patch+yaml"
    assert json.loads(asked.body) == CONFIG
    api.apply(CONFIG, dry_run=True)
    assert server.asked[-1].query["dryRun"] == "All"


@pytest.mark.parametrize("there", ["somebody", ""])
def test_what_is_applied_is_labelled_unless_somebody_has_before(
    server: StubApiServer, tmp_path: Path, there: str
) -> None:
    api = _client(tmp_path, server.url)
    labelled = Kubernetes(tmp_path / "kubeconfig", context="kind-a", labels={"owner": "me"})
    assert (api.labels, labelled.labels) == ({}, {"owner": "me"})
    labels = {"owner": there} if there else None
    before = {**CONFIG, "metadata": {**CONFIG["metadata"], "labels": labels}}
    server.on(f"GET {MAPS}/a", (200, before))
    server.on(f"PATCH {MAPS}/a", (200, before))
    labelled.apply(CONFIG)
    sent = json.loads(server.asked[-1].body)
    assert sent["metadata"]["labels"] == {"owner": there or "me"}
    assert sent["data"] == CONFIG["data"]


def test_fields_of_the_server_and_controllers_do_not_count_as_a_change(
    server: StubApiServer, api: Kubernetes
) -> None:
    def seen(version: str, **spec: object) -> tuple[int, Any]:
        metadata = {
            **CONFIG["metadata"],
            "resourceVersion": version,
            "generation": int(version),
            "managedFields": [version],
        }
        return 200, {**CONFIG, "metadata": metadata, "status": {"seen": version}, **spec}

    server.on(f"GET {MAPS}/a", seen("1"))
    server.on(f"PATCH {MAPS}/a", seen("2"), seen("3", data={"x": "2"}))
    assert api.apply(CONFIG).action == "unchanged"
    assert api.apply(CONFIG).action == "updated"


def test_where_a_kind_is_served_is_asked_once(server: StubApiServer, api: Kubernetes) -> None:
    server.on(f"GET {MAPS}/a", (200, CONFIG))
    for _ in range(3):
        api.get(CONFIG_MAP, "a", namespace="n")
    assert server.paths().count("GET /api/v1") == 1


def test_an_unknown_kind_is_requested_again(server: StubApiServer, api: Kubernetes) -> None:
    root = "/apis/networking.istio.io/v1"
    assert api.find(GATEWAY, "a", namespace="n") is None
    with pytest.raises(NotFoundError, match=r"knows no Gateway \(networking.istio.io/v1\)"):
        api.get(GATEWAY, "a", namespace="n")
    kind = {"name": "gateways", "kind": "Gateway", "namespaced": True}
    server.on(f"GET {root}", (200, {"resources": [kind]}))
    server.on(f"GET {root}/namespaces/n/gateways/a", (200, {"kind": "Gateway"}))
    assert api.get(GATEWAY, "a", namespace="n") == {"kind": "Gateway"}


def test_kinds_in_namespaces_come_each_in_the_version_that_is_preferred(
    server: StubApiServer, api: Kubernetes
) -> None:
    def entry(kind: str, *, namespaced: bool = True, verbs: tuple[str, ...] = ("list",)) -> Any:
        name = f"{kind.lower()}s"
        return {"name": name, "kind": kind, "namespaced": namespaced, "verbs": verbs}

    versions = [{"groupVersion": f"shop.example.com/{v}"} for v in ("v1", "v2", "v3")]
    group = {"preferredVersion": versions[1], "versions": versions}
    server.on("GET /apis", (200, {"groups": [group]}))
    core = [entry("Pod"), entry("Node", namespaced=False), entry("Binding", verbs=("create",))]
    core += [{**entry("Pod"), "name": "pods/log"}]
    server.on("GET /api/v1", (200, {"resources": core}))
    server.on("GET /apis/shop.example.com/v1", (200, {"resources": [entry("Cart"), entry("Old")]}))
    server.on("GET /apis/shop.example.com/v2", (200, {"resources": [entry("Cart")]}))
    assert [str(kind) for kind in api.kinds()] == [
        "Pod (v1)",
        "Cart (shop.example.com/v2)",
        "Old (shop.example.com/v1)",
    ]


def test_a_long_list_comes_in_pages(server: StubApiServer, api: Kubernetes) -> None:
    first = {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "more"}}
    last = {"items": [{"metadata": {"name": "b"}}], "metadata": {}}
    server.on("GET /api/v1/configmaps", (200, first), (200, last))
    found = api.list(CONFIG_MAP, labels="of=x")
    assert [item["metadata"]["name"] for item in found] == ["a", "b"]
    assert [asked.query.get("continue") for asked in server.asked[-2:]] == [None, "more"]
    assert [asked.query["labelSelector"] for asked in server.asked[-2:]] == ["of=x", "of=x"]


def test_a_list_of_metadata_requests_only_metadata(server: StubApiServer, api: Kubernetes) -> None:
    nothing: dict[str, Any] = {"kind": "PartialObjectMetadataList", "items": None, "metadata": {}}
    server.on("GET /api/v1/configmaps", (200, nothing))
    assert list(api.list(CONFIG_MAP, metadata_only=True)) == []
    assert "as=PartialObjectMetadataList" in server.asked[-1].headers["accept"]


def test_a_kind_that_went_away_has_no_objects(server: StubApiServer, api: Kubernetes) -> None:
    server.on("GET /api/v1/configmaps", (200, {"items": [], "metadata": {}}), (404, "not found"))
    assert [list(api.list(CONFIG_MAP)) for _ in range(2)] == [[], []]


def test_objects_of_the_cluster_are_not_looked_for_in_a_namespace(
    server: StubApiServer, api: Kubernetes
) -> None:
    api.find(NAMESPACE, "n", namespace="ignored")
    assert server.paths()[-1] == "GET /api/v1/namespaces/n"


# Refusals


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (400, "the request is malformed", InvalidManifestError),
        (401, "Unauthorized", AccessDeniedError),
        (403, 'configmaps "a" is forbidden: User "x" cannot patch', AccessDeniedError),
        (403, "unable to create new content because it is being terminated", UnavailableError),
        (403, 'admission webhook "v" denied the request: traffic must sum', InvalidManifestError),
        (404, 'namespaces "n" not found', NotFoundError),
        (409, "the object has been modified", ConflictError),
        (422, 'ConfigMap "a" is invalid: data', InvalidManifestError),
        (429, "too many requests", UnavailableError),
        (500, 'Internal error occurred: failed calling webhook "v": EOF', UnavailableError),
        (500, 'admission webhook "v" denied the request: panic', InvalidManifestError),
        (500, "failed to create typed patch object: expected string", InvalidManifestError),
        (503, "etcdserver: leader changed", UnavailableError),
    ],
)
def test_a_refusal_has_the_servers_message(
    server: StubApiServer,
    api: Kubernetes,
    status: int,
    message: str,
    error: type[PipelineError],
) -> None:
    server.refuse(f"PATCH {MAPS}/a", status, message)
    with pytest.raises(PipelineError) as caught:
        api.apply(CONFIG)
    assert type(caught.value) is error
    assert str(caught.value).startswith("could not apply ConfigMap n/a: ")
    assert message in str(caught.value)


def test_a_lost_connection_is_tried_once_more(server: StubApiServer, api: Kubernetes) -> None:
    server.on("GET /version", (0, ""), (200, {"gitVersion": "v1"}))
    assert api.version() == "v1"
    server.on("GET /version", (0, ""))
    with pytest.raises(UnavailableError, match="could not ask for its version: the cluster kind-a"):
        api.version()
    assert len(server.asked) == 4


def test_a_cluster_that_does_not_answer_is_not_waited_for(
    server: StubApiServer, tmp_path: Path
) -> None:
    server.on("GET /version", (-1, ""))
    with pytest.raises(UnavailableError, match="ReadTimeoutError") as caught:
        _client(tmp_path, server.url, timeout=0.1).version()
    assert caught.value.__cause__ is not None
    assert len(server.asked) == 1


def test_a_cluster_that_is_gone_says_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"does not answer at http://127\.0\.0\.1:1 "):
        _client(tmp_path, "http://127.0.0.1:1").version()


def test_an_answer_of_another_server_is_reported(server: StubApiServer, api: Kubernetes) -> None:
    server.on("GET /version", (200, "<html>"))
    with pytest.raises(UnavailableError, match="'<html>'; is it a Kubernetes API server"):
        api.version()


# Pods


def test_the_log_of_a_container_is_its_last_lines(server: StubApiServer, api: Kubernetes) -> None:
    server.on(f"GET {POD}/log", (200, "one\ntwo\n"))
    seen = api.log("p", namespace="n", container="c", lines=2, previous=True)
    assert seen == "one\ntwo\n"
    assert server.asked[-1].query == {"tailLines": "2", "previous": "true", "container": "c"}


def test_a_container_that_waits_has_no_log(server: StubApiServer, api: Kubernetes) -> None:
    server.refuse(f"GET {POD}/log", 400, 'container "c" is waiting to start: ContainerCreating')
    with pytest.raises(NotFoundError, match="waiting to start"):
        api.log("p", namespace="n")


def test_a_pod_answers_with_its_own_status(server: StubApiServer, api: Kubernetes) -> None:
    server.on(f"GET {POD}:80/proxy/health", (503, "starting"))
    answer = api.ask_pod("p", namespace="n", port=80, path="/health")
    assert (answer.status, answer.body) == (503, b"starting")
    assert answer.headers["content-length"] == "8"


def test_a_pod_that_cannot_be_asked_does_not_answer(server: StubApiServer, api: Kubernetes) -> None:
    server.refuse(f"GET {POD}:80/proxy/", 503, "error trying to reach service: refused")
    with pytest.raises(UnavailableError, match="error trying to reach service"):
        api.ask_pod("p", namespace="n", port=80, path="/")
    server.refuse(f"GET {POD}:80/proxy/", 404, 'pods "p" not found')
    with pytest.raises(NotFoundError, match="not found"):
        api.ask_pod("p", namespace="n", port=80, path="/")


def test_a_pod_gets_headers_and_its_answer_has_limits(
    server: StubApiServer, api: Kubernetes
) -> None:
    path, limits = f"{POD}:80/proxy/metrics", Limits(seconds=0.5, size=10)
    ask = partial(api.ask_pod, "p", namespace="n", port=80, path="/metrics", limits=limits)
    server.on(f"GET {path}", (200, "0123456789"), (200, "0123456789" * 100_000), (200, "again"))
    assert ask(headers={"X-Name": "value"}).body == b"0123456789"
    assert server.asked[-1].headers["x-name"] == "value"
    assert "authorization" in server.asked[-1].headers
    assert ask().body == b"01234567890"
    assert ask().body == b"again"
    server.on(f"GET {path}", (-1, ""))
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="could not ask the pod n/p for /metrics"):
        ask()
    assert time.monotonic() - start < 4


def test_a_kubelet_is_asked_through_the_api_server(server: StubApiServer, api: Kubernetes) -> None:
    server.on("GET /api/v1/nodes/one/proxy/stats/summary", (200, "{}"))
    assert api.ask_node("one", path="/stats/summary?a=true").body == b"{}"
    assert server.asked[-1].query == {"a": "true"}
    server.refuse("GET /api/v1/nodes/two/proxy/healthz", 404, 'nodes "two" not found')
    with pytest.raises(NotFoundError, match="not found"):
        api.ask_node("two", path="/healthz")


# Kubeconfigs


def test_a_token_of_a_program_is_sent(server: StubApiServer, tmp_path: Path) -> None:
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "fetched"},
    }
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", f"print({json.dumps(json.dumps(credential))})"],
        "interactiveMode": "Never",
    }
    server.on("GET /version", (200, {"gitVersion": "v1"}))
    _client(tmp_path, server.url, user={"exec": program}).version()
    assert server.asked[0].headers["authorization"] == "Bearer fetched"


def _program(code: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", code, "--client-secret=SECRET"],
        **more,
    }


def _prints(**status: Any) -> str:
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": status,
    }
    return f"print({json.dumps(json.dumps(credential))})"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import time; print('SECRET', flush=True); time.sleep(25)",
            "was killed after its timeout of 1 s",
        ),
        ("import sys; print('SECRET'); sys.exit('the session has run out')", "the session has run"),
        ("print('SECRET')", "to print an ExecCredential"),
        (_prints(), "to print an ExecCredential"),
    ],
)
def test_a_login_that_fails_or_hangs_says_so_and_shows_no_secret(
    tmp_path: Path, code: str, said: str
) -> None:
    api = _client(tmp_path, "http://127.0.0.1:1", user={"exec": _program(code)}, login_timeout=1)
    with pytest.raises(AccessDeniedError, match=said) as caught:
        api.version()
    assert "could not log in to http://127.0.0.1:1 by `python" in str(caught.value)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_a_login_by_a_program_that_is_missing_says_how_to_get_it(tmp_path: Path) -> None:
    program = _program("", command="no-such-login", installHint="install it by hand")
    with pytest.raises(AccessDeniedError, match=r"`no-such-login` was not found; install it by"):
        _client(tmp_path, "http://127.0.0.1:1", user={"exec": program}).version()
    program = _program("", interactiveMode="Always")
    with pytest.raises(AccessDeniedError, match="it requires a terminal"):
        _client(tmp_path, "http://127.0.0.1:1", user={"exec": program}).version()


def test_a_login_that_runs_out_is_done_again_and_one_that_lasts_is_not(
    server: StubApiServer, tmp_path: Path
) -> None:
    server.on("GET /version", (200, {"gitVersion": "v1"}))
    count = tmp_path / "count"
    for until, times in (("2020-01-01T00:00:00.123456789Z", 2), ("2999-01-01T00:00:00Z", 1)):
        count.write_text("")
        code = f"open({str(count)!r}, 'a').write('x'); " + _prints(
            token="t", expirationTimestamp=until
        )
        api = _client(tmp_path, server.url, user={"exec": _program(code)})
        api.version()
        asked = len(count.read_text())
        api.version()
        assert (len(count.read_text()) > asked) == (times == 2)


def _ask_in_threads(api: Kubernetes, *, number: int) -> list[str | AccessDeniedError]:
    """Return what each of the threads, which begin together, gets."""
    begin = threading.Barrier(number)

    def ask(_: int) -> str | AccessDeniedError:
        begin.wait(10)
        try:
            return api.version()
        except AccessDeniedError as error:
            return error

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(ask, range(number)))


def _counting(count: Path, code: str) -> dict[str, Any]:
    """Return a login program that takes a moment, and counts its starts."""
    return _program(f"import time; open({str(count)!r}, 'a').write('x'); time.sleep(0.3); {code}")


def test_one_login_is_for_all_threads(server: StubApiServer, tmp_path: Path) -> None:
    server.on("GET /version", (200, {"gitVersion": "v1"}))
    count = tmp_path / "count"
    api = _client(tmp_path, server.url, user={"exec": _counting(count, _prints(token="t"))})
    assert _ask_in_threads(api, number=4) == ["v1"] * 4
    assert count.read_text() == "x"


def test_a_login_that_fails_does_so_for_all_threads_and_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    program = _counting(count, "import sys; sys.exit('the session has run out')")
    api = _client(tmp_path, "http://127.0.0.1:1", user={"exec": program})
    answers = _ask_in_threads(api, number=4)
    assert all("the session has run out" in str(answer) for answer in answers)
    assert len({str(answer) for answer in answers}) == 1
    assert count.read_text() == "x"
    monkeypatch.setattr(api_server, "_REFUSED", 0)
    with pytest.raises(AccessDeniedError):
        api.require_access()
    assert count.read_text() == "xx"


def test_a_login_program_gets_the_cluster_and_is_found_beside_the_kubeconfig(
    server: StubApiServer, tmp_path: Path
) -> None:
    server.on("GET /version", (200, {"gitVersion": "v1"}))
    (tmp_path / "bin").mkdir()
    code = (
        "import json, os\n"
        "told = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "token = told['spec']['cluster']['server'] + os.environ['ADDED']\n"
        "told.update(status={'token': token})\nprint(json.dumps(told))\n"
    )
    login = tmp_path / "bin" / "login"
    # Python's own path may hold a space, which the first line of a program may not.
    login.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-c', code])}\n")
    login.chmod(0o755)
    added = [{"name": "ADDED", "value": "/a"}]
    program = _program("", command="bin/login", provideClusterInfo=True, env=added)
    _client(tmp_path, server.url, user={"exec": program}).version()
    assert server.asked[0].headers["authorization"] == f"Bearer {server.url}/a"


def test_an_error_about_a_kubeconfig_does_not_show_its_content(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text('users:\n- user:\n    token: "SECRET\n  x: [\n')
    with pytest.raises(
        ConfigurationError, match=r"could not read the kubeconfig .* in line"
    ) as caught:
        Kubernetes(tmp_path / "kubeconfig", context="kind-a").version()
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_a_kubeconfig_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"the kubeconfig .* does not exist"):
        Kubernetes(tmp_path / "none", context="kind-a").version()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("contexts: []", "kind-a in .*contexts list"),
        ("contexts: [{name: kind-a, context: {user: a}}]", "cluster"),
        ("", "contexts"),
    ],
)
def test_a_kubeconfig_without_the_context_says_what_is_wrong(
    tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "kubeconfig").write_text(content)
    with pytest.raises(ConfigurationError, match=f"the context kind-a of .*kubeconfig: .*{reason}"):
        Kubernetes(tmp_path / "kubeconfig", context="kind-a").version()


# Manifests


def test_another_object_of_that_name_is_not_deleted(server: StubApiServer, api: Kubernetes) -> None:
    server.on(f"DELETE {MAPS}/a", (200, CONFIG))
    assert api.delete(CONFIG_MAP, "a", namespace="n", uid="1")
    assert json.loads(server.asked[-1].body)["preconditions"] == {"uid": "1"}
    server.refuse(f"DELETE {MAPS}/a", 409, "Precondition failed: UID in precondition: 1")
    assert not api.delete(CONFIG_MAP, "a", namespace="n", uid="1")
    with pytest.raises(ConflictError):
        api.delete(CONFIG_MAP, "a", namespace="n")


def test_a_file_of_manifests_is_read_without_its_empty_documents() -> None:
    text = "# licence\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n---\n# end\n"
    [found] = parse_all(text)
    assert resource_of(found) == Resource("v1", "A")


@pytest.mark.parametrize(
    "text", ["a: [", "text", "kind: A", "apiVersion: v1\nkind: A\n", "- a\n- b"]
)
def test_an_invalid_manifest_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_all(text)


REVIEWS = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.mark.parametrize("allowed", [True, False])
def test_the_server_is_asked_what_we_may(
    server: StubApiServer, api: Kubernetes, *, allowed: bool
) -> None:
    server.on(REVIEWS, (201, {"status": {"allowed": allowed}}))
    assert api.may(Access("get", "pods/log", namespace="n")) is allowed
    sent = json.loads(server.asked[-1].body)["spec"]["resourceAttributes"]
    assert sent == {
        "verb": "get",
        "group": "",
        "resource": "pods",
        "subresource": "log",
        "namespace": "n",
    }
