"""The rights that a layer needs in a cluster, written as rules: resource, group, verbs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mlops_pipeline.clients.kubernetes import EVERYTHING, Access, KubernetesApi

Rule = tuple[str, str, tuple[str, ...]]
APPS, RBAC = "apps", "rbac.authorization.k8s.io"
READ = ("get", "list")
WRITE = ("get", "list", "create", "patch", "delete")
"""Server-side apply needs `patch`, and `create` for a new object."""
INSTALLED: tuple[Rule, ...] = (
    *((name, "", WRITE) for name in ("configmaps", "serviceaccounts")),
    ("secrets", "", (*WRITE, "update")),  # Helm updates the Secret of a release.
    *((name, APPS, WRITE) for name in ("deployments", "daemonsets", "statefulsets")),
    *((name, RBAC, WRITE) for name in ("rolebindings", "clusterrolebindings")),
    # Without `escalate` and `bind`, a user may grant only rights that the user has.
    *((name, RBAC, (*WRITE, "escalate", "bind")) for name in ("roles", "clusterroles")),
    ("customresourcedefinitions", "apiextensions.k8s.io", WRITE),
    *(
        (f"{kind}webhookconfigurations", "admissionregistration.k8s.io", WRITE)
        for kind in ("validating", "mutating")
    ),
)
"""The kinds of objects in upstream's charts and manifests."""
REMEDY = (
    "ask an administrator to grant these rights to the context's user (a ClusterRole), or use "
    "existing installations with install = false and an external object store"
)


def allow(rules: Iterable[Rule], *, namespace: str = "") -> tuple[Access, ...]:
    """Return the rights of these rules, in one namespace or in all."""
    return tuple(
        Access(verb, resource, group, namespace)
        for resource, group, verbs in rules
        for verb in verbs
    )


def missing(api: KubernetesApi, rights: Iterable[Access]) -> list[Access]:
    """Return the rights that the cluster does not grant; one request for an administrator."""
    if api.may(EVERYTHING):
        return []
    return [access for access in rights if not api.may(access)]


def describe(missing: Sequence[Access]) -> str:
    """Name all the rights, grouping the verbs of a resource."""
    verbs: dict[Access, list[str]] = {}
    for access in missing:
        verbs.setdefault(replace(access, verb=""), []).append(access.verb)
    return "; ".join(f"{'/'.join(found)}{access}" for access, found in verbs.items())
