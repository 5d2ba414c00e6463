"""What was applied, as YAML files in the state folder: the platform's one truth."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.files import PRIVATE, write_atomically
from mlops_pipeline.platforms.embedded.routing import Endpoint, Route, Target
from mlops_pipeline.platforms.seldon import SeldonDeployment, is_name, parse


@dataclass(frozen=True)
class Record:
    """A deployment as last applied, with the servers that its requests go to."""

    deployment: SeldonDeployment
    route: Route

    @property
    def programs(self) -> set[str]:
        """Return the programs of its servers."""
        return {e.program for target in self.route.targets for e in target.endpoints}


class Records:
    """`<folder>/<namespace>/<name>.yaml`, each replaced in one step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str, *, namespace: str) -> Record | None:
        """Return the record, or None.

        Raises:
            ConfigurationError: the file was changed by somebody and cannot be read.
        """
        if not (is_name(name) and is_name(namespace)):
            return None  # Such a path would lead elsewhere.
        path = self._path(name, namespace)
        return _load(path) if path.exists() else None

    def list(self) -> tuple[Record, ...]:
        """Return every record, sorted by namespace and name.

        Raises:
            ConfigurationError: a file was changed by somebody and cannot be read.
        """
        return tuple(_load(path) for path in sorted(self._folder.glob("*/*.yaml")))

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of every record, sorted by namespace and name."""
        return tuple(record.route for record in self.list())

    def save(self, record: Record) -> None:
        """Write the record in one step.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        content = {
            "manifest": record.deployment.to_manifest(),
            "route": [_plain(target) for target in record.route.targets],
        }
        path = self._path(record.deployment.name, record.deployment.namespace)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, yaml.safe_dump(content, sort_keys=False), mode=PRIVATE)

    def remove(self, name: str, *, namespace: str) -> None:
        """Remove the record; nothing happens where there is none."""
        self._path(name, namespace).unlink(missing_ok=True)

    def _path(self, name: str, namespace: str) -> Path:
        return self._folder / namespace / f"{name}.yaml"


def _plain(target: Target) -> dict[str, Any]:
    return asdict(target) | {"endpoints": [asdict(endpoint) for endpoint in target.endpoints]}


def _load(path: Path) -> Record:
    try:
        content = yaml.safe_load(path.read_text())
        deployment = parse(content["manifest"])
        targets = tuple(_target(fields) for fields in content["route"])
    except (yaml.YAMLError, KeyError, TypeError, ConfigurationError) as error:
        raise ConfigurationError(
            f"{path} is not the record that was written ({error}); "
            "remove it and apply the deployment again"
        ) from error
    return Record(deployment, Route(deployment.namespace, deployment.name, targets))


def _target(fields: Mapping[str, Any]) -> Target:
    endpoints = tuple(Endpoint(**endpoint) for endpoint in fields["endpoints"])
    return Target(**{**fields, "endpoints": endpoints})
