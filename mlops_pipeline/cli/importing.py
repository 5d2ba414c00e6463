"""`import`: fetches a model that was trained elsewhere, and publishes it."""

import re
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from rich.console import Console

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context, typed
from mlops_pipeline.cli.publishing import publish_folder, require_usable
from mlops_pipeline.clients.addresses import shown
from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.fetching import scheme_of
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.s3 import Objects, users_store
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.importing import bring
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.publishing import Published


def import_uri(
    context: Context,
    model: RegisteredModel,
    uri: str,
    *,
    holdout: Path | None,
    is_unevaluated: bool,
    sha256: str,
    from_platform: bool,
    console: Console,
) -> Published:
    """Fetch a URI, and publish what it names.

    The options, the hold-out file and the object store are checked before anything is fetched.

    Raises:
        ConfigurationError: see `delivery.importing.bring`; nothing was stored.
        PipelineError: see `delivery.publishing.publish`.
    """
    settings = context.settings
    scheme_of(uri)  # It can be fetched.
    require_usable(model, holdout, is_unevaluated=is_unevaluated)
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ConfigurationError(
            f"expected 64 hexadecimal digits in --sha256, got {sha256!r}. Nothing was fetched"
        )
    Judge(context.platform, by=typed("import")).artifacts.find_published(model.name)  # It answers.

    def store() -> Objects:
        return context.platform.object_store() if from_platform else users_store()

    with temporary_folder("import") as folder:
        brought = bring(
            uri,
            model.spec,
            folder,
            web=Downloads(locks=Locks(folder, timeout=60), mirror=settings.mirror),
            store=store,
            most_bytes=settings.max_artifact_bytes,
            sha256=sha256,
        )
        fetched = brought.fetched
        console.print(
            f"fetched {fetched.size} bytes, SHA-256 {fetched.sha256}", soft_wrap=True, markup=False
        )
        if fetched.without_digest:
            console.print(
                f"the store has no MD5 of {fetched.without_digest} of the objects: only their "
                "sizes were compared",
                soft_wrap=True,
            )
        return publish_folder(
            context,
            model,
            brought.folder,
            holdout=holdout,
            is_unevaluated=is_unevaluated,
            origin=f"imported from {_origin(uri)}",
            console=console,
        )


def _origin(uri: str) -> str:
    """Return a URI without a password, a signature or a folder of this machine."""
    parts = urlsplit(uri)
    if parts.scheme.lower() in ("", "file"):
        return PurePath(parts.path).name
    return shown(uri)
