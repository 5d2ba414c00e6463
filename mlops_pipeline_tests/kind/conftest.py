"""One cluster with everything on it, for all tests that need one; gone afterwards."""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mlops_pipeline import catalog
from mlops_pipeline.catalog.registry import load_catalog
from mlops_pipeline.clients.kubernetes import KubernetesApi
from mlops_pipeline.delivery.artifacts import artifact_store
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.training import TrainingOrder, ensure_trained, merge_hyperparameters
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.settings import Settings
from mlops_pipeline.settings.kind import ClusterSettings, KindSettings
from mlops_pipeline.settings.signing import SigningSettings
from mlops_pipeline_tests.command_line import WINE, CommandLine, free_ports

MINUTES = 15
_SHARED = pytest.StashKey["KindCommandLine"]()
"""The shared cluster, while it is up."""
_BROKEN = pytest.StashKey[str]()
"""Why it could not be mended."""
_FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bringing a cluster up counts as part of the first test that needs it."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(60 * MINUTES))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let no test wait for what a broken cluster cannot give any more."""
    needs = "command_line" in getattr(item, "fixturenames", ())
    if needs and (reason := item.session.stash.get(_BROKEN, "")):
        pytest.fail(f"the shared cluster could not be mended: {reason}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Mend after a test that failed what the next one starts from: without it all would fail."""
    report, session = (yield), item.session
    failed = item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    if failed and call.when == "teardown" and _SHARED in session.stash:
        item.config.hook.pytest_timeout_cancel_timer(item=item)
        try:
            _mend(session.stash[_SHARED])
        except (AssertionError, subprocess.TimeoutExpired) as error:
            session.stash[_BROKEN] = str(error)
            del session.stash[_SHARED]
    return report


def _mend(shared: "KindCommandLine") -> None:
    try:
        shared.run("up", timeout=60 * MINUTES)
    except AssertionError:
        shared.run("up", code=3, timeout=60 * MINUTES)  # But for a check that blocks nothing.


@dataclass(frozen=True)
class KindCommandLine(CommandLine):
    """The installed command on the platform `kind`."""

    cluster: str
    bundle: Path | None
    reach: str = "auto"

    def environment(self, **variables: str) -> dict[str, str]:
        ours = {
            "MLOPS_PLATFORM": "kind",
            "MLOPS_KIND__CLUSTER__NAME": self.cluster,
            "MLOPS_KIND__CLUSTER__HTTP_PORT": str(self.ports[0]),
            "MLOPS_KIND__CLUSTER__HTTPS_PORT": str(self.ports[1]),
            "MLOPS_KIND__CLUSTER__REACH": self.reach,
            "MLOPS_KIND__CLUSTER__GATEWAY_PORT": str(self.ports[3]),
            "MLOPS_KIND__CLUSTER__GATEWAY_HTTPS_PORT": str(self.ports[4]),
            "MLOPS_KIND__CLUSTER__OBJECT_STORE_PORT": str(self.ports[5]),
            "MLOPS_DATASETS__MNIST": str(self.mnist),
        }
        if self.bundle is not None:
            ours["MLOPS_BUNDLE"] = str(self.bundle)
        return super().environment(**ours | variables)

    @property
    def mnist(self) -> Path:
        """The images that MNIST is trained with."""
        return self.directory / "mnist.npz"

    @property
    def by_ports(self) -> "KindCommandLine":
        """The same, with Services reached by ports of this machine, as on macOS."""
        return replace(self, reach="ports")

    @property
    def settings(self) -> Settings:
        """The settings that the command reads."""
        names = ("http", "https", None, "gateway", "gateway_https", "object_store")
        ports = {f"{n}_port": p for n, p in zip(names, self.ports, strict=True) if n}
        cluster = ClusterSettings.model_validate(
            {"name": self.cluster, "reach": self.reach, **ports}
        )
        return Settings(
            home=self.home,
            platform="kind",
            bundle=self.bundle,
            kind=KindSettings(cluster=cluster),
        )


@pytest.fixture(scope="session")
def bundle() -> Path | None:
    """The folder that MLOPS_BUNDLE names; None: programs from PATH, images are pulled."""
    named = os.environ.get("MLOPS_BUNDLE")
    return Path(named).absolute() if named else None


@pytest.fixture(scope="session")
def command_line(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bundle: Path | None
) -> Iterator[KindCommandLine]:
    """A cluster of its own with iris, mnist and wine answering. Its path has a space."""
    if shutil.which("docker") is None:
        pytest.fail("these tests need Docker: install and start it")
    directory = tmp_path_factory.mktemp("kind cycle")
    (directory / "mlops.toml").write_text(f'models = ["{WINE}"]\n')
    name = f"mlops-test-{os.getpid()}"
    made = KindCommandLine(directory / "state folder", directory, free_ports(6), name, bundle)
    _write_few_images(made.mnist)
    try:
        # With ports that only one test uses.
        made.by_ports.run("up", "cluster", timeout=60 * MINUTES)
        made.run("up", timeout=60 * MINUTES)
        request.session.stash[_SHARED] = made
        yield made
    finally:
        with suppress(KeyError):
            del request.session.stash[_SHARED]
        made.run("down", "--purge", "--yes")


def _write_few_images(file: Path) -> None:
    """Write a sixth of MNIST, with rows of the training as hold-out: it is trained in seconds.

    Its accuracy says nothing. With all of MNIST the model is trained on the embedded platform.
    """
    with np.load(Path(catalog.__file__).parent / "data" / "mnist.npz") as mnist:
        x, y = mnist["x_train"][:10_000], mnist["y_train"][:10_000]
    np.savez(file, x_train=x, y_train=y, x_test=x[:1000], y_test=y[:1000])


def platform_of(command_line: KindCommandLine) -> KindPlatform:
    """Return the platform of a command as another process finds it, without signatures."""
    return KindPlatform(
        command_line.home / "kind", command_line.settings.kind, bundle=command_line.bundle
    )


def signing_platform_of(command_line: KindCommandLine) -> KindPlatform:
    """Return the platform of a command with its keys, as its commands build it."""
    return KindPlatform(
        command_line.home / "kind",
        command_line.settings.kind,
        bundle=command_line.bundle,
        signing=Signing(command_line.home, SigningSettings()),
    )


@pytest.fixture
def platform(command_line: KindCommandLine) -> KindPlatform:
    """The platform that is up."""
    return platform_of(command_line)


@pytest.fixture
def parts(command_line: KindCommandLine) -> KindParts:
    """The ways to the cluster that is up."""
    return KindParts.make(
        command_line.home / "kind", command_line.settings.kind, bundle=command_line.bundle
    )


@pytest.fixture
def cluster_api(parts: KindParts) -> KubernetesApi:
    """The API server of the cluster that is up."""
    return parts.api()


@pytest.fixture(scope="session")
def refs(command_line: KindCommandLine) -> dict[str, list[ModelRef]]:
    """The artifacts of the platform that is up, and a second one of iris."""
    platform = signing_platform_of(command_line)
    datasets, artifacts = DatasetStore(platform.object_store()), artifact_store(platform)
    iris = next(model for model in load_catalog((), datasets={}).models if model.name == "iris")
    snapshot = datasets.ensure(iris, file=None)
    changed = merge_hyperparameters(iris.spec, {"C": 0.9})
    ensure_trained(
        TrainingOrder(iris, snapshot.ref, changed),
        datasets=datasets,
        artifacts=artifacts,
        run_id="tests",
        force=False,
    )
    return {name: [a.ref for a in artifacts.list(name)] for name in ("iris", "mnist")}
