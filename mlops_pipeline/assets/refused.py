"""An asset in the graph that shows models that cannot be used. It does not affect the others."""

from collections.abc import Sequence

import dagster as dg

from mlops_pipeline.assets.keys import OWNERS
from mlops_pipeline.catalog.registry import RefusedModel

REFUSED = "refused_models"


def refused_models(platform: str, refused: Sequence[RefusedModel]) -> list[dg.AssetSpec]:
    """Return an asset that is never materialized and says why each model is refused, or none."""
    if not refused:
        return []
    reasons = "\n".join(f"* {model.describe()}" for model in refused)
    return [
        dg.AssetSpec(
            [platform, REFUSED],
            description=f"Registered models that cannot be used. Correct their files.\n\n{reasons}",
            group_name=f"{platform}_{REFUSED}",
            kinds={"python"},
            owners=OWNERS,
        )
    ]
