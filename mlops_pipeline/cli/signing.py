"""`sign` and `keys`: whose signatures count, and signatures for what has none."""

import re
from collections.abc import Callable
from pathlib import Path

from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.elsewhere import sign_elsewhere
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError
from mlops_pipeline.delivery.adopting import adopt
from mlops_pipeline.delivery.artifacts import find_ref
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.rolling_back import find_artifact
from mlops_pipeline.delivery.signatures import sign_folder
from mlops_pipeline.resources.home import make
from mlops_pipeline.resources.turn import turn


def sign(
    context: Context, target: str, *, output: Path | None, on_wait: Callable[[str], None]
) -> list[str]:
    """Sign what `target` names, and return sentences for people.

    It is a model (all of its artifacts), `MODEL/DIGEST`, an `s3://` folder of the platform's object
    store, a folder of this machine, or another URI. A signature of another URI is written to
    `output`, because nobody may write there.

    Raises:
        ConfigurationError: signatures are off, or the option does not fit.
        PipelineError: it does not exist, is damaged, or cannot be signed.
    """
    if context.platform.signing.is_off:
        raise ConfigurationError(
            "could not sign: signatures are off; remove signing.mode from the settings"
        )
    if re.match(r"(?!s3:)[a-z]+://", target):
        return sign_elsewhere(context, target, output)
    if output is not None:
        raise ConfigurationError(
            f"could not sign {target}: --output is only for URIs of other stores; leave it out"
        )
    if "/" not in target:
        context.model(target)  # An unknown name is wrong usage, whatever the store is like.
    make(context.settings.home)
    with turn(context.settings, purpose=f"sign {target}", on_wait=on_wait):
        if "/" in target and Path(target).is_dir():
            return _sign_folder(context, Path(target))
        # First, so that the signature of one of them does not hide that the others are older.
        adopted = adopt(context.platform)
        older = [f"signed {ref.uri}, which is older than signatures" for ref in adopted]
        if target.startswith("s3://"):
            return [*older, *_sign_stored(context, target)]
        return [*older, *(_sign_artifact(context, ref) for ref in _find_refs(context, target))]


def _find_refs(context: Context, target: str) -> list[ModelRef]:
    name, _, digest = target.partition("/")
    if digest:
        return [find_artifact(context.artifacts, name, prefix=digest)]
    name = context.model(name).name
    if refs := [found.ref for found in context.artifacts.list(name) if found.complete]:
        return refs
    raise NotFoundError(f"{name} has no artifacts; run `mlops-pipeline up {name}`")


def _sign_artifact(context: Context, ref: ModelRef) -> str:
    signatures = context.artifacts.signatures
    if signatures.find_signed(ref) is not None:
        return f"{ref.uri} is signed already"
    signatures.sign(ref, replaces=True)
    return f"signed {ref.uri}"


def _sign_stored(context: Context, uri: str) -> list[str]:
    if (ref := find_ref(uri)) is not None:
        return [_sign_artifact(context, ref)]
    context.artifacts.signatures.sign_place(uri, most_bytes=context.settings.max_artifact_bytes)
    return [f"signed {uri}"]


def _sign_folder(context: Context, folder: Path) -> list[str]:
    sign_folder(folder, context.platform.signing, name=folder.name)
    return [f"signed {folder}: upload model.sig with its files"]


def list_keys(context: Context) -> list[tuple[str, str, str]]:
    """Return a row for each known key: fingerprint, what it is here, the file that names it."""
    return [
        (key.fingerprint, key.state, key.source) for key in context.platform.signing.known_keys()
    ]


def trust(context: Context, file: Path) -> list[str]:
    """Trust the public key in a file; return sentences for people.

    Raises:
        ConfigurationError: the file has no usable key, or the key is revoked.
    """
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"could not read {file}: {error.strerror or error}") from error
    make(context.settings.home)
    trusted = context.platform.signing.keyring.trust(pem)
    return [f"trusts the key {trusted}", context.platform.pass_keys()]


def revoke(context: Context, fingerprint: str) -> list[str]:
    """Revoke a key; return sentences for people.

    Raises:
        ConfigurationError: it signs here, or it is not a fingerprint.
        NotFoundError: no trusted key, or more than one, begins so.
    """
    make(context.settings.home)
    revoked = context.platform.signing.revoke(fingerprint)
    return [
        f"revoked the key {revoked}",
        "delivery refuses what it signed from now on. Sign what you still trust with "
        "`mlops-pipeline sign MODEL`, and run `mlops-pipeline up`",
        context.platform.pass_keys(),
    ]


def rotate(context: Context) -> list[str]:
    """Make another key that signs; return sentences for people.

    Raises:
        ConfigurationError: the settings name the key, or it cannot be written.
    """
    make(context.settings.home)
    return [
        f"signs with the new key {context.platform.signing.rotate()}",
        "the previous key stays trusted; revoke it with `mlops-pipeline keys revoke` if others may "
        "have it",
        context.platform.pass_keys(),
    ]
