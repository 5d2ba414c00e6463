import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mlops_pipeline.serving import imports
from mlops_pipeline_tests.serving.servers import ROOT


def test_without_hides_a_library_for_as_long_as_it_lasts() -> None:
    with imports.without("wave"), pytest.raises(ImportError):
        import wave
    import wave

    assert isinstance(wave, ModuleType)


def test_without_keeps_imported_modules() -> None:
    import json

    with imports.without("json"):
        assert sys.modules["json"] is json


def test_a_placeholder_is_imported_and_refuses_to_be_used() -> None:
    with imports.placeholders("nowhere", "nowhere.inside"):
        from nowhere.inside import Thing  # type: ignore[import-not-found]
    assert "nowhere" not in sys.modules
    with pytest.raises(NotImplementedError, match=r"nowhere\.inside\.Thing"):
        Thing()


@pytest.fixture
def forgotten() -> None:
    for name in [name for name in sys.modules if name.startswith("wsgiref")]:
        del sys.modules[name]


@pytest.mark.usefixtures("forgotten")
def test_a_deferred_module_is_imported_when_it_is_used() -> None:
    with imports.deferred("wsgiref.util", functions=("guess_scheme",)):
        import wsgiref.util as waiting
        from wsgiref.util import guess_scheme
    assert type(waiting) is imports.Deferred
    assert "wsgiref.util" not in sys.modules
    assert guess_scheme({}) == "http"
    assert waiting.is_hop_by_hop("Te")
    import wsgiref.util

    assert type(wsgiref.util) is ModuleType


@pytest.mark.usefixtures("forgotten")
def test_a_deferred_module_that_is_used_at_once_stays() -> None:
    with imports.deferred("wsgiref.util"):
        import wsgiref.util as waiting

        assert waiting.is_hop_by_hop("Te")
        assert type(sys.modules["wsgiref.util"]) is ModuleType
    assert type(sys.modules["wsgiref.util"]) is ModuleType


AFTER_SKLEARN = """
import importlib, sys
from mlops_pipeline.serving import imports
imports.import_sklearn()
left = [n for n, m in sys.modules.items() if m is None or isinstance(m, imports.Deferred)]
assert not left, left
assert not {"pandas", "scipy.stats"} & sys.modules.keys()
# A submodule before its package, which is what unpickling does.
assert importlib.import_module("scipy.stats._continuous_distns").uniform
import numpy, pandas, scipy.stats, sklearn.inspection, sklearn.preprocessing
assert numpy.f2py and scipy.stats.uniform(0, 1).mean() == 0.5 and pandas.DataFrame
assert sklearn.preprocessing.PowerTransformer().fit_transform([[1.0], [2.0], [4.0]]).shape == (3, 1)
"""


STUCK = """
import os, sys, threading
from pathlib import Path
from mlops_pipeline.serving.imports import load_unlocked
library = Path(sys.argv[1])
os.mkfifo(library)
loader = threading.Thread(target=load_unlocked, args=(library,))
loader.start()
library.open("wb").close()  # Waits until the dynamic linker opens it, and the linker for this.
loader.join()
"""


def test_other_threads_run_while_a_library_is_loaded(tmp_path: Path) -> None:
    program = [sys.executable, "-c", STUCK, str(tmp_path / "library.so")]
    subprocess.run(program, check=True, cwd=ROOT, timeout=60)


@pytest.mark.embedded
def test_after_the_import_everything_is_real() -> None:
    subprocess.run([sys.executable, "-c", AFTER_SKLEARN], check=True, cwd=ROOT, timeout=60)


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
