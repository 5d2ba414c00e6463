"""The whole graph of the toy model, on a platform in memory whose gateway is a real HTTP server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from mlops_pipeline.catalog.registry import Catalog, RegisteredModel
from mlops_pipeline.definitions import make_definitions
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import Expected, Proof
from mlops_pipeline.platforms.seldon import SeldonDeployment
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.delivery.test_deploying import Alone, Gateway, Platform
from mlops_pipeline_tests.fakes.platform import FakeDeployments
from mlops_pipeline_tests.toy import REGISTERED

_MADE: dict[str, Platform] = {}
ALL = ("object_store", "gateway", "toy/dataset", "toy/model", "toy/deployment", "toy/predictions")


class _Resource(PlatformResource):
    def build(self) -> Platform:
        return _MADE[self.platform]


class _Deployments(FakeDeployments):
    """What has most of the traffic answers, at once and always."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(Alone().server)
        self.gateway = gateway

    def apply(
        self,
        deployment: SeldonDeployment,
        *,
        proof: Proof | None = None,
        expected: Expected | None = None,
    ) -> Change:
        shares = deployment.traffic()
        served = [p for p in deployment.spec.predictors if not p.shadow]
        self.gateway.digest = max(served, key=lambda p: shares[p.name]).digest
        return super().apply(deployment, proof=proof, expected=expected)


class WholeGraph:
    """Materializes assets as a run does, and reads what the UI shows of them."""

    def __init__(
        self, platform: Platform, gateway: Gateway, folder: Path, instance: dg.DagsterInstance
    ) -> None:
        self.platform, self.instance, self._folder = platform, instance, folder
        self.gateway = gateway
        self.resource = _Resource(platform=str(folder), settings={})
        self.use(REGISTERED)

    def use(self, model: RegisteredModel) -> None:
        """Go on with another version of the model's code."""
        self.definitions = make_definitions(
            self.resource,
            catalog=Catalog((model,)),
            settings=Settings(home=self._folder, models=(), datasets={}),
        )

    def materialize(self, names: Sequence[str] = ALL, **config: Any) -> dg.ExecuteInProcessResult:
        """Materialize assets (`toy/model`) with their checks in one run, failed or not."""
        return self.definitions.resolve_job_def("everything").execute_in_process(
            instance=self.instance,
            asset_selection=[self.key(name) for name in names],
            run_config={"ops": {f"fake__{k}": {"config": v} for k, v in config.items()}},
            raise_on_error=False,
        )

    @staticmethod
    def key(name: str) -> dg.AssetKey:
        """Return the key of `toy/model`."""
        return dg.AssetKey(["fake", *name.split("/")])

    def metadata(self, name: str) -> dict[str, Any]:
        """Return key → value of the metadata of the asset's latest materialization."""
        event = self.instance.get_latest_materialization_event(self.key(name))
        assert event is not None
        assert event.asset_materialization is not None
        return dict(event.asset_materialization.metadata)

    def stale(self) -> set[str]:
        """Return what the UI calls Unsynced: it asks the same resolver by GraphQL."""
        graph = self.definitions.resolve_asset_graph()
        resolver = CachingStaleStatusResolver(
            self.instance, graph, LoadingContextForTest(self.instance)
        )
        return {
            "/".join(key.path[1:])
            for key in graph.get_all_asset_keys()
            if resolver.get_status(key) == StaleStatus.STALE
        }


@contextmanager
def whole_graph(folder: Path) -> Iterator[WholeGraph]:
    """Yield the graph on a new platform and a new instance."""
    gateway = Gateway()
    platform = Platform(gateway)
    platform.deployments = _Deployments(gateway)
    rows = np.arange(20, dtype=float).reshape(10, 2)[:, 0]
    platform.serving_environment.scores = [[float(v < 10), float(v >= 10)] for v in rows]
    _MADE[str(folder)] = platform
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            yield WholeGraph(platform, gateway, folder, instance)
    finally:
        gateway.server.shutdown()
        gateway.server.server_close()
        del _MADE[str(folder)]
