"""How the object store of a platform is reached: SeaweedFS's keys, and rclone's settings."""

import json
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Credentials

SECRET = "seldon-rclone-secret"
"""The Secret of a namespace that model servers read artifacts with (`envSecretRefName`)."""

ANSWERS = "answers"
"""The bucket of the log of answers."""
WRITER = "mlops-pipeline-answers"
"""SeaweedFS's name of the identity that uploads to it."""


def new_key() -> "Credentials":
    """Return a random key."""
    from mlops_pipeline.clients.s3 import Credentials

    return Credentials(secrets.token_hex(10).upper(), secrets.token_urlsafe(30))


def identities(key: "Credentials", *, writer: "Credentials | None" = None) -> str:
    """Return the JSON in which SeaweedFS is told of its key, and of a `writer` of answers if any.

    The writer can store objects below `answers/` (and, with SeaweedFS, delete them), but neither
    read nor list anything.

    https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API
    """
    found = [_identity("mlops-pipeline", key, "Admin", "Read", "Write", "List", "Tagging")]
    if writer is not None:
        found.append(_identity(WRITER, writer, f"Write:{ANSWERS}"))
    return json.dumps({"identities": found})


def _identity(name: str, key: "Credentials", *actions: str) -> dict[str, object]:
    credentials = [{"accessKey": key.access_key_id, "secretKey": key.secret_access_key}]
    return {"name": name, "credentials": credentials, "actions": list(actions)}


def rclone_settings(endpoint: str, key: "Credentials") -> dict[str, str]:
    """Return rclone's variables for the remote `s3`, so that it reads `s3://bucket/prefix`.

    https://github.com/SeldonIO/seldon-core/blob/v1.17.1/doc/source/servers/overview.md#handling-credentials
    """
    return {
        "RCLONE_CONFIG_S3_TYPE": "s3",
        # Not AWS: that one puts the bucket into the host's name.
        "RCLONE_CONFIG_S3_PROVIDER": "Other",
        "RCLONE_CONFIG_S3_ENV_AUTH": "false",
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": key.access_key_id,
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": key.secret_access_key,
        "RCLONE_CONFIG_S3_ENDPOINT": endpoint,
    }
