from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import GATEWAY, SECRET
from mlops_pipeline.platforms.kubernetes.layers.istio import tls
from mlops_pipeline.platforms.kubernetes.layers.istio.layer import Istio
from mlops_pipeline.platforms.layers import Broken, Drifted, Ready
from mlops_pipeline_tests.platforms.kubernetes.charts import HelmRig, load_balancer
from mlops_pipeline_tests.platforms.kubernetes.layers.istio.test_layer import (
    ADDRESS,
    BRINGS,
    INGRESS,
    SYSTEM,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelmRig:
    """A cluster with our Istio, whose port 443 shows what its Secret holds."""
    made = HelmRig.make(tmp_path, BRINGS)

    def get(url: str, *, timeout: float, trust: str = "") -> HttpAnswer:
        if made.api.find(GATEWAY, "seldon-gateway", namespace=SYSTEM) is None:
            raise UnavailableError(f"could not reach {url}: ConnectError: Connection refused")
        return HttpAnswer(404, {}, b"")

    monkeypatch.setattr(http, "get", get)
    monkeypatch.setattr(http, "certificate_at", lambda address, port, timeout: chain(made))
    Istio(made.parts).ensure()
    made.helm.upgrades.clear()
    return made


@pytest.fixture
def secured(rig: HelmRig) -> HelmRig:
    """The same with a certificate of our own."""
    rig.set(istio={"tls": "self-signed"})
    Istio(rig.parts).ensure()
    return rig


def chain(rig: HelmRig) -> str:
    return tls.chain_in(rig.api.get(SECRET, tls.SECRET, namespace=SYSTEM))


def write(folder: Path, pair: tls.KeyPair) -> dict[str, object]:
    """Write a certificate and its key, and return the settings that name them."""
    certificate, key = folder / "chain.pem", folder / "key.pem"
    certificate.write_text(pair.chain)
    key.write_text(pair.key)
    return {"tls": "files", "certificate": certificate, "private_key": key}


def make_at(when: datetime, *, address: str = ADDRESS) -> tls.KeyPair:
    return tls.make(address, now=when)


def test_asking_for_tls_is_a_difference_and_opens_port_443(rig: HelmRig) -> None:
    rig.set(istio={"tls": "self-signed"})
    assert isinstance(Istio(rig.parts).observe(), Drifted)
    change = Istio(rig.parts).ensure()
    assert change.action == "updated"
    assert rig.installed() == []
    gateway = rig.api.get(GATEWAY, "seldon-gateway", namespace=SYSTEM)
    assert gateway["spec"]["servers"][1]["tls"] == {
        "mode": "SIMPLE",
        "credentialName": "seldon-gateway-tls",
    }
    assert change.facts["address"] == f"http://{ADDRESS}"
    assert isinstance(Istio(rig.parts).observe(), Ready)


def test_its_key_is_in_the_secret_alone(secured: HelmRig) -> None:
    secret = secured.api.get(SECRET, tls.SECRET, namespace=SYSTEM)
    assert secret["type"] == "kubernetes.io/tls"
    (file,) = secured.rig.home.glob("*.crt")
    assert file.read_text() == chain(secured)
    assert "PRIVATE" not in file.read_text()
    assert "PRIVATE" not in repr(Istio(secured.parts).observe())
    assert "PRIVATE" not in repr(make_at(NOW))


def test_its_certificate_is_kept_while_it_is_good(secured: HelmRig) -> None:
    before = chain(secured)
    secured.api.drop(GATEWAY, "seldon-gateway", namespace=SYSTEM)
    Istio(secured.parts).ensure()
    assert chain(secured) == before


def test_a_secret_that_is_being_deleted_counts_as_lost_and_is_waited_for(secured: HelmRig) -> None:
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    secured.api.patch(SECRET, tls.SECRET, {"metadata": metadata}, namespace=SYSTEM)
    shown = f"the Secret {SYSTEM}/{tls.SECRET}"
    assert Istio(secured.parts).observe() == Broken(f"{shown} of port 443 is missing")
    with pytest.raises(WaitTimeoutError, match=f"the deletion of {shown}"):
        Istio(secured.parts).ensure()


def test_a_certificate_is_renewed_a_month_before_its_end(secured: HelmRig) -> None:
    old = make_at(tls.utc_now() - timedelta(days=340))
    secured.api.put(old.manifest(SYSTEM))
    state = Istio(secured.parts).observe()
    assert isinstance(state, Drifted)
    assert state.differences[0].startswith("the certificate of port 443 ends on ")
    assert Istio(secured.parts).ensure().action == "updated"
    assert tls.end_of(chain(secured)) > tls.utc_now() + timedelta(days=360)


def test_a_new_address_needs_a_new_certificate(secured: HelmRig) -> None:
    secured.api.put(load_balancer(INGRESS, SYSTEM, address="172.18.9.9"))
    assert Istio(secured.parts).observe() == Drifted(
        ("the certificate of port 443 is not for 172.18.9.9",)
    )
    Istio(secured.parts).ensure()
    assert tls.names(chain(secured), "172.18.9.9")


def test_a_lost_secret_breaks_it_and_is_made_again(secured: HelmRig) -> None:
    secured.api.drop(SECRET, tls.SECRET, namespace=SYSTEM)
    assert Istio(secured.parts).observe() == Broken(
        "the Secret istio-system/seldon-gateway-tls of port 443 is missing"
    )
    assert Istio(secured.parts).ensure().action == "repaired"


@pytest.mark.parametrize("entry", ["tls.crt", "tls.key"])
def test_a_damaged_secret_is_a_difference_and_is_made_again(secured: HelmRig, entry: str) -> None:
    secured.api.patch(SECRET, tls.SECRET, {"data": {entry: "eA=="}}, namespace=SYSTEM)
    assert Istio(secured.parts).observe() == Drifted(
        ("the Secret seldon-gateway-tls does not contain a certificate and its key",)
    )
    assert Istio(secured.parts).ensure().action == "updated"
    assert isinstance(Istio(secured.parts).observe(), Ready)


def test_a_certificate_that_is_not_valid_yet_is_made_again(secured: HelmRig) -> None:
    early = make_at(tls.utc_now() + timedelta(days=1))
    secured.api.put(early.manifest(SYSTEM))
    assert Istio(secured.parts).observe() == Drifted(
        ("the certificate of port 443 is not valid yet: a clock was wrong when it was created",)
    )
    assert Istio(secured.parts).ensure().action == "updated"
    assert chain(secured) != early.chain


def test_a_secret_of_somebody_else_is_left_alone(rig: HelmRig) -> None:
    foreign = make_at(NOW).manifest(SYSTEM)
    foreign["metadata"]["labels"] = {}
    rig.api.put(foreign)
    rig.set(istio={"tls": "self-signed"})
    with pytest.raises(ConflictError, match=r"set kind\.istio\.tls to off"):
        Istio(rig.parts).ensure()
    rig.set()
    Istio(rig.parts).remove()
    assert rig.api.find(SECRET, tls.SECRET, namespace=SYSTEM) is not None


def test_turning_it_off_closes_the_port_and_forgets_the_key(secured: HelmRig) -> None:
    secured.set()
    Istio(secured.parts).ensure()
    assert secured.api.find(SECRET, tls.SECRET, namespace=SYSTEM) is None
    assert not list(secured.rig.home.glob("*.crt"))
    assert Istio(secured.parts).trust() == ""


def test_with_the_redirect_its_url_is_https_and_clients_get_what_to_trust(rig: HelmRig) -> None:
    rig.set(istio={"tls": "self-signed", "https_redirect": True})
    assert Istio(rig.parts).ensure().facts["address"] == f"https://{ADDRESS}"
    assert Istio(rig.parts).url() == f"https://{ADDRESS}"
    assert Istio(rig.parts).trust() == chain(rig)
    gateway = rig.api.get(GATEWAY, "seldon-gateway", namespace=SYSTEM)
    assert gateway["spec"]["servers"][0]["tls"] == {"httpsRedirect": True}


def test_a_certificate_of_files_is_used_and_followed(rig: HelmRig, tmp_path: Path) -> None:
    pair = make_at(tls.utc_now(), address="models.example")
    rig.set(istio=write(tmp_path, pair))
    assert Istio(rig.parts).ensure().action == "updated"
    assert chain(rig) == pair.chain
    write(tmp_path, make_at(tls.utc_now(), address="models.example"))
    assert Istio(rig.parts).observe() == Drifted(
        ("the certificate of port 443 differs from the one in the files",)
    )
    assert Istio(rig.parts).ensure().action == "updated"
    assert isinstance(Istio(rig.parts).observe(), Ready)


def test_a_redirect_needs_a_certificate_for_the_address(rig: HelmRig, tmp_path: Path) -> None:
    files = write(tmp_path, make_at(tls.utc_now(), address="models.example"))
    rig.set(istio={**files, "https_redirect": True})
    with pytest.raises(ConfigurationError, match=f"is not for {ADDRESS}"):
        Istio(rig.parts).ensure()


@pytest.mark.parametrize(
    ("harmed", "content", "reason"),
    [
        ("chain.pem", "no certificate", "it does not contain a certificate"),
        ("key.pem", "no key", "it does not contain a key"),
        ("key.pem", make_at(NOW).key, "it is not the key of"),
        ("chain.pem", None, "No such file"),
    ],
)
def test_wrong_files_are_refused_before_anything_is_done(
    rig: HelmRig, tmp_path: Path, harmed: str, content: str | None, reason: str
) -> None:
    rig.set(istio=write(tmp_path, make_at(NOW)))
    (tmp_path / harmed).unlink()
    if content is not None:
        (tmp_path / harmed).write_text(content)
    applied = len(rig.api.applied)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Istio(rig.parts).ensure()
    assert "set kind.istio.tls to self-signed" in str(caught.value)
    assert len(rig.api.applied) == applied


def test_files_that_become_unreadable_break_it(rig: HelmRig, tmp_path: Path) -> None:
    rig.set(istio=write(tmp_path, make_at(tls.utc_now())))
    Istio(rig.parts).ensure()
    (tmp_path / "key.pem").write_bytes(b"\xff\xfe")
    state = Istio(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "it is not text" in state.reason


def test_the_check_compares_what_the_port_shows(
    secured: HelmRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = next(c for c in Istio(secured.parts).checks if c.name == "shows_its_certificate")
    finding = check.run()
    assert finding.passed
    assert f"{ADDRESS}:443 presents our certificate" in finding.seen
    other = make_at(NOW).chain
    monkeypatch.setattr(http, "certificate_at", lambda address, port, timeout: other)
    finding = check.run()
    assert not finding.passed
    assert "presents another certificate" in finding.seen

    def refuse(address: str, port: int, timeout: float) -> str:
        raise UnavailableError("Connection refused")

    monkeypatch.setattr(http, "certificate_at", refuse)
    assert check.run().seen == "Connection refused"


def test_a_certificate_without_names_is_for_nobody() -> None:
    assert not tls.names(make_at(NOW).chain, "models.example")
    assert tls.names(make_at(NOW, address="fd00::1").chain, "fd00:0::1")
