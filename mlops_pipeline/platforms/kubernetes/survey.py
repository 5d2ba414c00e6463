"""What is looked at in a cluster of somebody else before anything in it is changed."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotDownloadedError,
    PipelineError,
)
from mlops_pipeline.clients.kubernetes import (
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    SERVICE,
    STORAGE_CLASS,
    KubernetesApi,
)
from mlops_pipeline.platforms.kubernetes.cluster import permissions, programs
from mlops_pipeline.platforms.kubernetes.istio import charts
from mlops_pipeline.platforms.kubernetes.istio import existing as existing_istio
from mlops_pipeline.platforms.kubernetes.load_balancers import address_of
from mlops_pipeline.platforms.kubernetes.metallb import layer as metallb
from mlops_pipeline.platforms.kubernetes.object_store import manifests as store
from mlops_pipeline.platforms.kubernetes.parts import ExistingParts
from mlops_pipeline.platforms.kubernetes.seldon_core import chart as seldon_chart
from mlops_pipeline.platforms.kubernetes.seldon_core import existing as existing_seldon
from mlops_pipeline.platforms.layers import Diagnosis

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def examine(parts: ExistingParts) -> list[Diagnosis]:
    """Look at everything that the platform needs, here and in the cluster. Changes nothing."""
    return [*_here(parts), *_there(parts)]


def require(parts: ExistingParts, *, lacking: str = "") -> None:
    """Refuse to go on while something is missing; `lacking` says what is known to be already.

    Raises:
        ConfigurationError: all that is missing, each with what to do.
    """
    found = [d for d in examine(parts) if not d.fine]
    if lacking:
        found.append(Diagnosis("charts, manifests and images", lacking, "see docs/air-gapped.md"))
    if found:
        listed = "".join(f"\n- {d.what}: {d.seen}; {d.remedy}" for d in found)
        raise ConfigurationError(
            f"the cluster of the context {parts.settings.context} lacks what the platform "
            f"kubernetes needs:{listed}\nnothing was changed; `mlops-pipeline doctor` looks again"
        )


def compare_version(parts: ExistingParts, api: KubernetesApi) -> Diagnosis:
    """Compare the cluster's version with what Istio and Seldon Core are known to run on."""
    found, what = api.version(), "kubernetes"
    minor = re.match(r"v?1\.(\d+)", found)
    if minor is None:
        return Diagnosis(what, found, "name a context of a Kubernetes 1.x")
    try:
        said = [seldon_chart.check_window(int(minor[1]))]
        if parts.settings.istio.install:
            said.append(charts.check_window(parts.sources.chart("istiod").version, found))
    except NotDownloadedError:
        pass  # Which Istio it will be is known once it is here.
    except ConfigurationError as error:
        return Diagnosis(what, found, str(error))
    return Diagnosis(what, "; ".join([found, *filter(None, said)]))


def _here(parts: ExistingParts) -> Iterator[Diagnosis]:
    settings = parts.settings
    if settings.serving.images == "own":
        yield programs.engine(programs.ask_engine(parts.engine, settings.engine), settings.engine)
        yield _delivery(parts)
    if settings.istio.install or settings.seldon.install:
        yield programs.program(parts.sources, "helm")
    if settings.seldon.install:
        yield from seldon_chart.examine(settings)
    if settings.images.delivery == "kind":
        yield programs.program(parts.sources, "kind")


def _delivery(parts: ExistingParts) -> Diagnosis:
    what = "images of the model server"
    try:
        places = parts.images.places()
        parts.images.missing([f"{parts.images.name('mlops-pipeline/serving')}:none"])
    except PipelineError as error:
        return Diagnosis(what, str(error), "set kubernetes.images (docs/kubernetes.md, Images)")
    delivery = parts.settings.images.delivery
    return Diagnosis(what, f"delivery = {delivery}: {', '.join(places)}")


def _there(parts: ExistingParts) -> Iterator[Diagnosis]:
    settings = parts.settings
    try:
        api = parts.api()
        yield Diagnosis("context", settings.context)
        yield compare_version(parts, api)
    except PipelineError as error:
        yield Diagnosis("context", str(error), "see docs/kubernetes.md")
        return
    for what, look in _inside(parts, api):
        try:
            yield look()
        except PipelineError as error:
            yield Diagnosis(what, f"could not be looked at: {error}", "see what keeps us from it")


def _inside(
    parts: ExistingParts, api: KubernetesApi
) -> Iterator[tuple[str, Callable[[], Diagnosis]]]:
    settings = parts.settings
    yield "permissions", lambda: _permissions(parts, api)
    if settings.serving.images == "own":
        yield "architecture", lambda: _architecture(parts, api)
    if not settings.object_store.endpoint:
        yield "storage class", lambda: _storage(parts, api)
    if settings.metallb.install:
        yield "metallb", lambda: _metallb(parts)
    elif settings.istio.install or not settings.object_store.endpoint:
        yield "load balancer", lambda: _load_balancer(api)
    istio = existing_istio.diagnose_foreign if settings.istio.install else existing_istio.diagnose
    yield "istio", lambda: istio(parts)
    own = settings.seldon.install
    seldon = existing_seldon.diagnose_foreign if own else existing_seldon.diagnose
    yield "seldon core", lambda: seldon(parts)
    if settings.images.pull_secret:
        yield "pull secret", lambda: _pull_secret(parts, api)


def _architecture(parts: ExistingParts, api: KubernetesApi) -> Diagnosis:
    """Compare what images are built for with what the nodes run."""
    what = "architecture"
    infos = [(node.get("status") or {}).get("nodeInfo") or {} for node in api.list(NODE)]
    there = sorted({str(i["architecture"]) for i in infos if i.get("architecture")})
    try:
        built = parts.engine.info().architecture
    except PipelineError:
        built = ""  # That the engine does not answer is told for itself.
    if not there or not built:
        return Diagnosis(what, "not known")
    seen = f"images are built for {built}, the nodes run {', '.join(there)}"
    remedy = f"build where the processor is {' or '.join(there)}: a pod would end at once"
    return Diagnosis(what, seen, "" if there == [built] else remedy)


def _permissions(parts: ExistingParts, api: KubernetesApi) -> Diagnosis:
    missing = permissions.missing(api, parts.settings)
    if not missing:
        return Diagnosis("permissions", "all that is needed")
    return Diagnosis(
        "permissions",
        f"not allowed: {permissions.describe(missing)}",
        "let an administrator give the context's user these rights (a ClusterRole), or use what "
        "is there with install = false and an object store of your own",
    )


def _storage(parts: ExistingParts, api: KubernetesApi) -> Diagnosis:
    what, wanted = "storage class", parts.settings.object_store.storage_class
    if api.find(PERSISTENT_VOLUME_CLAIM, store.NAME, namespace=store.NAMESPACE) is not None:
        return Diagnosis(what, "the volume is there")
    found = {c["metadata"]["name"]: c for c in api.list(STORAGE_CLASS)}
    default = [
        name
        for name, c in found.items()
        if (c["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    ]
    if chosen := ([wanted] if wanted in found else [] if wanted else default):
        return Diagnosis(what, chosen[0])
    seen = f"there is no {wanted!r}" if wanted else "none is the default"
    return Diagnosis(
        what,
        f"{seen} (there are: {', '.join(sorted(found)) or 'none'})",
        "set kubernetes.object_store.storage_class to one of them, or endpoint to an S3",
    )


def _metallb(parts: ExistingParts) -> Diagnosis:
    # What it brings is known where its manifest can be had; whoever needs it asks for that.
    with suppress(ConfigurationError, IntegrityError):
        if foreign := metallb.describe_foreign(parts):
            return Diagnosis("metallb", foreign, metallb.remedy_of("kubernetes"))
    return Diagnosis("metallb", f"ours, with {parts.settings.metallb.addresses}")


def _load_balancer(api: KubernetesApi) -> Diagnosis:
    what = "load balancer"
    found = [s for s in api.list(SERVICE) if s["spec"].get("type") == "LoadBalancer"]
    given = [s for s in found if address_of(s)]
    seen = f"{len(given)} of {len(found)} Services of type LoadBalancer have an address"
    if found and not given:
        return Diagnosis(what, seen, "bring one, or set kubernetes.metallb.install and addresses")
    return Diagnosis(what, seen if found else "no Service has asked for one yet: not known")


def _pull_secret(parts: ExistingParts, api: KubernetesApi) -> Diagnosis:
    name, namespace = parts.settings.images.pull_secret, parts.settings.namespace
    if api.find(SECRET, name, namespace=namespace) is not None:
        return Diagnosis("pull secret", f"{namespace}/{name}")
    there = api.find(NAMESPACE, namespace) is not None
    first = "" if there else f"kubectl create namespace {namespace} && "
    return Diagnosis(
        "pull secret",
        f"the Secret {namespace}/{name} is not there",
        f"make it (`{first}kubectl create secret docker-registry {name} --namespace {namespace} "
        "...`)",
    )
