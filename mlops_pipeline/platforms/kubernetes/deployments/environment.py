"""The serving environment: the pods' serving image, run on this machine without a network."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from mlops_pipeline.clients.containers import EngineApi, Mount, full_reference
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.platforms import offline
from mlops_pipeline.platforms.embedded.environment import LocalServingEnvironment
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage

_TIMEOUT = 180.0
_GIVEN, _WRITTEN = "/mnt/given", "/mnt/written"


class ImageServingEnvironment:
    """The serving images, in containers of this machine's engine.

    Upstream's images cannot predict without a cluster. If they serve, the libraries of this Python
    environment are used instead: the ones that train, and TensorFlow of the same version.
    """

    def __init__(self, engine: EngineApi, serving: ServingImage, *, temporary: Path) -> None:
        """`temporary` is a folder that the engine can show to containers."""
        self._engine = engine
        self._serving = serving
        self._temporary = temporary
        self._here = LocalServingEnvironment(temporary=temporary)

    def fingerprint(self) -> str:
        """Return the images' tag, which identifies their whole content."""
        if self._serving.is_upstream:
            return f"upstream-{self._here.fingerprint()}"
        return self._serving.tag

    def predict(
        self,
        model: Path,
        rows: Path,
        *,
        implementation: str,
        parameters: Sequence[tuple[str, str]],
        signature: Path | None = None,
    ) -> list[list[float]]:
        """Load the artifact in a container of the image and return its scores for `rows`.

        `rows` is an .npy file of shape [n, features]; the answer has shape [n, outputs].
        `signature` is a file to write: JSON with the `inputs` and `outputs` of a manifest.

        Raises:
            UnavailableError: the image is not built.
            CommandError: the artifact does not load or does not predict; has the reason.
            IntegrityError: the container's output is not a table of scores.
        """
        if self._serving.is_upstream:
            return self._here.predict(
                model,
                rows,
                implementation=implementation,
                parameters=parameters,
                signature=signature,
            )
        image = self._image(implementation)
        with temporary_folder("scores", within=self._existing()) as private:
            given, written = private / "given", private / "written"
            _share(model, rows, given)
            written.mkdir()
            written.chmod(0o777)
            self._run(image, given, written, implementation, parameters)
            offline.keep_signature(written / "scores.npy", signature)
            return offline.read_scores(written / "scores.npy", who=image, rows=rows)

    def _image(self, implementation: str) -> str:
        reference = self._serving.reference(implementation)
        if not self._engine.has_image(full_reference(reference)):
            raise UnavailableError(
                f"could not test an artifact in the serving image: {reference} is not on this "
                "machine; build it with `mlops-pipeline up serving_image`"
            )
        return full_reference(reference)

    def _run(
        self,
        image: str,
        given: Path,
        written: Path,
        implementation: str,
        parameters: Sequence[tuple[str, str]],
    ) -> None:
        self._engine.run(
            image,
            offline.arguments(
                model=f"{_GIVEN}/model",
                rows=f"{_GIVEN}/rows.npy",
                output=f"{_WRITTEN}/scores.npy",
                implementation=implementation,
                parameters=parameters,
            ),
            entrypoint="python",
            mounts=(Mount(given, _GIVEN), Mount(written, _WRITTEN, writable=True)),
            network="none",
            timeout=_TIMEOUT,
        )

    def _existing(self) -> Path | None:
        return self._temporary if self._temporary.is_dir() else None


def _share(model: Path, rows: Path, folder: Path) -> None:
    """Copy what the container reads, with permissions that let any user read it.

    The container runs as another user, and only this user may read the originals. On this machine
    the copies stay private: only this user may enter the folder around them.
    """
    shutil.copytree(model, folder / "model", copy_function=shutil.copyfile)
    shutil.copyfile(rows, folder / "rows.npy")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
