"""What Envoy's discovery files are made of, whichever kind."""

import hashlib
import json
from typing import Any

from mlops_pipeline.clients.ports import LOOPBACK

TYPE = "type.googleapis.com/"


def discovery(resources: list[dict[str, Any]]) -> str:
    """Return a discovery file, whose version changes with its content alone."""
    text = json.dumps(resources, sort_keys=True)
    version = hashlib.sha256(text.encode()).hexdigest()[:16]
    return json.dumps({"version_info": version, "resources": resources}, indent=1)


def version_of(discovery: str) -> str:
    """Return the version of a discovery file, as Envoy reports it once it is active."""
    return str(json.loads(discovery)["version_info"])


def address(port: int) -> dict[str, Any]:
    """Return a port of 127.0.0.1 as Envoy writes addresses."""
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
