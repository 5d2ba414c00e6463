import sys
from types import ModuleType

import numpy as np
import pytest

from mlops_pipeline.serving import imports


def test_without_hides_a_library_for_as_long_as_it_lasts() -> None:
    with imports.without("wave"), pytest.raises(ImportError):
        import wave
    import wave

    assert isinstance(wave, ModuleType)


def test_without_leaves_what_is_there() -> None:
    import json

    with imports.without("json"):
        assert sys.modules["json"] is json


def test_a_placeholder_is_imported_and_refuses_to_be_used() -> None:
    with imports.placeholders("nowhere", "nowhere.inside"):
        from nowhere.inside import Thing  # type: ignore[import-not-found]
    assert "nowhere" not in sys.modules
    with pytest.raises(NotImplementedError, match=r"nowhere\.inside\.Thing"):
        Thing()


def test_a_deferred_module_is_imported_when_it_is_used() -> None:
    for name in [name for name in sys.modules if name.startswith("wsgiref")]:
        del sys.modules[name]
    imports.defer("wsgiref.util", functions=("guess_scheme",))
    from wsgiref.util import guess_scheme

    assert type(sys.modules["wsgiref.util"]) is imports.Deferred
    assert guess_scheme({}) == "http"
    import wsgiref.util

    assert type(wsgiref.util) is ModuleType
    assert (
        wsgiref.util.application_uri(
            {"SERVER_NAME": "x", "SERVER_PORT": "80", "wsgi.url_scheme": "http"}
        )
        == "http://x/"
    )


def test_scikit_learn_is_not_searched_for_data_frames_in_an_array() -> None:
    dependencies = pytest.importorskip("narwhals.stable.v2").dependencies
    pandas = pytest.importorskip("pandas")
    imports.import_sklearn()
    for name in ("is_into_dataframe", "is_into_series"):
        know = getattr(dependencies, name)
        assert not know(np.zeros((1, 4)))
        assert know.__wrapped__(np.zeros((1, 4))) is False
    imports.import_sklearn()
    assert not hasattr(dependencies.is_into_dataframe.__wrapped__, "__wrapped__")
    assert dependencies.is_into_dataframe(pandas.DataFrame({"a": [1]}))
    assert dependencies.is_into_series(pandas.Series([1]))
