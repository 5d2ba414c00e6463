"""A platform in memory on which one version of the toy model serves, and another is released."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from mlops_pipeline.catalog.registry import Catalog, RegisteredModel
from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.cli import releasing
from mlops_pipeline.cli.context import Context
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.deploying import deploy
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases import planned, telling
from mlops_pipeline.delivery.releases.driver import Progress, Releases
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import Expected, Proof
from mlops_pipeline.platforms.seldon import SeldonDeployment
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.delivery.test_deploying import Alone, Gateway, Platform
from mlops_pipeline_tests.fakes.platform import FakeDeployments
from mlops_pipeline_tests.toy import REGISTERED, TOY, published_files

CANARY = ReleaseSpec("canary", steps=(Step(25, answers=100), Step(50, answers=100)))
PLACE = TOY.server.namespace


class _Deployments(FakeDeployments):
    """Whoever has most of the traffic answers through the gateway."""

    def __init__(self, gateway: Gateway, alone: Alone) -> None:
        super().__init__(alone.server)
        self._gateway = gateway

    def apply(
        self,
        deployment: SeldonDeployment,
        *,
        proof: Proof | None = None,
        expected: Expected | None = None,
    ) -> Change:
        shares = deployment.traffic()
        main = max(deployment.spec.predictors, key=lambda p: shares[p.name])
        self._gateway.digest = main.digest
        return super().apply(deployment, proof=proof, expected=expected)


class ReleaseRig:
    """Version `old` serves; `begin` releases `new` beside it. Time passes by `wait` alone."""

    def __init__(self, folder: Path, gateway: Gateway, plan: ReleaseSpec) -> None:
        self.model = RegisteredModel(replace(TOY, release=plan), REGISTERED.source)
        self.platform, self.gateway, self.folder = Platform(gateway), gateway, folder
        self.context = Context(Settings(home=folder / "home"))
        vars(self.context).update(platform=self.platform, catalog=Catalog((self.model,)))
        for layer in self.platform.layers:
            layer.ensure()
        self.time = datetime(2026, 12, 1, tzinfo=UTC)
        self.old, self.new = self.publish("v1"), self.publish("v2")
        self.platform.deployments = _Deployments(gateway, self.platform.alone)
        artifacts = ArtifactStore(self.platform.store)
        deploy(self.model.spec, self.old, platform=self.platform, artifacts=artifacts, by="a test")

    def publish(self, content: str) -> ModelRef:
        manifest, files, evaluation = published_files(self.folder / content, content=content)
        store = ArtifactStore(self.platform.store)
        return store.publish(manifest, files=files, evaluation=evaluation)

    def now(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    @property
    def releases(self) -> Releases:
        return Releases(self.model.spec, self.platform, by="a test", now=self.now)

    def begin(self) -> Progress:
        """Release `new`, and look once, after which answers count."""
        begun = self.releases.begin(self.new)
        self.releases.advance()
        self.wait(60)
        return begun

    def answer(self, number: int, *, failed: int = 0, stable_failed: int = 0) -> None:
        """Let each version answer so many requests, after a minute; some of them failed."""
        self.wait(60)
        found = self.platform.deployments.find(TOY.server.deployment, namespace=PLACE)
        for predictor in found.spec.predictors if found else ():
            bad = failed if predictor.digest == self.new.digest else stable_failed
            self.platform.deployments.count(
                TOY.server.deployment,
                predictor.name,
                answered=number - bad,
                failed=bad,
                namespace=PLACE,
            )

    def served(self) -> dict[str, int]:
        """Return digest → share of the traffic."""
        found = self.platform.deployments.find(TOY.server.deployment, namespace=PLACE)
        assert found is not None
        shares = found.traffic()
        return {p.digest: shares[p.name] for p in found.spec.predictors}


@contextmanager
def release_rig(
    folder: Path, monkeypatch: pytest.MonkeyPatch, plan: ReleaseSpec = CANARY
) -> Iterator[ReleaseRig]:
    """Yield a rig whose commands have its time."""
    gateway = Gateway()
    try:
        rig = ReleaseRig(folder, gateway, plan)
        monkeypatch.setattr(releasing, "Releases", partial(Releases, now=rig.now))
        monkeypatch.setattr(planned, "Releases", partial(Releases, now=rig.now))
        monkeypatch.setattr(telling, "now", lambda: rig.now().timestamp())
        yield rig
    finally:
        gateway.server.shutdown()
        gateway.server.server_close()
