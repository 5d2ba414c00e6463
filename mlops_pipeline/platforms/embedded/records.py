"""What was applied, as YAML files in the state folder: the platform's one truth."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.embedded.kept_file import KeptFile, kept_paths
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
        """Return the record, or None; of a damaged file, what its copy says."""
        if not (is_name(name) and is_name(namespace)):
            return None  # Such a path would lead elsewhere.
        return self._file(name, namespace).find()

    def list(self) -> tuple[Record, ...]:
        """Return every record, sorted by namespace and name, without those that are damaged."""
        records = (_kept(path).find() for path in self._paths())
        return tuple(record for record in records if record is not None)

    def describe_damage(self, name: str, *, namespace: str) -> str | None:
        """Say what is wrong with the file of this record; None where nothing is."""
        return self._file(name, namespace).describe_damage()

    def damages(self) -> tuple[str, ...]:
        """Return a sentence for each file that is damaged."""
        found = (_kept(path).describe_damage() for path in self._paths())
        return tuple(sentence for sentence in found if sentence is not None)

    def repair(self) -> None:
        """Write damaged files again from their copies; those without one are set aside."""
        for path in self._paths():
            _kept(path).repair()

    def _paths(self) -> Iterable[Path]:
        return kept_paths(self._folder, "*/*.yaml")

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
        name, namespace = record.deployment.name, record.deployment.namespace
        (self._folder / namespace).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file(name, namespace).write(yaml.safe_dump(content, sort_keys=False))

    def remove(self, name: str, *, namespace: str) -> None:
        """Remove the record; nothing happens where there is none."""
        self._file(name, namespace).remove()

    def _file(self, name: str, namespace: str) -> KeptFile[Record]:
        return _kept(self._folder / namespace / f"{name}.yaml")


def _plain(target: Target) -> dict[str, Any]:
    return asdict(target) | {"endpoints": [asdict(endpoint) for endpoint in target.endpoints]}


def _kept(path: Path) -> KeptFile[Record]:
    return KeptFile(path, _parsed)


@lru_cache(maxsize=256)  # A command reads each record dozens of times.
def _parsed(text: str) -> Record:
    """Return what `save` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        content = yaml.safe_load(text)
        deployment = parse(content["manifest"])
        targets = tuple(_target(fields) for fields in content["route"])
    except (yaml.YAMLError, KeyError, TypeError, ConfigurationError) as error:
        raise ValueError(f"it is not a valid record: {error}") from error
    return Record(
        deployment, Route(deployment.namespace, deployment.name, targets, deployment.sticky)
    )


def _target(fields: Mapping[str, Any]) -> Target:
    endpoints = tuple(Endpoint(**endpoint) for endpoint in fields["endpoints"])
    return Target(**{**fields, "endpoints": endpoints})
