"""The images that a container engine has: looked at, pulled, built, saved and pushed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.clients.engine_program import EngineProgram
from mlops_pipeline.clients.errors import AccessDeniedError, CommandError, NotFoundError

LOAD_TIMEOUT = 300.0
_NO_MANIFEST = re.compile(r"no such manifest|manifest unknown|name unknown", re.IGNORECASE)
"""What a registry says of an image that it does not have."""
_NO_LOGIN = re.compile(
    r"^.*(?:unauthorized|authentication required|access to the resource is denied|"
    r"no basic auth credentials|insufficient_scope).*$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class ImageInfo:
    """An image that the engine has."""

    platform: str
    """`linux/amd64`."""
    digests: frozenset[str]
    """`sha256:…` under which registries gave it; none for one that was loaded or built."""


class EngineImages(EngineProgram):
    """The images of an engine. Nothing is pulled by itself."""

    def has_image(self, reference: str) -> bool:
        """Say whether the engine has the image."""
        try:
            self.image_id(reference)
        except NotFoundError:
            return False
        return True

    def labelled_images(self, *, label: str) -> tuple[str, ...]:
        """Return the references of the images with that label (`key=value`), the newest first.

        Those without a name are left out.
        """
        listed = self._run(
            [
                *("image", "ls", "--filter", f"label={label}", "--filter", "dangling=false"),
                *("--format", "{{.CreatedAt}}\t{{.Repository}}:{{.Tag}}"),
            ],
            purpose="list the images",
        )
        newest_first = sorted(listed.splitlines(), reverse=True)
        return tuple(line.rpartition("\t")[2] for line in newest_first)

    def image_id(self, reference: str) -> str:
        """Return `sha256:…`, which changes whenever the image does.

        Raises:
            NotFoundError: the engine does not have it.
        """
        [found] = self._inspect("image", [reference])
        identity = str(found["Id"])
        return identity if identity.startswith("sha256:") else f"sha256:{identity}"

    def image_size(self, reference: str) -> int:
        """Return the image's bytes on disk, with what it shares with others.

        Raises:
            NotFoundError: the engine does not have it.
        """
        [found] = self._inspect("image", [reference])
        return int(found["Size"])

    def find_image(self, reference: str) -> ImageInfo | None:
        """Return what the image is, or None where the engine does not have it."""
        try:
            [found] = self._inspect("image", [reference])
        except NotFoundError:
            return None
        names = (str(name) for name in found.get("RepoDigests") or ())
        return ImageInfo(
            platform=f"{found['Os']}/{found['Architecture']}",
            digests=frozenset(name.partition("@")[2] for name in names),
        )

    def pull(self, reference: str, *, platform: str, timeout: float) -> None:
        """Get the image from its registry, for `platform`: `linux/amd64`."""
        self._run(
            ["pull", "--quiet", "--platform", platform, reference],
            purpose=f"pull the image {reference}",
            timeout=timeout,
        )

    def tag(self, reference: str, name: str) -> None:
        """Give the image another name too.

        Raises:
            NotFoundError: the engine does not have it.
        """
        self._run(["tag", reference, name], purpose=f"call the image {reference} {name}")

    def save(
        self, references: Sequence[str], archive: Path, *, platform: str, timeout: float
    ) -> None:
        """Write images for a platform (`linux/amd64`) into one archive, shared layers but once.

        Raises:
            NotFoundError: the engine does not have one.
        """
        options = self._several(len(references))
        if self.info().has_parts:
            # Else the archive names those for other platforms too, without their layers, and a
            # node takes none of it (https://github.com/kubernetes-sigs/kind/issues/3795).
            options += ["--platform", platform]
        self._run(
            ["save", *options, "--output", str(archive), *references],
            purpose=f"save {', '.join(references)} to {archive}",
            timeout=timeout,
        )

    def load(self, archive: Path, *, timeout: float = LOAD_TIMEOUT) -> None:
        """Take the images of an archive (`docker save`)."""
        self._run(
            ["load", "--input", str(archive)],
            purpose=f"load the images of {archive}",
            timeout=timeout,
        )

    def build(
        self,
        context: Path,
        *,
        dockerfile: Path,
        tag: str,
        timeout: float,
        arguments: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        network: str = "default",
    ) -> None:
        """Build an image from the folder `context`.

        `network` is what its commands reach: `default`, `host` or `none`.
        """
        # Docker's builder without BuildKit would keep the container of a step that failed.
        command = [
            "build",
            "--force-rm",
            "--file",
            str(dockerfile),
            "--tag",
            tag,
            "--network",
            network,
        ]
        for name, value in (arguments or {}).items():
            command += ["--build-arg", f"{name}={value}"]
        for name, value in (labels or {}).items():
            command += ["--label", f"{name}={value}"]
        if target:
            command += ["--target", target]
        self._run([*command, str(context)], purpose=f"build the image {tag}", timeout=timeout)

    def push(self, reference: str, *, timeout: float) -> None:
        """Send the image to the registry that its name begins with, with the engine's own login.

        Raises:
            AccessDeniedError: the registry refuses the login, or there is none.
            CommandError: it does not answer, or does not take the image.
        """
        with _at_the_registry(reference):
            self._run(
                ["push", "--quiet", reference],
                purpose=f"push the image {reference}",
                timeout=timeout,
            )

    def is_pushed(self, reference: str, *, plain_http: bool = False) -> bool:
        """Say whether the registry that its name begins with has the image.

        `plain_http` allows a registry without TLS; that of a push is the engine's own setting.

        Raises:
            AccessDeniedError: the registry refuses the login, or there is none.
            CommandError: it does not answer.
        """
        insecure = "--tls-verify=false" if self._is_podman else "--insecure"
        options = [insecure] if plain_http else []
        try:
            with _at_the_registry(reference):
                self._run(
                    ["manifest", "inspect", *options, reference],
                    purpose=f"look for the image {reference} in its registry",
                )
        except CommandError as error:
            if _NO_MANIFEST.search(str(error)) is None:
                raise
            return False
        return True

    def remove_image(self, reference: str) -> bool:
        """Remove the image; return False where there is none.

        Raises:
            ConflictError: a container was made from it.
        """
        try:
            self._run(["image", "rm", reference], purpose=f"remove the image {reference}")
        except NotFoundError:
            return False
        return True

    def _several(self, count: int) -> list[str]:
        """Docker packs several by itself, Podman when it is told to."""
        return ["--multi-image-archive"] if self._is_podman and count > 1 else []


@contextmanager
def _at_the_registry(reference: str) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        if (said := _NO_LOGIN.search(str(error))) is None:
            raise
        what, registry = str(error).partition(": `")[0], reference.partition("/")[0]
        raise AccessDeniedError(
            f"{what}: {said[0].strip()}; `docker login {registry}` gives this machine a login, and "
            "that has to be allowed to push"
        ) from error
