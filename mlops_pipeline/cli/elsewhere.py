"""Signatures of models in stores that this project only reads."""

from pathlib import Path

from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.fetching import Fetcher
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.s3 import users_store
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.signatures import sign_folder
from mlops_pipeline.resources.home import make
from mlops_pipeline.serving.artifact import describe_excess


def sign_elsewhere(context: Context, uri: str, output: Path | None) -> list[str]:
    """Fetch a folder, and write its signature for people to put beside its files."""
    if output is None:
        raise ConfigurationError(
            f"could not sign {uri}: this project does not write there. Give --output FILE, and "
            "upload that file as model.sig into the folder"
        )
    make(context.settings.home)
    with temporary_folder("sign") as folder:
        fetched = _fetcher(context, folder).fetch(uri, folder / "model")
        if not fetched.path.is_dir():
            raise ConfigurationError(
                f"could not sign {uri}: it is one file; give the folder that contains it"
            )
        sign_folder(fetched.path, context.platform.signing, name=uri, into=output)
    return [f"wrote the signature of {uri} to {output}: upload it as model.sig into that folder"]


def find_elsewhere(context: Context, uri: str, name: str) -> bytes | None:
    """Return a file `name` of a public folder `gs://`, None if the folder lacks it.

    Raises:
        ConfigurationError: the bucket is not public, or does not exist.
        UnavailableError: the other side did not answer.
    """
    with temporary_folder("sign") as folder:
        found = _fetcher(context, folder).find_in_google(uri, name)
    return None if found is None else found.encode()


def _fetcher(context: Context, folder: Path) -> Fetcher:
    most = context.settings.max_artifact_bytes
    return Fetcher(
        Downloads(locks=Locks(folder, timeout=60), mirror=context.settings.mirror),
        users_store,
        most,
        lambda size, place: describe_excess(size, place, most=most),
    )
