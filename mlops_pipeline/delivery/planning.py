"""What `up` would change for a model, found out without changing it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.errors import (
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.choosing import describe_refusal
from mlops_pipeline.delivery.criteria import MATCHES, dataset_criteria, model_criteria
from mlops_pipeline.delivery.deploying import deployed_ref, seldon_deployment
from mlops_pipeline.delivery.desired import Desired, DesiredState, find_pin
from mlops_pipeline.delivery.judging import Judge, Unmet
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.planned import (
    describe_failed_release,
    describe_start,
    plan_running,
)
from mlops_pipeline.delivery.releases.state import without_release
from mlops_pipeline.delivery.training import (
    TrainingOrder,
    find_trained,
    merge_hyperparameters,
)
from mlops_pipeline.platforms.layers import (
    Absent,
    Unknown,
    Unready,
    action_from,
    describe,
)
from mlops_pipeline.platforms.observing import SeenState
from mlops_pipeline.platforms.platform import Platform

_QUICKLY_READ = 64 << 20
"""Bytes of an artifact that `plan` reads at most."""
_ACTIONS = {"created": "create", "updated": "update", "repaired": "repair", "unchanged": "keep"}


@dataclass(frozen=True)
class Step:
    """One thing that `up` would do."""

    asset: str
    """Asset key below the platform's prefix: `gateway`, `iris/model`."""
    action: str
    """keep, create, update, repair, load, train or deploy; release: a release begins, or the one
    in progress takes its next step; decide: once what it needs is up; blocked: `up` cannot repair
    the layer, and the reason says what a person must do; refused: by a blocking check, which the
    reason names; unevaluated: published without a hold-out set; held: what it is built on is
    refused, its release was rolled back, or somebody else made the deployment of that name; verify:
    its objects were written again, or a check was not evaluated on what decides now: `up` does that
    first, and it may refuse."""
    reason: str = ""


def plan_layers(seen: Mapping[str, SeenState]) -> list[Step]:
    """Return what `up` would do to each layer, by its state."""
    return [Step(name, _layer_action(state), describe(state)) for name, state in seen.items()]


def _layer_action(state: SeenState) -> str:
    if isinstance(state, Unknown):
        return "decide"
    if isinstance(state, Unready) and not state.is_repairable:
        return "blocked"
    return _ACTIONS[action_from(state)]


def plan_model(
    model: RegisteredModel,
    *,
    platform: Platform,
    file: Path | None,
    seen: Mapping[str, SeenState],
) -> list[Step]:
    """Return what `up` would do for a model; `seen` are the states of the platform's layers."""
    if missing := _describe_missing_store(seen["object_store"]):
        if _may_have_deployments(platform, seen):
            return [_dataset(model, "decide", missing), *_following(model, "decide", missing)]
        return [_dataset(model, "load", missing), *_unknown(model, "its dataset is new")]
    judge = Judge(platform, by="plan")
    snapshot = judge.datasets.find(model, file=file)
    if snapshot is None:
        return [
            _dataset(model, "load", "no snapshot of these inputs"),
            *_unknown(model, "its dataset is new", platform=platform),
        ]
    known = judge.find_unmet(dataset_criteria(model.spec), snapshot.ref)
    if refusal := _refusal(known):
        held = f"its dataset is refused: {refusal}"
        return [
            _dataset(model, "refused", refusal),
            Step(f"{model.name}/model", "held", held),
            _plan_deployment(model, None, platform=platform, held=held),
        ]
    waiting = _unevaluated(known)
    dataset = _dataset(model, "verify" if waiting else "keep", waiting)
    order = TrainingOrder(model, snapshot.ref, merge_hyperparameters(model.spec, {}))
    try:
        ref = find_trained(order, judge.artifacts)
    except RefusedError as error:
        held = f"its artifact is refused: {error}"
        return [
            dataset,
            Step(f"{model.name}/model", "refused", str(error)),
            _plan_deployment(model, None, platform=platform, held=held),
        ]
    if ref is None and not order.is_trained_here:
        return [dataset, *_following(model, "held", "no artifact was published yet")]
    if ref is None:
        return [dataset, *_unknown(model, "no artifact of these inputs", platform=platform)]
    return [dataset, *_plan_artifact(model, ref, judge)]


def _dataset(model: RegisteredModel, action: str, reason: str = "") -> Step:
    return Step(f"{model.name}/dataset", action, reason)


def _following(model: RegisteredModel, action: str, reason: str) -> list[Step]:
    return [Step(f"{model.name}/{part}", action, reason) for part in ("model", "deployment")]


def _unknown(model: RegisteredModel, why: str, *, platform: Platform | None = None) -> list[Step]:
    return [
        Step(f"{model.name}/model", "train", why),
        _plan_deployment(model, None, platform=platform)
        if platform
        else Step(f"{model.name}/deployment", "deploy", "new artifact"),
    ]


def _plan_artifact(model: RegisteredModel, ref: ModelRef, judge: Judge) -> list[Step]:
    """Plan the model and its deployment where the artifact of the inputs exists."""
    known = judge.find_unmet(model_criteria(model.spec), ref)
    refusal, waiting = _refusal(known), _unevaluated(known, besides={MATCHES})
    action, seen = (_refused_action(known), refusal) if refusal else _verified(model, ref, judge)
    if action not in ("refused", "unevaluated"):
        if waiting:
            action, seen = "verify", f": {waiting}"
        return [
            Step(f"{model.name}/model", action, f"{ref.digest[:12]}{seen}"),
            _plan_deployment(model, ref, platform=judge.platform, is_verified=action == "keep"),
        ]
    deployed = deployed_ref(model.spec, judge.platform)
    stays = f"; {deployed.digest[:12]} keeps serving" if deployed else ""
    held = f"{ref.digest[:12]} is {action}: {seen}{stays}"
    return [
        Step(f"{model.name}/model", action, f"{ref.digest[:12]}: {seen}"),
        _plan_deployment(model, ref, platform=judge.platform, held=held),
    ]


def _refusal(known: Iterable[Unmet]) -> str:
    """Return which criteria refuse it, by the verdicts that are known; empty if none does."""
    return "; ".join(f"{u.criterion}: {u.sentence}" for u in known if u.refused)


def _refused_action(known: Iterable[Unmet]) -> str:
    """Return how the artifact is refused: `unevaluated` if only its hold-out set is missing."""
    only = all(u.is_unevaluated for u in known if u.refused)
    return "unevaluated" if only else "refused"


def _unevaluated(known: Iterable[Unmet], *, besides: Collection[str] = ()) -> str:
    """Return which criteria nobody has evaluated on what decides now; empty if there is none."""
    names = [u.criterion for u in known if not u.refused and u.criterion not in besides]
    return f"not evaluated yet: {', '.join(names)}" if names else ""


def _verified(model: RegisteredModel, ref: ModelRef, judge: Judge) -> tuple[str, str]:
    """Return the action for an artifact that no verdict refuses, and what was seen.

    Reads the objects of an artifact only where the store says that they are others than those that
    were verified, and where that is quick.
    """
    criterion = next(c for c in model_criteria(model.spec) if c.name == MATCHES)
    if not judge.find_unmet([criterion], ref):
        return "keep", ""
    if (size := judge.artifacts.size(ref)) > _QUICKLY_READ:
        return "verify", f": its current content ({size >> 20} MiB) was not verified"
    try:
        judge.artifacts.verify(ref)
    except (IntegrityError, NotFoundError) as error:
        return "refused", f"{MATCHES}: {error}"
    return "keep", ""


def _may_have_deployments(platform: Platform, seen: Mapping[str, SeenState]) -> bool:
    if any(isinstance(seen[name], Unknown) for name in platform.deploys_on):
        return True
    try:
        return bool(platform.deployments.list())
    except UnavailableError:
        return True


def _describe_missing_store(state: SeenState) -> str:
    """Say why artifacts cannot be looked up; empty if they can."""
    if state == Absent():
        return "the object store is absent"
    return f"the object store {state.reason}" if isinstance(state, Unknown) else describe(state)


def _plan_deployment(
    model: RegisteredModel,
    ref: ModelRef | None,
    *,
    platform: Platform,
    held: str = "",
    is_verified: bool = True,
) -> Step:
    """Plan the deployment. `ref` is the artifact of the inputs, None where it is to be trained.

    `held` says why that artifact may not be deployed. Unless it `is_verified`, its checks decide.
    """
    name, state = f"{model.name}/deployment", DesiredState(model.spec, platform)
    try:
        known = state.find()
    except IntegrityError as error:
        return Step(name, "refused", str(error))
    if known and known.is_pinned:
        return _plan_pinned(model, known, state, platform, held=held)
    try:
        running = plan_running(model.spec, ref, platform)
    except IntegrityError as error:
        return Step(name, "refused", str(error))
    if held:
        return Step(name, "held", f"{held}; {running.reason}" if running else held)
    if running:
        return Step(name, running.action, running.reason)
    if ref is None:
        start = describe_start(model.spec, None, platform)
        return Step(name, "release" if start else "deploy", start or "new artifact")
    step = _plan_artifact_to_deploy(model, ref, state, platform)
    if step.action in ("deploy", "release") and not is_verified:
        return replace(step, action="decide", reason=f"{step.reason}, if its checks pass")
    return step


def _plan_artifact_to_deploy(
    model: RegisteredModel, ref: ModelRef, state: DesiredState, platform: Platform
) -> Step:
    """Plan the deployment of an artifact that no check refuses, where no release is in progress."""
    step = _compare(model, state.wanting(ref, by="plan", is_pinned=False), state, platform)
    if step.action != "deploy":
        return step
    if refusal := describe_failed_release(model.spec, ref, platform):
        return replace(step, action="held", reason=refusal)
    if start := describe_start(model.spec, ref, platform):
        return replace(step, action="release", reason=start)
    return step


def _plan_pinned(
    model: RegisteredModel, known: Desired, state: DesiredState, platform: Platform, *, held: str
) -> Step:
    """Plan the deployment of a pinned artifact; `held` says why no run comes as far as that."""
    name, pin = f"{model.name}/deployment", find_pin(model.spec, platform)
    told = pin.describe() if pin else ""
    step = _compare(model, known, state, platform)
    if refusal := describe_refusal(model.spec, known.digest, Judge(platform, by="plan")):
        return Step(name, "refused", f"{told}; {refusal}")
    if step.action == "keep":
        return replace(step, reason=told)
    if held:
        digest = known.digest[:12]
        remedy = f"`mlops-pipeline rollback {model.name} {digest}` deploys the pinned artifact"
        return Step(name, "held", f"{held}; {step.reason}; {told}; {remedy}")
    return replace(step, reason=f"{step.reason}; {told}")


def _compare(
    model: RegisteredModel, wanted: Desired, state: DesiredState, platform: Platform
) -> Step:
    """Compare the deployment with its desired state."""
    name, server = f"{model.name}/deployment", model.spec.server
    ref = ref_to(model.name, wanted.digest)
    found = platform.deployments.find(server.deployment, namespace=server.namespace)
    if found is None:
        why = platform.deployments.describe_absence(server.deployment, namespace=server.namespace)
        return Step(name, "deploy", why)
    conflict = platform.deployments.describe_conflict(server.deployment, namespace=server.namespace)
    if conflict:
        return Step(name, "held", conflict)
    status = platform.deployments.status(server.deployment, namespace=server.namespace)
    if edited := [f"{p.name}: {p.reason}" for p in status if p.state == "edited"]:
        return Step(name, "update", "; ".join(edited))
    secret = platform.object_store_secret()
    manifest = seldon_deployment(model.spec, ref, secret=secret, desired=wanted)
    if without_release(found) != manifest:
        why = platform.deployments.describe_difference(manifest) or "the deployed manifest differs"
        why = state.describe_difference() or why
        return Step(name, "deploy", f"{why}; {ref.digest[:12]} replaces it")
    unready = [f"{p.name} is {p.state}: {p.reason}" for p in status if p.state != "ready"]
    if unready or not status:
        return Step(name, "repair", "; ".join(unready) or "it has no servers")
    return Step(name, "keep", ref.digest[:12])
