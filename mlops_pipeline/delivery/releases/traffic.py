"""Moves the traffic between the versions of a release: one `apply` for each step.

Each carries the state that holds afterwards, proves every version that is new or may answer, and
goes on only if the deployment still is what was decided on.
"""

from collections.abc import Sequence

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError, ConflictError
from mlops_pipeline.delivery.artifacts import Holdout, artifact_store, ref_to
from mlops_pipeline.delivery.deploying import seldon_deployment, url_of
from mlops_pipeline.delivery.desired import DesiredState
from mlops_pipeline.delivery.proving import HoldoutProof
from mlops_pipeline.delivery.references import DeploymentRef, ModelRef
from mlops_pipeline.delivery.releases import manifests
from mlops_pipeline.delivery.releases.state import (
    CANDIDATE,
    FORMER,
    RELEASE_ANNOTATION,
    Release,
    find_release,
)
from mlops_pipeline.platforms.platform import Expected, Platform, PredictorStatus
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment, main_predictor


class Traffic:
    """The deployment of one model, and how its traffic is moved."""

    def __init__(self, spec: ModelSpec, platform: Platform, *, by: str) -> None:
        self._spec = spec
        self._platform = platform
        self._by = by
        self._name = spec.server.predictor

    def find(self) -> SeldonDeployment | None:
        """Return the deployment, or None."""
        server = self._spec.server
        return self._platform.deployments.find(server.deployment, namespace=server.namespace)

    def find_stable(self, there: SeldonDeployment) -> Predictor:
        """Return the version that a new candidate is compared with."""
        running = find_release(there)
        versions = manifests.find_versions(there, running) if running is not None else None
        if running is not None and versions is not None:
            return versions.candidate if running.phase == "kept" else versions.require_stable()
        return main_predictor(there)

    def unpin(self) -> None:
        """End a pin, so that another artifact may be released."""
        DesiredState(self._spec, self._platform).unpin(by=self._by)

    def start(self, there: SeldonDeployment, release: Release) -> None:
        """Start the candidate beside the stable version, prove it, and give it the first share.

        Raises:
            PipelineError: it does not start or answers other scores; nothing has changed.
        """
        ref = ref_to(self._spec.name, release.candidate)
        secret = self._platform.object_store_secret()
        candidate = seldon_deployment(self._spec, ref, secret=secret).spec.predictors[0]
        stable = self.find_stable(there).model_copy(update={"name": self._name})
        self._move(there, manifests.beside(there, stable, candidate, release), release)

    def expose(self, release: Release, following: Release) -> None:
        """Give the candidate the share of the following step."""
        there, versions = self.require(release)
        wanted = manifests.beside(there, versions.require_stable(), versions.candidate, following)
        self._move(there, wanted, following)

    def promote(self, release: Release, ended: Release) -> None:
        """Give all traffic to the candidate, which is wanted from now on."""
        there, versions = self.require(release)
        ref = ref_to(self._spec.name, release.candidate)
        state = DesiredState(self._spec, self._platform)
        desired = state.wanting(ref, by=self._by, is_pinned=False)
        wanted = manifests.promoted(there, versions, ended, name=self._name)
        wanted = wanted.annotated(desired.annotations())
        # A former version gets new servers if those it has are called by the name that it loses.
        kept = [release.stable] if ended.phase == "kept" else []
        self._apply(there, wanted, release.candidate, beside=kept)

    def restore(self, release: Release, ended: Release) -> None:
        """Give all traffic to the stable version.

        It serves already, so nothing is proved again: the object store may be away.
        """
        there = self.find()
        if there is not None and find_release(there) == release and _is_alone(there, release):
            wanted = there.annotated(ended.annotations())  # Somebody removed the candidate.
        else:
            there, versions = self.require(release)
            wanted = manifests.restored(there, versions, ended, name=self._name)
        if release.phase == "kept":
            state = DesiredState(self._spec, self._platform, with_copy=False)
            ref = ref_to(self._spec.name, release.stable)
            desired = state.wanting(ref, by=self._by, is_pinned=False)
            wanted = wanted.annotated(desired.annotations())
        self._platform.deployments.apply(wanted, expected=Expected(there))

    def confirm(self) -> None:
        """Apply what stands again: a process may have been killed before the gateway heard it."""
        there = self.find()
        if there is not None:
            self._platform.deployments.apply(there, expected=Expected(there))

    def finish(self, release: Release) -> None:
        """Remove the former version, and the state of the release."""
        there, versions = self.require(release)
        self._apply(there, manifests.finished(there, versions), release.candidate)

    def leave_main(self, there: SeldonDeployment) -> None:
        """Give all traffic to the stable version by its name, where nobody can read the state."""
        roles = (f"-{CANDIDATE}", f"-{FORMER}")
        live = [p for p in there.spec.predictors if not p.shadow]
        shares = there.traffic()
        stable = [p for p in live if not p.name.endswith(roles)]
        alone = max(stable or live, key=lambda p: shares[p.name])
        alone = alone.model_copy(update={"name": self._name, "traffic": 100})
        spec = there.spec.model_copy(update={"predictors": (alone,)})
        wanted = manifests.without_sticky(there).annotated({RELEASE_ANNOTATION: ""})
        wanted = wanted.model_copy(update={"spec": spec})
        self._platform.deployments.apply(wanted, expected=Expected(there))

    def write(self, release: Release | None) -> None:
        """Write the state, and change nothing else; None takes it off."""
        annotations = release.annotations() if release else {RELEASE_ANNOTATION: ""}
        server = self._spec.server
        self._platform.deployments.annotate(
            server.deployment, annotations, namespace=server.namespace
        )

    def rows(self, digest: str) -> Holdout:
        """Return the hold-out rows of an artifact of the model."""
        return artifact_store(self._platform).proof_rows(ref_to(self._spec.name, digest))

    def require(self, release: Release) -> tuple[SeldonDeployment, manifests.Versions]:
        """Return the deployment as this release left it, and its versions.

        Raises:
            ConflictError: it is another one now.
        """
        there = self.find()
        versions = manifests.find_versions(there, release) if there is not None else None
        if there is None or versions is None or find_release(there) != release:
            raise ConflictError(
                f"could not change the release of {self._spec.name}: somebody else changed the "
                "deployment in the meantime, and that change stays. Run the command again to "
                "decide on its new state"
            )
        return there, versions

    def describe_move(self, there: SeldonDeployment, release: Release) -> str:
        """Say that somebody changed versions or shares of the release; empty if nobody did."""
        return self._describe_change(self._find_move(there, release))

    def describe_edit(self, status: Sequence[PredictorStatus]) -> str:
        """Say that somebody changed the objects of the deployment by hand; empty if nobody did."""
        return self._describe_change(next((p.reason for p in status if p.state == "edited"), ""))

    def _describe_change(self, what: str) -> str:
        if not what:
            return ""
        return (
            f"somebody changed the deployment: {what}. That change stays; undo it, or run "
            f"`mlops-pipeline release abort {self._spec.name}` to end the release"
        )

    def _find_move(self, there: SeldonDeployment, release: Release) -> str:
        versions = manifests.find_versions(there, release)
        if versions is None:
            return "it has no candidate any more"
        if versions.stable is None and release.ended is None:
            return "it has no stable version any more"
        shares, asked = there.traffic(), 0 if release.is_shadow else release.share
        if (share := shares.get(versions.candidate.name, 0)) != asked:
            return f"the candidate has {share} % of the traffic instead of {asked} %"
        if versions.candidate.digest != release.candidate:
            return f"the candidate is the artifact {versions.candidate.digest[:12]}"
        return ""

    def _move(self, there: SeldonDeployment, wanted: SeldonDeployment, release: Release) -> None:
        """Apply a manifest in which both versions may answer."""
        is_main = release.share >= 50 and not release.is_shadow
        pair = (release.candidate, release.stable)
        main, other = pair if is_main else reversed(pair)
        has_both = 0 < release.share < 100 and not release.is_shadow
        self._apply(there, wanted, main, beside=[other], may_answer=has_both)

    def _apply(
        self,
        there: SeldonDeployment,
        wanted: SeldonDeployment,
        main: str,
        *,
        beside: Sequence[str] = (),
        may_answer: bool = False,
    ) -> None:
        """Apply, and prove the artifact `main`, which has most of the traffic.

        Servers of the artifacts `beside` it are proved if they are new.
        """
        deployment = DeploymentRef(
            wanted.name,
            wanted.namespace,
            url_of(self._spec, self._platform),
            ref_to(self._spec.name, main),
        )
        proof = HoldoutProof(
            self._spec,
            deployment,
            self.rows(main),
            trust=self._platform.gateway_trust(),
            beside={digest: self.rows(digest) for digest in beside},
            both_answer=may_answer,
        )
        self._platform.deployments.apply(wanted, proof=proof, expected=Expected(there))


def require_something(there: SeldonDeployment | None, ref: ModelRef) -> SeldonDeployment:
    """Return the deployment that serves.

    Raises:
        ConfigurationError: nothing does.
    """
    if there is None:
        raise ConfigurationError(
            f"could not release {ref.name} {ref.digest[:12]}: nothing is deployed to compare it "
            f"with; run `mlops-pipeline up {ref.name}`"
        )
    return there


def _is_alone(there: SeldonDeployment, release: Release) -> bool:
    """Say whether the stable version serves alone, although the release has not ended."""
    return release.ended is None and [p.digest for p in there.spec.predictors] == [release.stable]
