"""From an artifact to a deployment that proves which artifact answers."""

from types import MappingProxyType

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConflictError
from mlops_pipeline.delivery.adopting import adopt
from mlops_pipeline.delivery.artifacts import ArtifactStore, check_for_servers, find_ref, ref_to
from mlops_pipeline.delivery.desired import Desired, DesiredState
from mlops_pipeline.delivery.history import Refusals, place_for, record_acceptance, record_serving
from mlops_pipeline.delivery.proving import HoldoutProof
from mlops_pipeline.delivery.references import DeploymentRef, ModelRef
from mlops_pipeline.delivery.verdicts import READABLE, Standing, VerdictLog, standing
from mlops_pipeline.platforms.answers import write_annotation
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import Expected, Platform
from mlops_pipeline.platforms.seldon import (
    CPU_ANNOTATION,
    DIGEST_ANNOTATION,
    MANAGED_BY,
    MEMORY_ANNOTATION,
    MEMORY_LIMIT_ANNOTATION,
    PREDICTOR_ANNOTATION,
    Graph,
    Metadata,
    Parameter,
    Predictor,
    SeldonDeployment,
    Spec,
    main_predictor,
)


def seldon_deployment(
    spec: ModelSpec, ref: ModelRef, *, secret: str, desired: Desired | None = None
) -> SeldonDeployment:
    """Return the SeldonDeployment that serves this artifact to all traffic.

    `desired` is written on it; without one it says which artifact is wanted, and nothing more.
    """
    server = spec.server
    annotations = {DIGEST_ANNOTATION: ref.digest, PREDICTOR_ANNOTATION: server.predictor}
    given = {
        CPU_ANNOTATION: server.cpu,
        MEMORY_ANNOTATION: server.memory,
        MEMORY_LIMIT_ANNOTATION: server.memory_limit,
        **write_annotation(
            is_recorded=server.answers.record,
            sample=server.answers.sample,
            per_second=server.answers.per_second,
            mask=server.answers.mask,
            columns=spec.dataset.names(),
        ),
    }
    return SeldonDeployment(
        metadata=Metadata(
            name=server.deployment,
            namespace=server.namespace,
            labels=MANAGED_BY,
            annotations=(desired or Desired(ref.digest)).annotations(),
        ),
        spec=Spec(
            predictors=(
                Predictor(
                    name=server.predictor,
                    replicas=server.replicas,
                    traffic=100,
                    annotations=annotations | {key: text for key, text in given.items() if text},
                    graph=Graph(
                        name=server.graph,
                        implementation=server.implementation,
                        model_uri=ref.uri,
                        parameters=tuple(
                            Parameter(name=name, value=value, type="STRING")
                            for name, value in server.graph_parameters()
                        ),
                        env_secret_ref_name=secret,
                    ),
                ),
            )
        ),
    )


def deployed_ref(spec: ModelSpec, platform: Platform) -> ModelRef | None:
    """Return the artifact that has most of the model's traffic now, or None."""
    found = platform.deployments.find(spec.server.deployment, namespace=spec.server.namespace)
    if found is None:
        return None
    main = main_predictor(found)
    named = find_ref(main.graph.model_uri)
    if named is not None and named.name == spec.name:
        return named
    return ref_to(spec.name, main.digest) if main.digest else None


def find_last_good(
    spec: ModelSpec, platform: Platform, *, artifacts: ArtifactStore, log: VerdictLog
) -> ModelRef | None:
    """Return the artifact that a new one must not be worse than, or None where there is none.

    That is the deployed one, unless a check refuses it, so that it serves only because somebody
    accepted that, or nothing at all is known of it. Then, and where nothing is deployed, it is the
    artifact that served here last by right. It may have gone from the object store, or be damaged
    there.
    """
    place, deployed = place_for(spec, platform), deployed_ref(spec, platform)
    if deployed is not None:
        entries = log.entries(deployed)
        is_known = entries or artifacts.exists(deployed)
        if is_known and _may_be_compared_with(standing(entries, place=place)):
            return deployed
    served = (
        (period.since, digest)
        for digest, known in log.standings(spec.name, place=place).items()
        if _may_be_compared_with(known)
        for period in known.served_by_right(place)
    )
    last = max(served, default=None)
    return ref_to(spec.name, last[1]) if last else None


def _may_be_compared_with(known: Standing) -> bool:
    """Say whether nothing refuses an artifact but an entry of its log that cannot be read.

    That entry may have been a refusal, so the artifact may not be deployed. As the one that others
    are compared with it stays: without it they would not be compared with anything.
    """
    return set(known.refused_by) <= {READABLE}


def url_of(spec: ModelSpec, platform: Platform) -> str:
    """Return `http://<gateway>/seldon/<namespace>/<name>`."""
    return f"{platform.gateway_url()}/seldon/{spec.server.namespace}/{spec.server.deployment}"


def deploy(
    spec: ModelSpec,
    ref: ModelRef,
    *,
    platform: Platform,
    artifacts: ArtifactStore,
    by: str = "",
    accepted: Refusals = MappingProxyType({}),
    is_pinned: bool = False,
    ends_pin: bool = False,
) -> tuple[DeploymentRef, Change]:
    """Deploy the artifact and return once its digest answers, with the offline model's scores.

    Each server is asked alone first, and gets traffic only if its answers are right. Otherwise, or
    if the call is interrupted, what was deployed before goes on serving. What is proved is written
    into the log of verdicts: this artifact serves, the one before it no longer. `by` is the command
    or the Dagster run. `accepted` is what refuses the artifact, where a person accepted that. A
    pinned artifact stays until it is unpinned, whatever later runs bring.

    Only with `ends_pin`, or as another pin, it replaces a pinned artifact.

    Raises:
        NotFoundError: there is no such artifact.
        RefusedError: it is unsigned, altered, or signed by a key that is not trusted.
        IntegrityError: Seldon's own servers load it, and a file is not what was signed.
        ConflictError: another artifact was pinned since this one was chosen, or somebody else
            changed the deployment in the meantime; nothing was changed.
        FatalStateError: its server cannot become ready, or it answers other scores.
        UnavailableError: it did not answer in time.
    """
    adopt(platform)
    check_for_servers(artifacts, ref, they_verify=platform.verifies_when_loading)
    holdout = artifacts.proof_rows(ref)
    state, server = DesiredState(spec, platform), spec.server
    # A pin that is set after this is a change by somebody else.
    previous = platform.deployments.find(server.deployment, namespace=server.namespace)
    if not (is_pinned or ends_pin):
        _require_no_pin(state, ref)
    if accepted:
        log = VerdictLog(platform.object_store())
        record_acceptance(ref, accepted, log=log, by=by)
    desired = state.wanting(ref, by=by, is_pinned=is_pinned)
    secret = platform.object_store_secret()
    manifest = seldon_deployment(spec, ref, secret=secret, desired=desired)
    deployment = DeploymentRef(manifest.name, manifest.namespace, url_of(spec, platform), ref)
    change = platform.deployments.apply(
        manifest,
        proof=HoldoutProof(spec, deployment, holdout, trust=platform.gateway_trust()),
        expected=Expected(previous),
    )
    state.keep(desired)
    record_serving(
        previous, manifest, platform=platform, by=by, accepted={ref: accepted} if accepted else {}
    )
    return deployment, change


def _require_no_pin(state: DesiredState, ref: ModelRef) -> None:
    known = state.find()
    if known is not None and known.is_pinned:
        raise ConflictError(
            f"could not deploy {ref.name} {ref.digest[:12]}: {known.digest[:12]} was pinned by "
            f"{known.by} in the meantime, and keeps serving. To replace it, run "
            f"`mlops-pipeline up {ref.name} --unpin`"
        )
