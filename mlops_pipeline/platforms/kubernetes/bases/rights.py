"""The rights that a layer needs in a cluster, written as rules: resource, group, verbs."""

from collections.abc import Iterable

from mlops_pipeline.clients.kubernetes import Access

Rule = tuple[str, str, tuple[str, ...]]
APPS, RBAC = "apps", "rbac.authorization.k8s.io"
READ = ("get", "list")
WRITE = ("get", "list", "create", "patch", "delete")
"""Server-side apply is `patch`, and `create` where there is nothing yet."""
INSTALLED: tuple[Rule, ...] = (
    *((name, "", WRITE) for name in ("configmaps", "serviceaccounts")),
    ("secrets", "", (*WRITE, "update")),  # Helm rewrites the one that holds a release.
    *((name, APPS, WRITE) for name in ("deployments", "daemonsets", "statefulsets")),
    *((name, RBAC, WRITE) for name in ("rolebindings", "clusterrolebindings")),
    # Rights that one does not have oneself are given to nobody, but with `escalate` and `bind`.
    *((name, RBAC, (*WRITE, "escalate", "bind")) for name in ("roles", "clusterroles")),
    ("customresourcedefinitions", "apiextensions.k8s.io", WRITE),
    *(
        (f"{kind}webhookconfigurations", "admissionregistration.k8s.io", WRITE)
        for kind in ("validating", "mutating")
    ),
)
"""What a chart or a manifest of upstream's is made of."""


def allow(rules: Iterable[Rule], *, namespace: str = "") -> tuple[Access, ...]:
    """Return the rights of these rules, in one namespace or in all."""
    return tuple(
        Access(verb, resource, group, namespace)
        for resource, group, verbs in rules
        for verb in verbs
    )
