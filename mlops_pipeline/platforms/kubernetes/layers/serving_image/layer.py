"""The serving_image layer: our model server as images, built here and given to every node."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlops_pipeline.clients.containers import full_reference
from mlops_pipeline.clients.errors import (
    CommandError,
    ConflictError,
    NotFoundError,
    PipelineError,
)
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps, bring_up
from mlops_pipeline.platforms.kubernetes.layers.serving_image import context as serving_context
from mlops_pipeline.platforms.kubernetes.layers.serving_image import libraries
from mlops_pipeline.platforms.kubernetes.parts.images import LOCAL
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    Facts,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
)
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.sources import BASE, SERVING
from mlops_pipeline.serving.frameworks import get_served

_BUILD_TIMEOUT = 1800.0
"""Seconds: 260 MB are downloaded, possibly over a slow network."""
_LABEL = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
_KEPT = 1
"""Number of previous versions that the engine keeps."""
_UPSTREAM = Ready({"images": "upstream's, which the nodes pull"})


@dataclass(frozen=True)
class _Image:
    target: str
    """The stage of the Dockerfile, and its fact."""

    @property
    def repository(self) -> str:
        return f"mlops-pipeline/{self.target}"


# The second has all layers of the first except the last.
_IMAGES = tuple(_Image(target) for target in ("serving", "serving-tensorflow"))


class ServingImage(ClusterLayer):
    """Two images: one without TensorFlow, which also forwards, and one with it.

    They are built from this installation, with the versions that train, and their tag identifies
    their content: an image that exists under its name is never built or copied again.
    """

    name = "serving_image"
    description = (
        "The images of the model server, here and in the place from which the nodes get them."
    )
    kinds = ("docker", "python")
    serves_models = True

    @property
    def sources(self) -> tuple[str, ...]:
        """The base image of ours."""
        return () if self.is_upstream else (BASE,)

    @cached_property
    def tag(self) -> str:
        """The tag of both images: 16 hexadecimal characters. Contacts nothing."""
        return serving_context.tag_of(self._contents)

    def reference(self, implementation: str) -> str:
        """Return the image for an implementation. Contacts nothing.

        Raises:
            LookupError: no framework has this implementation.
        """
        wanted = get_served(implementation).image
        return next((self._reference(i) for i in _IMAGES if i.target == wanted), wanted)

    @property
    def is_upstream(self) -> bool:
        """Whether upstream's images serve, and ours are not built."""
        return self._parts.settings.serving.images == "upstream"

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether they have the libraries with which models are trained."""
        return (
            HealthCheck(
                "has_the_libraries_that_train",
                "The images have the versions of the libraries with which models are trained here.",
                self._try_libraries,
            ),
        )

    def _try_libraries(self) -> Finding:
        if self.is_upstream:
            return Finding(passed=True, seen="upstream's images serve; ours are not built")
        images = {image.repository: self._reference(image) for image in _IMAGES}
        return libraries.compare(self._parts.engine, images)

    def observe(self) -> LayerState:
        """Examine whether the engine and every node have both images."""
        try:
            self._parts.api()
            return _UPSTREAM if self.is_upstream else self._look()
        except NotFoundError:
            return Absent()
        except PipelineError as error:
            return Broken.needing_help(str(error))  # A build needs the same to answer.

    def ensure(self) -> Change:
        """Build the images that the engine lacks, and give every node those that it lacks.

        Other layers are brought up at the same time: this one changes nothing that they use.

        Raises:
            ConfigurationError: the base image is not available, or an index needs a password.
            CommandError: a build failed; has the end of its output, and what to do.
            PipelineError: a node did not accept an image.
        """
        if self.is_upstream:
            return Change("unchanged", _UPSTREAM.facts)
        return bring_up(
            self,
            self._parts,
            self._bring_up,
            purpose="build the serving images",
            lock="serving_image",
        )

    def _bring_up(self, steps: Steps) -> Facts:
        self._parts.api()
        self._build(steps)
        with steps.step("load"):
            self._parts.images.ensure_local(*map(self._reference, _IMAGES))
        self._forget()
        return self._facts()

    def remove(self) -> None:
        """Leave them: other clusters of this machine may use them, and the next one will."""

    def describe_left(self) -> tuple[str, ...]:
        """Name the images that the engine keeps; nothing if it has none or does not answer."""
        try:
            left = [r for r in self.references if self._parts.engine.has_image(r)]
        except PipelineError:
            return ()
        where = "the serving images stay in the container engine; remove them with its `image rm`"
        return (f"{where}: {', '.join(left)}",) if left else ()

    @property
    def references(self) -> tuple[str, ...]:
        """Both images. Contacts nothing."""
        return tuple(map(self._reference, _IMAGES))

    def build(self) -> None:
        """Build both images in the engine. Needs no cluster.

        Raises:
            ConfigurationError: the base image is not available, or an index needs a password.
            CommandError: a build failed; has the end of its output, and what to do.
        """
        self._build(Steps(self._parts.clock))

    @cached_property
    def _contents(self) -> Mapping[str, bytes]:
        return serving_context.contents()

    def _reference(self, image: _Image) -> str:
        return f"{self._repository(image)}:{self.tag}"

    def _built(self, image: _Image) -> str:
        """Return the name of an image without a registry."""
        return f"{LOCAL}/{image.repository}:{self.tag}"

    def _repository(self, image: _Image) -> str:
        return self._parts.images.name(image.repository)

    def _look(self) -> LayerState:
        parts = self._parts
        places = parts.images.places()
        if not places:
            return Absent()
        wanted = {image: self._reference(image) for image in _IMAGES}
        built = [image for image in _IMAGES if parts.engine.has_image(self._reference(image))]
        lacking = parts.images.missing(wanted.values())
        everywhere = all(set(lacking.get(place, ())) == set(wanted.values()) for place in places)
        if not built and everywhere:
            return Absent()
        differences = [f"{wanted[i]} is not built" for i in _IMAGES if i not in built]
        differences += [
            f"{place} lacks {reference}"
            for place, references in sorted(lacking.items())
            for reference in sorted(references)
        ]
        return Drifted(tuple(differences)) if differences else Ready(self._facts())

    def _facts(self) -> dict[str, str | int | float]:
        facts: dict[str, str | int | float] = {}
        for image in _IMAGES:
            key = image.target.replace("-", "_")
            facts[key] = self._reference(image)
            facts[f"{key}_mb"] = round(self._parts.engine.image_size(self._reference(image)) / 1e6)
        return facts

    def _build(self, steps: Steps) -> None:
        if not self._lacking():
            return
        with steps.step("archive"):
            self._load_built()
        if not (lacking := self._lacking()):
            return
        arguments = serving_context.arguments(os.environ)
        with steps.step("base"):
            self._ensure_base()
        with temporary_folder("serving") as context:
            serving_context.write(self._contents, context)
            for image in lacking:
                with steps.step(image.target.replace("-", "_")):
                    self._build_one(image, context, arguments)

    def _forget(self) -> None:
        """Remove previous images from the engine, except the last: a rollback needs no build.

        Images of existing containers stay. Nodes remove unused images by themselves.
        """
        engine = self._parts.engine
        found = engine.labelled_images(label=_LABEL)
        for image in _IMAGES:
            built = [r for r in found if r.startswith(f"{self._repository(image)}:")]
            former = [r for r in built if r != self._reference(image)]
            for reference in former[_KEPT:]:
                with suppress(ConflictError):
                    engine.remove_image(reference)

    def _lacking(self) -> list[_Image]:
        engine = self._parts.engine
        return [image for image in _IMAGES if not engine.has_image(self._reference(image))]

    def _load_built(self) -> None:
        """Load existing archives of these images, if there are any, and tag them."""
        engine, local = self._parts.engine, {i: self._built(i) for i in _IMAGES}
        for archive in self._parts.sources.archives(SERVING):
            if set(local.values()) & set(archive.images):
                engine.load(archive.path)
        for image in self._lacking():
            if engine.has_image(local[image]):
                engine.tag(local[image], self._reference(image))

    def _ensure_base(self) -> None:
        """Load the base image from an archive, if there is one; otherwise the build pulls it."""
        engine, sources = self._parts.engine, self._parts.sources
        if engine.has_image(serving_context.BASE):
            return
        for archive in sources.archives(BASE):
            if serving_context.BASE in map(full_reference, archive.images):
                engine.load(archive.path)

    def _build_one(self, image: _Image, context: Path, arguments: Mapping[str, str]) -> None:
        try:
            self._parts.engine.build(
                context,
                dockerfile=context / serving_context.DOCKERFILE,
                tag=self._reference(image),
                timeout=_BUILD_TIMEOUT,
                arguments=arguments,
                labels=MANAGED_BY,
                target=image.target,
                # The build uses this machine's way to the package index, including proxies on it.
                network="host",
            )
        except (CommandError, NotFoundError) as error:
            raise CommandError(
                f"{error}\nThe build starts from {serving_context.BASE} and installs from "
                f"{arguments.get('PIP_INDEX_URL', 'https://pypi.org/simple')}. If one of them "
                "cannot be reached, set HTTPS_PROXY or PIP_INDEX_URL, which are passed to the "
                "build, or set MLOPS_BUNDLE to a bundle with that base image; then repeat "
                "`mlops-pipeline up serving_image`"
            ) from error
