"""Deploying against a gateway that answers whatever the test says: a real HTTP server."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import ConflictError, FatalStateError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.deploying import deploy, deployed_ref, seldon_deployment
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import VerdictLog
from mlops_pipeline.delivery.verification import ask_holdout
from mlops_pipeline.platforms.kubernetes.layers.istio import tls
from mlops_pipeline.platforms.seldon import Predictor
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY, published_files


class Gateway:
    """Answers predictions as the toy model does, `skew` off and `failures` times not at all."""

    def __init__(self) -> None:
        self.digest = ""
        self.skew = 0.0
        self.failures = 0
        self.others: list[str] = []
        """Digests of other versions, with other scores, that answer the next requests."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps(outer.answer(request)).encode()
                outer.failures, failed = max(0, outer.failures - 1), outer.failures > 0
                self.send_response(503 if failed else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"x" * len(body) if failed else body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def encrypt(self, file: Path) -> str:
        """Speak TLS from now on, and return the certificate."""
        pair = tls.make("127.0.0.1", now=tls.utc_now())
        file.write_text(pair.chain + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        return pair.chain

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.others:
            return toy_answer(request, digest=self.others.pop(), skew=0.3)
        return toy_answer(request, digest=self.digest, skew=self.skew)


class Alone:
    """Servers without traffic. Each answers with the digest of its predictor, `skew` off."""

    def __init__(self) -> None:
        self.skew = 0.0
        self.digest: str | None = None
        self.asked: list[str] = []

    def server(self, predictor: Predictor) -> Predictions:
        digest = predictor.digest if self.digest is None else self.digest

        def post(body: bytes) -> HttpAnswer:
            self.asked.append(predictor.digest)
            answer = toy_answer(json.loads(body), digest=digest, skew=self.skew)
            return HttpAnswer(200, {}, json.dumps(answer).encode())

        return Predictions(f"the server of {predictor.name}", post)


def toy_answer(request: dict[str, Any], *, digest: str, skew: float) -> dict[str, Any]:
    rows = request["data"]["ndarray"]
    scores = [[float(r[0] < 10) + skew, float(r[0] >= 10)] for r in rows]
    return {"data": {"ndarray": scores}, "meta": {"tags": {"model_digest": digest}}}


class Platform(FakePlatform):
    """A fake platform whose gateway is real."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway_server = gateway.server
        self.trust = ""
        self.meanwhile: Callable[[], object] | None = None
        self.alone = Alone()
        self.deployments.server = self.alone.server

    def gateway_url(self) -> str:
        scheme = "https" if self.trust else "http"
        return f"{scheme}://127.0.0.1:{self.gateway_server.server_port}"

    def gateway_trust(self) -> str:
        if self.meanwhile is not None:
            self.meanwhile()
        return self.trust


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def platform(gateway: Gateway) -> Platform:
    return Platform(gateway)


def _publish(platform: Platform, folder: Path, content: str) -> ModelRef:
    manifest, files, evaluation = published_files(folder, content=content)
    return ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)


def test_a_deployment_is_ready_when_its_digest_answers(
    platform: Platform, gateway: Gateway, tmp_path: Path
) -> None:
    ref = _publish(platform, tmp_path, "v1")
    gateway.digest, gateway.failures = ref.digest, 2

    deployment, change = deploy(
        TOY, ref, platform=platform, artifacts=ArtifactStore(platform.store)
    )

    assert change.action == "created"
    assert deployment.url == f"{platform.gateway_url()}/seldon/seldon/toy-model"
    assert deployed_ref(TOY, platform) == ref
    assert gateway.failures == 0


def test_a_gateway_with_a_certificate_of_its_own_is_trusted_as_the_platform_says(
    platform: Platform, gateway: Gateway, tmp_path: Path
) -> None:
    platform.trust = gateway.encrypt(tmp_path / "pair.pem")
    artifacts = ArtifactStore(platform.store)
    ref = _publish(platform, tmp_path, "v1")
    gateway.digest = ref.digest
    deployment, _ = deploy(TOY, ref, platform=platform, artifacts=artifacts)
    assert deployment.url.startswith("https://")
    holdout = artifacts.holdout(ref)
    assert ask_holdout(TOY, deployment, holdout, trust=platform.trust).failures == ()
    assert "CERTIFICATE_VERIFY_FAILED" in ask_holdout(TOY, deployment, holdout).failures[0]


def test_a_model_says_what_its_servers_are_given() -> None:
    ref = ModelRef("toy", "s3://models/toy/one", "one")
    asked = replace(TOY, server=replace(TOY.server, cpu="2", memory_limit="4Gi"))
    (predictor,) = seldon_deployment(asked, ref, secret="keys").spec.predictors
    assert predictor.annotations == {
        "mlops-pipeline/artifact-digest": "one",
        "mlops-pipeline/predictor": "default",
        "mlops-pipeline/cpu": "2",
        "mlops-pipeline/memory-limit": "4Gi",
    }


def test_other_scores_restore_what_was_deployed(
    platform: Platform, gateway: Gateway, tmp_path: Path
) -> None:
    artifacts = ArtifactStore(platform.store)
    good, bad = (_publish(platform, tmp_path / v, v) for v in ("good", "bad"))
    gateway.digest = good.digest
    deploy(TOY, good, platform=platform, artifacts=artifacts)
    gateway.digest, gateway.skew = bad.digest, 0.5

    with pytest.raises(FatalStateError, match=r"scores differ .* by up to 0\.5"):
        deploy(TOY, bad, platform=platform, artifacts=artifacts)

    assert deployed_ref(TOY, platform) == good


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"skew": 0.5}, r"the server of default answers with the correct digest, but its scores"),
        ({"digest": "other"}, r"the server of default serves the artifact other instead of "),
        ({"digest": ""}, r"serves the artifact without a digest instead of"),
    ],
)
def test_a_server_that_is_not_proved_alone_gets_no_traffic(
    platform: Platform,
    gateway: Gateway,
    tmp_path: Path,
    fault: Mapping[str, Any],
    message: str,
) -> None:
    artifacts = ArtifactStore(platform.store)
    good, bad = (_publish(platform, tmp_path / v, v) for v in ("good", "bad"))
    gateway.digest = good.digest
    deploy(TOY, good, platform=platform, artifacts=artifacts)
    for name, value in fault.items():
        setattr(platform.alone, name, value)

    with pytest.raises(FatalStateError, match=message):
        deploy(TOY, bad, platform=platform, artifacts=artifacts)

    assert platform.alone.asked == [good.digest, bad.digest]
    assert deployed_ref(TOY, platform) == good
    served = VerdictLog(platform.store).standings("toy", place=place_for(TOY, platform))
    assert bad.digest not in served


def test_what_was_deployed_meanwhile_stays(
    platform: Platform, gateway: Gateway, tmp_path: Path
) -> None:
    artifacts = ArtifactStore(platform.store)
    first, second, bad = (_publish(platform, tmp_path / v, v) for v in ("1", "2", "bad"))
    gateway.digest = first.digest
    deploy(TOY, first, platform=platform, artifacts=artifacts)

    rolled_back = seldon_deployment(TOY, second, secret=platform.object_store_secret())
    platform.meanwhile = lambda: platform.deployments.apply(rolled_back)
    with pytest.raises(ConflictError, match="toy-model: somebody else changed it in the meantime"):
        deploy(TOY, bad, platform=platform, artifacts=artifacts)
    assert deployed_ref(TOY, platform) == second
    assert bad.digest not in platform.alone.asked


def test_what_was_pinned_meanwhile_stays(
    platform: Platform, gateway: Gateway, tmp_path: Path
) -> None:
    artifacts = ArtifactStore(platform.store)
    pinned, new = (_publish(platform, tmp_path / v, v) for v in ("1", "2"))
    gateway.digest = pinned.digest
    deploy(TOY, pinned, platform=platform, artifacts=artifacts, by="somebody", is_pinned=True)
    gateway.digest = new.digest
    with pytest.raises(ConflictError, match="was pinned by somebody in the meantime"):
        deploy(TOY, new, platform=platform, artifacts=artifacts)
    assert deployed_ref(TOY, platform) == pinned
    deploy(TOY, new, platform=platform, artifacts=artifacts, ends_pin=True)
    assert deployed_ref(TOY, platform) == new


def test_the_holdout_set_is_judged_as_it_was_answered(
    platform: Platform, gateway: Gateway, tmp_path: Path
) -> None:
    artifacts = ArtifactStore(platform.store)
    ref = _publish(platform, tmp_path, "v1")
    gateway.digest = ref.digest
    deployment, _ = deploy(TOY, ref, platform=platform, artifacts=artifacts)

    fine = ask_holdout(TOY, deployment, artifacts.holdout(ref))
    assert (fine.quality["accuracy"].value, fine.max_difference, fine.failures) == (1.0, 0.0, ())
    assert (fine.rows, fine.wrong_digests) == (10, 0)
    assert fine.p50_ms is not None

    gateway.digest, gateway.failures = "other", 1
    broken = ask_holdout(TOY, deployment, artifacts.holdout(ref))
    assert len(broken.failures) == 1
    assert "answered 503" in broken.failures[0]
    assert broken.wrong_digests == broken.requests - 1
    assert broken.rows == 0
    assert broken.quality["accuracy"].value == 0  # A row that was not answered is wrong.


def test_the_other_version_of_a_release_may_answer_and_its_scores_are_not_compared(
    platform: Platform, gateway: Gateway, tmp_path: Path
) -> None:
    artifacts = ArtifactStore(platform.store)
    ref = _publish(platform, tmp_path, "v1")
    gateway.digest = ref.digest
    deployment, _ = deploy(TOY, ref, platform=platform, artifacts=artifacts)
    holdout = artifacts.holdout(ref)

    gateway.others = ["candidate"] * 5
    shared = ask_holdout(TOY, deployment, holdout, beside=["candidate"])
    assert (shared.answers_of_other_version, shared.wrong_digests) == (5, 0)
    assert (shared.rows, shared.max_difference, shared.failures) == (10, 0.0, ())
    assert shared.requests == ask_holdout(TOY, deployment, holdout).requests + 5

    gateway.others = ["candidate", "stranger"]
    strange = ask_holdout(TOY, deployment, holdout, beside=["candidate"])
    assert (strange.answers_of_other_version, strange.wrong_digests) == (1, 1)

    gateway.others = ["candidate"] * 10_000
    alone = ask_holdout(TOY, deployment, holdout, beside=["candidate"])
    assert (alone.rows, alone.max_difference, alone.quality) == (0, None, {})
    assert alone.p50_ms is None
    assert alone.failures == ("only the other version of the release answered",)
