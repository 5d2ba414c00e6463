"""The embedded platform: real processes on this machine, on 127.0.0.1 alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.platforms.embedded.assembly import assemble, make_parts, trust_file
from mlops_pipeline.platforms.embedded.deployments import EmbeddedDeployments
from mlops_pipeline.platforms.embedded.environment import LocalServingEnvironment
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.preflight import examine
from mlops_pipeline.platforms.embedded.stack import Stack
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.layers import Diagnosis, Layer
from mlops_pipeline.platforms.platform import deployments_called
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.platforms.store_access import SECRET

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import ObjectStore


class EmbeddedPlatform:
    """supervisord, SeaweedFS, Envoy and model servers, with everything they know in `home`."""

    name = "embedded"
    gateway = "gateway"
    deploys_on: tuple[str, ...] = ("gateway",)
    reads_elsewhere = False
    verifies_when_loading = True
    store_id = ""

    def __init__(
        self,
        home: Path,
        settings: EmbeddedOptions | None = None,
        *,
        bundle: Path | None = None,
        mirror: str = "",
        signing: Signing | None = None,
    ) -> None:
        """Nothing is contacted. `bundle` and `mirror` are where `sources` come from.

        Without `signing`, artifacts are neither signed nor verified.
        """
        self.signing = signing or Signing.off()
        self._state = EmbeddedFolder.at(home)
        self._parts = make_parts(
            self._state, settings or EmbeddedOptions(), bundle=bundle, mirror=mirror
        )
        self._stack = Stack(self._parts)
        self._environment = LocalServingEnvironment(temporary=self._state.run)
        self._deployments = assemble(
            self._parts,
            gateway=self._stack.gateway,
            object_store=self._stack.store,
            fingerprint=self._environment.fingerprint,
            signing=self.signing,
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The supervisor and the layers on it, each after those that it requires."""
        return (self._parts.supervisor, *self._stack.layers)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of everything that its layers download; most programs come as packages."""
        return self._stack.sources

    @property
    def deployments(self) -> EmbeddedDeployments:
        """The SeldonDeployments whose servers run here."""
        return self._deployments

    @property
    def serving_environment(self) -> LocalServingEnvironment:
        """This Python environment, in a process of its own."""
        return self._environment

    def pass_keys(self) -> str:
        """Write which signatures count, where servers read it when they start."""
        if not self._state.is_prepared():
            return "servers get the keys with `mlops-pipeline up`"
        if not self.signing.write_for_servers(trust_file(self._state)):
            return "signatures are off, so servers verify none"
        return "servers that start again use the current keys; servers that run keep running"

    def log_in(self) -> None:
        """Do nothing: everything is on this machine."""

    def provide(self) -> None:
        """Ensure that everything that its layers download is on this machine. Changes no layer.

        Raises:
            PipelineError: something is not available, or does not match its digest.
        """
        if self.sources:
            self._parts.sources().require(self.sources)

    def preflight(self) -> list[Diagnosis]:
        """Look at the programs and the preferred ports."""
        return list(examine(self._stack.layers))

    def gateway_url(self) -> str:
        """Return `http://127.0.0.1:<port>`.

        Raises:
            NotFoundError: the gateway layer is absent.
        """
        return self._stack.gateway.url()

    def gateway_trust(self) -> str:
        """Return nothing: the gateway speaks plain HTTP."""
        return ""

    def object_store(self) -> "ObjectStore":
        """Return a client of SeaweedFS's S3 interface.

        Raises:
            NotFoundError: the object store layer is absent.
        """
        return self._stack.store.client()

    def object_store_secret(self) -> str:
        """Return the name of the Secret that servers read artifacts with."""
        return SECRET

    def memory_of(self, layer: str) -> int | None:
        """Return None: the processes are not asked."""
        return None

    def logs(self, name: str, *, lines: int) -> str:
        """Return the last `lines` of a layer's log, or of each server of a deployment.

        A deployment is named `<name>` or `<namespace>/<name>`.

        Raises:
            NotFoundError: nothing of that name; says which there are.
        """
        if name in (layer.name for layer in self.layers):
            return self._parts.supervisor.log(name, lines=lines)
        found = deployments_called(name, self)
        logs = [self._deployments.logs(d.name, namespace=d.namespace, lines=lines) for d in found]
        return "\n".join(logs)

    def down(self) -> tuple[str, ...]:
        """Stop every process. Data, deployments and settings stay for the next `up`.

        Raises:
            UnavailableError: a process cannot be ended; names it.
        """
        self._parts.supervisor.remove()
        if self._state.is_prepared():
            for layer in self._stack.layers:
                layer.tidy()
        return (f"stopped; artifacts and deployments stay in {self._state.home}",)

    def purge(self) -> tuple[str, ...]:
        """Stop every process and remove the state folder with all data.

        Raises:
            ConflictError: the folder is not one that this project made.
        """
        self.down()
        self._state.purge()
        return (f"stopped, and removed {self._state.home}",)
