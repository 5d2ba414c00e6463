"""What is examined in an existing cluster before anything in it is changed."""

import re
from collections.abc import Iterator, Sequence

from mlops_pipeline.clients.errors import ConfigurationError, NotDownloadedError, PipelineError
from mlops_pipeline.clients.kubernetes import NAMESPACE, NODE, SECRET, SERVICE, KubernetesApi
from mlops_pipeline.platforms.kubernetes.bases import rights
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer, Question
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster import permissions
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import address_of
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts
from mlops_pipeline.platforms.layers import Diagnosis
from mlops_pipeline.platforms.sources import programs
from mlops_pipeline.platforms.sources.path import VERSION_COMMANDS
from mlops_pipeline.platforms.sources.providing import sources_of

Layers = Sequence[ClusterLayer]


def examine(parts: ExistingParts, layers: Layers) -> list[Diagnosis]:
    """Check everything that these layers need, here and in the cluster. Changes nothing."""
    return [*_here(parts, layers), *_there(parts, layers)]


def require(parts: ExistingParts, layers: Layers, *, lacking: str = "") -> None:
    """Refuse to continue if something is missing. `lacking` is already known to be missing.

    Raises:
        ConfigurationError: everything that is missing, each with what to do.
    """
    found = [d for d in examine(parts, layers) if not d.fine]
    if lacking:
        found.append(Diagnosis("charts, manifests and images", lacking, "see docs/air-gapped.md"))
    if found:
        listed = "".join(f"\n- {d.what}: {d.seen}; {d.remedy}" for d in found)
        raise ConfigurationError(
            f"the cluster of the context {parts.settings.context} lacks what the platform "
            f"kubernetes needs:{listed}\nnothing was changed; check again with `mlops-pipeline "
            "doctor`"
        )


def compare_version(api: KubernetesApi, layers: Layers) -> Diagnosis:
    """Compare the cluster's version with the versions that the layers support."""
    found, what = api.version(), "kubernetes"
    said, refused = list[str](), list[str]()
    if re.match(r"v?1\.\d+", found) is None:
        return Diagnosis(what, found, "set a context with Kubernetes 1.x")
    for layer in layers:
        try:
            said.append(layer.check_version(found))
        except NotDownloadedError:
            continue  # The version is unknown until it is downloaded.
        except ConfigurationError as error:
            refused.append(str(error))
    return Diagnosis(what, "; ".join([found, *filter(None, said)]), "; ".join(refused))


def _here(parts: ExistingParts, layers: Layers) -> Iterator[Diagnosis]:
    settings, names = parts.settings, sources_of(layers)
    if settings.serving.images == "own":
        yield programs.engine(programs.ask_engine(parts.engine, settings.engine), settings.engine)
        yield _delivery(parts)
    yield from (programs.program(parts.sources, n) for n in VERSION_COMMANDS if n in names)
    for layer in layers:
        yield from layer.diagnose()


def _delivery(parts: ExistingParts) -> Diagnosis:
    what = "images of the model server"
    try:
        places = parts.images.places()
        parts.images.missing([f"{parts.images.name('mlops-pipeline/serving')}:none"])
    except PipelineError as error:
        return Diagnosis(what, str(error), "set kubernetes.images (docs/kubernetes.md, Images)")
    delivery = parts.settings.images.delivery
    return Diagnosis(what, f"delivery = {delivery}: {', '.join(places)}")


def _there(parts: ExistingParts, layers: Layers) -> Iterator[Diagnosis]:
    try:
        api = parts.api()
        yield Diagnosis("context", parts.settings.context)
        yield compare_version(api, layers)
    except PipelineError as error:
        yield Diagnosis("context", str(error), "see docs/kubernetes.md")
        return
    for what, look in _inside(parts, api, layers):
        try:
            yield look()
        except PipelineError as error:
            yield Diagnosis(what, f"could not be read: {error}", "correct what the message names")


def _inside(parts: ExistingParts, api: KubernetesApi, layers: Layers) -> Iterator[Question]:
    settings = parts.settings
    yield "permissions", lambda: _permissions(parts, api, layers)
    if settings.serving.images == "own":
        yield "architecture", lambda: _architecture(parts, api)
    if settings.load_balancer == "cluster" and any(layer.addresses for layer in layers):
        yield "load balancer", lambda: _load_balancer(api)
    for layer in layers:
        yield from layer.survey(api)
    if settings.images.pull_secret:
        yield "pull secret", lambda: _pull_secret(parts, api)


def _architecture(parts: ExistingParts, api: KubernetesApi) -> Diagnosis:
    """Compare the architecture of the images with that of the nodes."""
    what = "architecture"
    infos = [(node.get("status") or {}).get("nodeInfo") or {} for node in api.list(NODE)]
    there = sorted({str(i["architecture"]) for i in infos if i.get("architecture")})
    try:
        built = parts.engine.info().architecture
    except PipelineError:
        built = ""  # Another diagnosis reports that the engine does not answer.
    if not there or not built:
        return Diagnosis(what, "unknown")
    seen = f"images are built for {built}, but the nodes run {', '.join(there)}"
    remedy = (
        f"build the images on a machine with {' or '.join(there)}; otherwise the pods fail at once"
    )
    return Diagnosis(what, seen, "" if there == [built] else remedy)


def _permissions(parts: ExistingParts, api: KubernetesApi, layers: Layers) -> Diagnosis:
    needed = permissions.needed(layers, namespace=parts.settings.namespace)
    if not (missing := rights.missing(api, needed)):
        return Diagnosis("permissions", "all that is needed")
    return Diagnosis(
        "permissions",
        f"not allowed: {rights.describe(missing)}",
        rights.REMEDY,
    )


def _load_balancer(api: KubernetesApi) -> Diagnosis:
    what = "load balancer"
    found = [s for s in api.list(SERVICE) if s["spec"].get("type") == "LoadBalancer"]
    given = [s for s in found if address_of(s)]
    seen = f"{len(given)} of {len(found)} Services of type LoadBalancer have an address"
    if found and not given:
        return Diagnosis(
            what, seen, "install a load balancer, or set kubernetes.metallb.install and addresses"
        )
    return Diagnosis(what, seen if found else "unknown: no Service has requested one yet")


def _pull_secret(parts: ExistingParts, api: KubernetesApi) -> Diagnosis:
    name, namespace = parts.settings.images.pull_secret, parts.settings.namespace
    if api.find(SECRET, name, namespace=namespace) is not None:
        return Diagnosis("pull secret", f"{namespace}/{name}")
    there = api.find(NAMESPACE, namespace) is not None
    first = "" if there else f"kubectl create namespace {namespace} && "
    return Diagnosis(
        "pull secret",
        f"the Secret {namespace}/{name} is missing",
        f"create it (`{first}kubectl create secret docker-registry {name} --namespace {namespace} "
        "...`)",
    )
