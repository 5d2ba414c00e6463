"""What `up` would change for a model, found out without changing it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.errors import NotFoundError, UnavailableError, UnknownNameError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.training import TrainingOrder, merge_hyperparameters
from mlops_pipeline.platforms.layers import Absent, Broken, Layer, Ready, action_from, describe
from mlops_pipeline.platforms.platform import Platform

_ACTIONS = {"created": "create", "updated": "update", "repaired": "repair", "unchanged": "keep"}


@dataclass(frozen=True)
class Step:
    """One thing that `up` would do."""

    asset: str
    """Asset key below the platform's prefix: `gateway`, `iris/model`."""
    action: str
    """keep, create, update, repair, load, train or deploy; decide: once what it needs is up."""
    reason: str = ""


def plan_layers(layers: Sequence[Layer]) -> list[Step]:
    """Return what `up` would do to each layer.

    One that is broken may be so only because one below it is not ready.
    """
    steps: list[Step] = []
    unready: set[str] = set()
    for layer in layers:
        state = layer.observe()
        below = [name for name in layer.requires if name in unready]
        if not isinstance(state, Ready):
            unready.add(layer.name)
        action, reason = _ACTIONS[action_from(state)], describe(state)
        if below and isinstance(state, Broken):
            action, reason = "decide", f"stands on {', '.join(below)}; {reason}"
        steps.append(Step(layer.name, action, reason))
    return steps


def plan_model(model: RegisteredModel, *, platform: Platform, file: Path | None) -> list[Step]:
    """Return what `up` would do for a model."""
    dataset, artifact, deployment = (
        f"{model.name}/{p}" for p in ("dataset", "model", "deployment")
    )
    unknown = [
        Step(artifact, "train", "its dataset is new"),
        Step(deployment, "deploy", "new artifact"),
    ]
    if (missing := _absent_store(platform)) is not None:
        if _may_have_deployments(platform):
            return [Step(asset, "decide", missing) for asset in (dataset, artifact, deployment)]
        return [Step(dataset, "load", missing), *unknown]
    store = platform.object_store()
    snapshot = DatasetStore(store).find(model, file=file)
    if snapshot is None:
        return [Step(dataset, "load", "no snapshot of these inputs"), *unknown]
    order = TrainingOrder(model, snapshot.ref, merge_hyperparameters(model.spec, {}))
    ref = ArtifactStore(store).find_by_inputs(model.name, inputs_digest=order.inputs_digest())
    if ref is None:
        return [
            Step(dataset, "keep"),
            Step(artifact, "train", "no artifact of these inputs"),
            unknown[1],
        ]
    return [
        Step(dataset, "keep"),
        Step(artifact, "keep", ref.digest[:12]),
        _plan_deployment(model, ref, platform=platform),
    ]


def _may_have_deployments(platform: Platform) -> bool:
    try:
        return bool(platform.deployments.list())
    except UnavailableError:
        return True


def _absent_store(platform: Platform) -> str | None:
    """Say why artifacts cannot be looked up; None when they can."""
    for layer in platform.layers:
        if layer.name == "object_store" and not isinstance(state := layer.observe(), Ready):
            reason = describe(state)
            return f"the object store is {reason}" if isinstance(state, Absent) else reason
    return None


def _plan_deployment(model: RegisteredModel, ref: ModelRef, *, platform: Platform) -> Step:
    name, server = f"{model.name}/deployment", model.spec.server
    found = platform.deployments.find(server.deployment, namespace=server.namespace)
    if found is None:
        why = platform.deployments.describe_absence(server.deployment, namespace=server.namespace)
        return Step(name, "deploy", why)
    status = platform.deployments.status(server.deployment, namespace=server.namespace)
    if edited := [f"{p.name}: {p.reason}" for p in status if p.state == "edited"]:
        return Step(name, "update", "; ".join(edited))
    wanted = seldon_deployment(model.spec, ref, secret=platform.object_store_secret())
    if found != wanted:
        why = platform.deployments.describe_difference(wanted) or "another manifest is deployed"
        return Step(name, "deploy", f"{why}; {ref.digest[:12]} replaces it")
    unready = [f"{p.name} is {p.state}: {p.reason}" for p in status if p.state != "ready"]
    if unready or not status:
        return Step(name, "repair", "; ".join(unready) or "none of its servers is there")
    return Step(name, "keep", ref.digest[:12])


def find_artifact(artifacts: ArtifactStore, name: str, *, prefix: str) -> ModelRef:
    """Return the model's artifact whose digest starts with `prefix`.

    Raises:
        UnknownNameError: none or several do; names them.
    """
    if not re.fullmatch("[0-9a-f]{1,64}", prefix):
        raise UnknownNameError(
            f"{prefix!r} is not how a digest begins: give some of its hexadecimal digits; "
            f"`mlops-pipeline models {name}` lists them"
        )
    whole = [a.ref for a in artifacts.list(name) if a.complete]
    matching = [ref for ref in whole if ref.digest.startswith(prefix)]
    if len(matching) != 1:
        shown = ", ".join(ref.digest[:12] for ref in (matching or whole)) or "none"
        problem = "is ambiguous" if matching else "is the digest of no artifact"
        raise UnknownNameError(f"{prefix} {problem} of {name}; there are: {shown}")
    return matching[0]


def previous_artifact(artifacts: ArtifactStore, deployed: ModelRef) -> ModelRef:
    """Return the newest artifact that is older than the deployed one.

    Raises:
        NotFoundError: there is none.
    """
    whole = [a for a in artifacts.list(deployed.name) if a.complete]
    created = next((a.created for a in whole if a.ref == deployed), "")
    older = [a for a in whole if a.created <= created and a.ref != deployed]
    if not older:
        raise NotFoundError(
            f"no artifact of {deployed.name} is older than the deployed {deployed.digest[:12]}; "
            f"name one: `mlops-pipeline models {deployed.name}` lists them"
        )
    return older[0].ref
