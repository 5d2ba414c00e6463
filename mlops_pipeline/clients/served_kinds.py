"""Where a Kubernetes API server serves the objects of a kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from mlops_pipeline.clients.api_server import ApiServer
from mlops_pipeline.clients.errors import NotFoundError


class KindName(Protocol):
    """A kind, by the names that stand in a manifest."""

    @property
    def api_version(self) -> str:
        """`apps/v1`."""

    @property
    def kind(self) -> str:
        """`Deployment`."""


@dataclass(frozen=True)
class Collection:
    """Where the objects of a kind are served."""

    root: str
    plural: str
    namespaced: bool


class ServedKinds:
    """The kinds of one server, each found out once."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._known: dict[tuple[str, str], Collection] = {}

    def path(self, kind: KindName, namespace: str, name: str = "") -> str:
        """Return where an object is, or without a name all of them; of all namespaces for none.

        Raises:
            NotFoundError: the server does not know the kind.
        """
        found = self.find(kind.api_version, kind.kind)
        place = f"/namespaces/{quote(namespace, safe='')}" if found.namespaced and namespace else ""
        return f"{found.root}{place}/{found.plural}" + (f"/{quote(name, safe='')}" if name else "")

    def find(self, version: str, kind: str) -> Collection:
        """Return where a kind is served; one that is not known yet is asked for each time.

        Raises:
            NotFoundError: the server does not know it.
        """
        if (version, kind) not in self._known:
            self._known |= {
                (version, str(entry["kind"])): Collection(
                    _root(version), entry["name"], entry["namespaced"]
                )
                for entry in self._entries(version)
            }
        if (version, kind) not in self._known:
            raise NotFoundError(
                f"{self._server} knows no {kind} ({version}): its CRD is not installed; "
                "`mlops-pipeline up` installs it"
            )
        return self._known[version, kind]

    def in_namespaces(self) -> Sequence[tuple[str, str]]:
        """Return version and kind of what is in namespaces and can be listed, each once.

        Some 40 requests. Nothing is kept: definitions come and go.
        """
        groups = self._server.json("GET", "/apis", what="list its API groups")["groups"]
        versions = ["v1"]
        for group in groups:
            preferred = group["preferredVersion"]["groupVersion"]
            others = (version["groupVersion"] for version in group["versions"])
            versions += dict.fromkeys([preferred, *others])
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for version in versions:
            for entry in self._entries(version):
                if entry["namespaced"] and "list" in entry.get("verbs", ()):
                    kind = str(entry["kind"])
                    found.setdefault((version.rpartition("/")[0], kind), (version, kind))
        return list(found.values())

    def _entries(self, version: str) -> Sequence[Mapping[str, Any]]:
        """Return what is served of a version of a group; nothing of one that is unknown."""
        try:
            served = self._server.json(
                "GET", _root(version), what=f"look for the kinds of {version}"
            )
        except NotFoundError:
            return ()
        return [entry for entry in served["resources"] if "/" not in entry["name"]]


def _root(version: str) -> str:
    return f"/{'apis' if '/' in version else 'api'}/{version}"
