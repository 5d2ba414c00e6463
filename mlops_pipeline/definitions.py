"""The composition root: one Definitions per platform, named in workspace.yaml."""

import mlops_pipeline.garbage  # noqa: F401  # First, for the imports that follow.

# isort: split

import dagster as dg

from mlops_pipeline.assets.layers import layer_asset, layer_checks
from mlops_pipeline.assets.models import assets_of_models, checks_of_models
from mlops_pipeline.assets.refused import refused_models
from mlops_pipeline.automation.executor import make_executor
from mlops_pipeline.automation.jobs import make_jobs
from mlops_pipeline.automation.schedules import make_schedules
from mlops_pipeline.automation.sensors import make_sensors
from mlops_pipeline.catalog.registry import Catalog, load_catalog
from mlops_pipeline.platforms.build import layer_names, platforms_in_use
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.resources.references import ReferenceIOManager
from mlops_pipeline.settings import Settings, load_settings


def make_definitions(
    resource: PlatformResource, *, catalog: Catalog, settings: Settings
) -> dg.Definitions:
    """Return the assets, checks, jobs, schedules and sensors of one platform.

    Steps of a run share one process: they wait for other processes, and starting Python once per
    step would cost more than all of them.
    """
    platform = resource.build()
    name, models = platform.name, catalog.models
    return dg.Definitions(
        assets=[
            *(layer_asset(platform, layer) for layer in platform.layers),
            *assets_of_models(platform, models, settings=settings),
            *refused_models(name, catalog.refused),
        ],
        asset_checks=[*layer_checks(platform), *checks_of_models(name, models)],
        jobs=make_jobs(name, models),
        schedules=make_schedules(name, models),
        sensors=make_sensors(name, models),
        resources={"platform": resource, "io_manager": ReferenceIOManager()},
        executor=make_executor(settings),
    )


def embedded() -> dg.Definitions:
    """Return the code location `embedded`."""
    return location("embedded")


def kind() -> dg.Definitions:
    """Return the code location `kind`."""
    return location("kind")


def kubernetes() -> dg.Definitions:
    """Return the code location `kubernetes`."""
    return location("kubernetes")


def location(platform: str) -> dg.Definitions:
    """Return the code location of a platform, as the settings describe it.

    It is empty for a platform that nobody uses: workspace.yaml names all of them, and assets that
    were never materialized would ask for attention.
    """
    if platform not in platforms_in_use(load_settings()):
        return dg.Definitions()
    settings = load_settings(platform=platform)
    return make_definitions(
        PlatformResource.of(platform, settings),
        catalog=load_catalog(
            settings.models,
            datasets=settings.datasets,
            namespace=settings.models_namespace,
            reserved=layer_names(),
        ),
        settings=settings,
    )
