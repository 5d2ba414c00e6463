"""What the kubeconfig's user must be allowed to do, for the layers that are ours to install."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mlops_pipeline.clients.kubernetes import EVERYTHING, Access, KubernetesApi
from mlops_pipeline.settings.kubernetes import KubernetesSettings

_APPS, _RBAC = "apps", "rbac.authorization.k8s.io"
_READ = ("get", "list")
_WRITE = ("get", "list", "create", "patch", "delete")
"""Server-side apply is `patch`, and `create` where there is nothing yet."""
_PROBED = (
    *((name, "", _WRITE) for name in ("namespaces", "pods", "services")),
    ("events", "", ("list",)),
)
"""What a check makes and removes, in a namespace of its own whose name nobody knows before."""
_MODELS = (
    ("seldondeployments", "machinelearning.seldon.io", _WRITE),
    ("secrets", "", _WRITE),
    ("pods", "", ("get", "list", "delete")),
    ("pods/log", "", ("get",)),
    ("pods/proxy", "", ("get",)),
    ("events", "", ("list",)),
    ("deployments", _APPS, _READ),
    ("virtualservices", "networking.istio.io", _READ),
)
_EVERYWHERE = (
    ("nodes", "", ("list",)),
    ("serviceaccounts", "", ("get",)),
    ("secrets", "", ("list",)),
    ("seldondeployments", "machinelearning.seldon.io", ("list",)),
    ("virtualservices", "networking.istio.io", _WRITE),
    ("customresourcedefinitions", "apiextensions.k8s.io", ("get",)),
)
_INSTALLED = (
    *((name, "", _WRITE) for name in ("configmaps", "serviceaccounts")),
    ("secrets", "", (*_WRITE, "update")),  # Helm rewrites the one that holds a release.
    *((name, _APPS, _WRITE) for name in ("deployments", "daemonsets", "statefulsets")),
    *((name, _RBAC, _WRITE) for name in ("rolebindings", "clusterrolebindings")),
    # Rights that one does not have oneself are given to nobody, but with `escalate` and `bind`.
    *((name, _RBAC, (*_WRITE, "escalate", "bind")) for name in ("roles", "clusterroles")),
    ("customresourcedefinitions", "apiextensions.k8s.io", _WRITE),
    *(
        (f"{kind}webhookconfigurations", "admissionregistration.k8s.io", _WRITE)
        for kind in ("validating", "mutating")
    ),
)
_OF_ISTIO = (("gateways", "networking.istio.io", _WRITE),)
_OF_AN_ISTIO_THAT_IS_THERE = (
    ("gateways", "networking.istio.io", _READ),
    ("deployments", _APPS, ("list",)),  # Whose image tells its version, wherever it runs.
)
_OF_A_SELDON_THAT_IS_THERE = (
    ("deployments", _APPS, ("get",)),
    # Its webhook is asked by a dry run, for which one needs the right to do it.
    ("seldondeployments", "machinelearning.seldon.io", ("get", "create", "patch")),
)
_OF_METALLB = (
    *((name, "metallb.io", _WRITE) for name in ("ipaddresspools", "l2advertisements")),
    # What others have told it to do is looked for before it is removed.
    *(
        (name, "metallb.io", ("list",))
        for name in ("bgpadvertisements", "bfdprofiles", "communities", "bgppeers")
    ),
)
_OF_THE_STORE = (
    ("secrets", "", _WRITE),
    ("statefulsets", _APPS, _WRITE),
    ("persistentvolumeclaims", "", _WRITE),
    ("networkpolicies", "networking.k8s.io", _WRITE),
    ("storageclasses", "storage.k8s.io", _READ),
)


def needed(settings: KubernetesSettings) -> list[Access]:
    """Return the rights that these settings need, each once."""
    return list(dict.fromkeys(_needed(settings)))


def missing(api: KubernetesApi, settings: KubernetesSettings) -> list[Access]:
    """Return those that the cluster does not give. An administrator is asked one question."""
    if api.may(EVERYTHING):
        return []
    return [access for access in needed(settings) if not api.may(access)]


def describe(missing: Sequence[Access]) -> str:
    """Name all the rights, the verbs of a resource together."""
    verbs: dict[Access, list[str]] = {}
    for access in missing:
        verbs.setdefault(replace(access, verb=""), []).append(access.verb)
    return "; ".join(f"{'/'.join(found)}{access}" for access, found in verbs.items())


def _needed(settings: KubernetesSettings) -> Iterator[Access]:
    yield from _all(_EVERYWHERE)
    yield from _all(_PROBED)
    yield from _all(_MODELS, namespace=settings.namespace)
    if settings.metallb.install:
        yield from _all((*_INSTALLED, *_OF_METALLB))
    if settings.istio.install:
        yield from _all((*_INSTALLED, *_OF_ISTIO))
    else:
        yield from _all(_OF_AN_ISTIO_THAT_IS_THERE)
    if settings.seldon.install:
        yield from _all(_INSTALLED)
    else:
        yield from _all(_OF_A_SELDON_THAT_IS_THERE, namespace=settings.seldon.namespace)
    if not settings.object_store.endpoint:
        yield from _all(_OF_THE_STORE)


def _all(
    rules: Iterable[tuple[str, str, tuple[str, ...]]], *, namespace: str = ""
) -> Iterator[Access]:
    for resource, group, verbs in rules:
        for verb in verbs:
            yield Access(verb, resource, group, namespace)
