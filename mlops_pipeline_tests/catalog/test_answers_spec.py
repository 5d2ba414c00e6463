from dataclasses import replace
from typing import Any

import pytest

from mlops_pipeline.catalog.spec import AnswersSpec, InvalidSpecError
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.platforms.answers import ANNOTATION, recording_of
from mlops_pipeline.serving.recording.format import parse
from mlops_pipeline.settings.answers import AnswersSettings
from mlops_pipeline_tests.wine import WINE


def with_answers(answers: Any) -> Any:
    return replace(WINE, server=replace(WINE.server, answers=answers))


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        (AnswersSpec(sample=2), "sample"),
        (AnswersSpec(per_second=0), "per_second"),
        (AnswersSpec(record="no"), "record"),  # type: ignore[arg-type]
        (AnswersSpec(mask=("salary",)), "salary"),
        (AnswersSpec(mask="alcohol"), "mask"),  # type: ignore[arg-type]
        ({"record": False}, "AnswersSpec"),
    ],
)
def test_a_spec_that_would_record_what_nobody_wants_is_refused(answers: Any, named: str) -> None:
    with pytest.raises(InvalidSpecError, match=rf"server\.answers.*{named}"):
        with_answers(answers)


def test_a_spec_reaches_its_servers_and_one_without_changes_no_manifest(tmp_path: Any) -> None:
    ref, settings = ref_to("wine", "d" * 64), AnswersSettings(enabled=True)
    (usual,) = seldon_deployment(WINE, ref, secret="s").spec.predictors
    assert ANNOTATION not in usual.annotations
    column = WINE.dataset.names()[1]
    spec = with_answers(AnswersSpec(mask=(column,), sample=0.5))
    (own,) = seldon_deployment(spec, ref, secret="s").spec.predictors
    found = parse(recording_of(settings, own.annotations, namespace="n", folder=tmp_path))
    assert (found.mask, found.sample) == ((column,), 0.5)
    assert found.columns == WINE.dataset.names()
