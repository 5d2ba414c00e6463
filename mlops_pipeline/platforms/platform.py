"""What delivery asks of a platform, whichever it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from mlops_pipeline.clients.errors import ConflictError, UnknownNameError
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.platforms.layers import Change, Diagnosis, Layer
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment, is_same_request
from mlops_pipeline.platforms.signing import Signing

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Objects


@dataclass(frozen=True)
class PredictorStatus:
    """One predictor of a deployment as it is really there now."""

    name: str
    digest: str
    """The artifact digest that its servers answer with; empty while none answers."""
    traffic: int
    """Percent of the requests that the gateway routes to it."""
    replicas: int
    """Model servers that are ready."""
    state: Literal["ready", "starting", "failed", "stopped", "edited", "unsupervised"]
    """`edited`: it may serve, and somebody changed by hand what was applied. `unsupervised`: it
    serves, and nothing restarts it when it fails."""
    reason: str = ""
    """Why it is not ready, in one sentence; empty when it is."""


@dataclass(frozen=True)
class ServerCounts:
    """What one server has counted since its start. It counts from zero when it starts again."""

    server: str
    """Program (embedded) or pod."""
    started: float
    """Start of its process, seconds since 1970."""
    answered: int
    """Predictions of clients over all protocols, REST and gRPC. Refused ones (4xx), those whose
    client went before the answer, and REST requests that ask not to be logged do not count."""
    failed: int
    """Those of clients that failed (5xx)."""
    slower: Mapping[str, int]
    """Limit of the servers' histogram in seconds, as text → answers that took longer. Empty until
    the model is loaded."""


@dataclass(frozen=True)
class PredictorCounts:
    """What the servers of one predictor have counted."""

    predictor: str
    """By its name in the manifest."""
    servers: tuple[ServerCounts, ...]
    """Those that answer and count: other people's images, such as Seldon's own, have none of these
    metrics."""
    lost: int | None = None
    """Requests that got no answer, as the gateway counts; None where it does not tell."""


class Proof(Protocol):
    """What must hold before a version gets traffic, and once it has it."""

    def alone(self, predictor: Predictor, server: Predictions) -> None:
        """Ask one server that gets no traffic yet.

        Raises:
            PipelineError: it does not answer, or not as it should.
        """

    def exposed(self) -> None:
        """Ask through the gateway, which routes to the new version now.

        Raises:
            PipelineError: something else answers, or nothing.
        """


@dataclass(frozen=True)
class Expected:
    """What a deployment was when somebody decided to change it."""

    deployment: SeldonDeployment | None
    """What `find` returned."""

    def require(self, found: SeldonDeployment | None, *, name: str) -> None:
        """Refuse to go on where somebody else has changed it since.

        Raises:
            ConflictError: it is another one now.
        """
        if not is_same_request(found, self.deployment):
            raise ConflictError(
                f"could not apply {name}: somebody else changed it in the meantime, and that "
                "change stays. Run the command again to decide on its new state"
            )


class Deployments(Protocol):
    """The SeldonDeployments of a platform."""

    def apply(
        self,
        deployment: SeldonDeployment,
        *,
        proof: Proof | None = None,
        expected: Expected | None = None,
    ) -> Change:
        """Make the deployment true: servers started, routes switched without a dropped request.

        Returns once the platform has accepted and routed it. Versions that were serving keep all
        traffic until the new ones are ready and, with `proof`, each of their servers is proved
        without traffic. A version that is deployed already is not proved again, whatever its name,
        share and number of servers are now, and its artifact need not be in the object store.

        If anything fails, or the call is interrupted, everything is put back. A process that is
        killed at any point leaves the traffic with a version that was proved.

        Raises:
            ConflictError: it is not what was expected, or not ours; nothing was changed.
            InvalidManifestError: refused; nothing was changed.
            FatalStateError: a server cannot become ready; the reason and its last log lines.
            UnavailableError: it did not become ready in time.
        """

    def annotate(self, name: str, annotations: Mapping[str, str], *, namespace: str) -> None:
        """Set annotations of a deployment's metadata, and change nothing else of it.

        An empty text removes an annotation. Does nothing if the deployment does not exist.

        Raises:
            ConflictError: somebody else created it.
            UnavailableError: the platform does not answer.
        """

    def find(self, name: str, *, namespace: str) -> SeldonDeployment | None:
        """Return the deployment as last applied, or None."""

    def list(self) -> Sequence[SeldonDeployment]:
        """Return every deployment as last applied, sorted by namespace and name."""

    def damages(self) -> Sequence[str]:
        """Return a sentence for each deployment that cannot be read: `list` may be without it."""

    def delete(self, name: str, *, namespace: str) -> None:
        """Stop routing to it, drain, and stop its servers.

        Raises:
            NotFoundError: there is no such deployment.
        """

    def status(self, name: str, *, namespace: str) -> tuple[PredictorStatus, ...]:
        """Look at each predictor as it is now. Empty when there is no such deployment."""

    def counts(self, name: str, *, namespace: str) -> tuple[PredictorCounts, ...]:
        """Ask each server what it has counted, in the order of the manifest.

        Empty when there is no such deployment. A server that does not answer within 2 s is left
        out.

        Raises:
            UnavailableError: the metrics of a server are damaged or too large; quotes them. The
                platform does not answer.
        """

    def servers(self, name: str, *, namespace: str) -> Mapping[str, tuple[Predictions, ...]]:
        """Return predictor → its ready servers, each to be asked alone, with or without traffic.

        What they are asked so is not counted. Empty when there is no such deployment.

        Raises:
            UnavailableError: the platform does not answer.
        """

    def describe_absence(self, name: str, *, namespace: str) -> str:
        """Say in a few words why there is no such deployment."""

    def describe_conflict(self, name: str, *, namespace: str) -> str:
        """Say why a deployment of that name may not be changed; empty if it may."""

    def describe_difference(self, wanted: SeldonDeployment) -> str:
        """Say what the platform's settings change about the deployment; empty if nothing."""


class ServingEnvironment(Protocol):
    """Where models will be loaded, used to try an artifact before it is deployed."""

    def fingerprint(self) -> str:
        """Name the environment: changes whenever a library that serves models does."""

    def predict(
        self,
        model: Path,
        rows: Path,
        *,
        implementation: str,
        parameters: "Sequence[tuple[str, str]]",
        signature: Path | None = None,
    ) -> list[list[float]]:
        """Load the artifact in the folder `model` there and return its scores for `rows`.

        `rows` is an .npy file of shape [n, features]; the answer has shape [n, outputs].
        `signature` is a file to write: JSON with the `inputs` and `outputs` of a manifest.

        Raises:
            PipelineError: it does not load or does not predict; the reason.
        """


class Platform(Protocol):
    """One place to serve models on."""

    @property
    def name(self) -> str:
        """`embedded`, `kind` or `kubernetes`: the prefix of its asset keys."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, each after those that it requires."""

    @property
    def gateway(self) -> str:
        """The name of the layer that routes requests; its address is `gateway_url()`."""

    @property
    def deploys_on(self) -> tuple[str, ...]:
        """The names of the layers that a deployment stands on, the gateway among them."""

    @property
    def reads_elsewhere(self) -> bool:
        """Whether its servers read models outside of its object store too: `gs://`, `pvc://`."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of everything that its layers download."""

    @property
    def deployments(self) -> Deployments:
        """Its SeldonDeployments."""

    @property
    def serving_environment(self) -> ServingEnvironment:
        """Where its models are loaded."""

    @property
    def signing(self) -> Signing:
        """The keys that sign artifacts, and those whose signatures count."""

    @property
    def verifies_when_loading(self) -> bool:
        """Whether its model servers verify signatures; Seldon's own look at none."""

    @property
    def store_id(self) -> str:
        """Which of several object stores of this name it uses; empty: there is one in a folder."""

    def pass_keys(self) -> str:
        """Let servers that start again use the current keys, where that is possible.

        Returns a sentence for people: from when on servers use them.

        Raises:
            ConfigurationError: a file of keys cannot be used, or a file cannot be written.
        """

    def log_in(self) -> None:
        """Log in to where its layers are, where that needs a program. Takes as long as a person.

        Raises:
            PipelineError: it failed. The layers report it too.
        """

    def provide(self) -> None:
        """Make sure that all that its layers take from elsewhere is here. Changes no layer.

        Raises:
            PipelineError: something cannot be had, or is not what its digest says.
        """

    def preflight(self) -> Sequence[Diagnosis]:
        """Look at what of this machine the platform needs. Changes nothing."""

    def gateway_url(self) -> str:
        """Return `http://host:port` of the gateway, without a slash at the end.

        Raises:
            NotFoundError: the gateway layer is absent.
        """

    def gateway_trust(self) -> str:
        """Return the certificates (PEM) that a client of `gateway_url()` trusts.

        Empty for plain HTTP, and for what this machine trusts anyway.
        """

    def object_store(self) -> "Objects":
        """Return a client of its S3 endpoint.

        Raises:
            NotFoundError: the object store layer is absent.
        """

    def object_store_secret(self) -> str:
        """Return the name of the Secret that servers read artifacts with (`envSecretRefName`)."""

    def memory_of(self, layer: str) -> int | None:
        """Return the bytes of memory that a layer uses now, or None where nobody can say."""

    def logs(self, name: str, *, lines: int) -> str:
        """Return the last `lines` of a layer's or a deployment's log.

        Raises:
            NotFoundError: nothing of that name; says which there are.
        """

    def down(self) -> Sequence[str]:
        """End what runs; data stays for the next `up`.

        Returns sentences for people: what was done, what stays and why.
        """

    def purge(self) -> Sequence[str]:
        """Remove the data of this platform, which is down; returns sentences as `down` does."""


def deployments_called(name: str, platform: Platform) -> list[SeldonDeployment]:
    """Return the deployments called `<name>` or `<namespace>/<name>`.

    Raises:
        UnknownNameError: there is none; says which there are, layers too.
    """
    namespace, _, short = name.rpartition("/")
    there = platform.deployments.list()
    if found := [d for d in there if d.name == short and namespace in ("", d.namespace)]:
        return found
    layers = [layer.name for layer in platform.layers]
    known = [*layers, *(f"{d.namespace}/{d.name}" for d in there)]
    raise UnknownNameError(f"unknown name {name!r}; expected one of: {', '.join(known)}")
