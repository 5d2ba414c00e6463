"""Which platforms there are, and how each is made from the settings."""

from pathlib import Path
from pkgutil import iter_modules

from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.settings import Settings

PLATFORMS = ("embedded", "kind", "kubernetes")


def platforms_in_use(settings: Settings) -> tuple[str, ...]:
    """Return the platform that the settings name, and those that the state folder has data of."""
    return tuple(
        name for name in PLATFORMS if name == settings.platform or (settings.home / name).is_dir()
    )


def has_platform(home: Path) -> bool:
    """Say whether a platform of this project made the folder `home`, which has its data."""
    from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
    from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder

    folder = EmbeddedFolder(home) if home.name == "embedded" else ClusterFolder(home)
    return folder.is_prepared()


def layer_names() -> frozenset[str]:
    """Return the names of all layers, on any platform and with any settings.

    On Kubernetes they are the names of the layers' files, and that of the cluster: definitions of
    the embedded platform do not import these layers.
    """
    from mlops_pipeline.platforms.embedded.stack import ROWS
    from mlops_pipeline.platforms.embedded.supervisor import Supervisor

    files = iter_modules([str(Path(__file__).parent / "kubernetes" / "layers")])
    embedded = {Supervisor.name, *(row.name for row in ROWS)}
    return frozenset({"cluster", *embedded, *(file.name for file in files)})


def build_platform(name: str, settings: Settings, *, recreate: bool = False) -> Platform:
    """Return the platform called `name`. Nothing is contacted.

    With `recreate` its cluster is made anew where it differs from the settings.
    """
    home, signing = settings.home / name, Signing(settings.home, settings.signing)
    if name == "embedded":
        from mlops_pipeline.platforms.embedded import EmbeddedOptions, EmbeddedPlatform

        return EmbeddedPlatform(
            home,
            EmbeddedOptions(
                **settings.embedded.model_dump(),
                max_artifact_bytes=settings.max_artifact_bytes,
                answers=settings.answers,
            ),
            bundle=settings.bundle,
            mirror=settings.mirror,
            signing=signing,
        )
    from mlops_pipeline.platforms.kubernetes import KindPlatform, KubernetesPlatform

    if name == "kubernetes":
        return KubernetesPlatform(
            home,
            settings.kubernetes,
            bundle=settings.bundle,
            mirror=settings.mirror,
            signing=signing,
        )
    return KindPlatform(
        home,
        settings.kind,
        bundle=settings.bundle,
        mirror=settings.mirror,
        recreate=recreate,
        signing=signing,
    )
