"""Skips the imports that a model server never needs, which are half of its start-up time.

Measured on two cores: `import tensorflow` 9.2 s → 3.4 s (it imports all of Keras, which imports
pandas, matplotlib and scikit-learn; loading a SavedModel needs none), scikit-learn and a pipeline
3.2 s → 1.3 s.

There are three methods. All are undone after the import, so that a model that itself imports one of
these libraries gets the real one:

* `without`: an import fails as if the library were not installed; the importing library supports
  that.
* `placeholders`: an import returns a module of unusable objects, for libraries that import what
  they need only with a setting that our servers never enable.
* `deferred`: an import returns a module that imports the real one at its first use.
"""

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TENSORFLOW_WITHOUT = ("keras", "h5py", "pandas", "scipy", "matplotlib", "sklearn")
"""TensorFlow runs without each of these; a SavedModel contains a graph, not Keras layers."""
TENSORFLOW_LIBRARY = "libtensorflow_cc.*"
"""686 MB: seconds of the dynamic linker's time, and more from a slow disk."""
TENSORFLOW_PLACEHOLDERS = ("requests",)
"""Clients of a cloud's metadata, for training on many machines."""

SKLEARN_WITHOUT = ("pandas", "rich")
"""scikit-learn runs without these; rows are numpy arrays."""
BOOSTED_WITHOUT = ("pandas", "sklearn", "matplotlib", "pyarrow", "dask", "graphviz")
"""XGBoost and LightGBM run without these, in a third of the memory and a fifth of the time."""
SKLEARN_USUAL = ("sklearn.pipeline", "sklearn.preprocessing", "sklearn.linear_model")
"""The parts of most models, which import `scipy.stats` for a few methods."""


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Let the import of `names` fail as if they were not installed; already imported ones stay."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def placeholders(*names: str) -> Iterator[None]:
    """Let the import of `names` return a placeholder; already imported ones stay."""
    added = [name for name in names if name not in sys.modules]
    sys.modules.update({name: Placeholder(name) for name in added})
    try:
        yield
    finally:
        for name in added:
            sys.modules.pop(name, None)


class Placeholder(ModuleType):
    """A module in which every attribute is a class that cannot be used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Return a class of that name; special names are absent, as in an ordinary module."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Refusing,), {"__module__": self.__name__})


class _Refusing:
    """An object that a server without this feature must never create."""

    def __init__(self, *_: object, **__: object) -> None:
        kind = type(self)
        raise NotImplementedError(
            f"{kind.__module__}.{kind.__qualname__} is not part of this server (see {__name__})"
        )


class Deferred(ModuleType):
    """A module that is imported when one of its attributes is first used.

    Unlike `importlib.util.LazyLoader`, it stays deferred when it is imported again, and importing
    one of `functions` by name gives a function that loads the module when it is called.
    """

    def __init__(self, name: str, functions: tuple[str, ...]) -> None:
        super().__init__(name)
        self.__spec__ = importlib.util.find_spec(name)
        self.__path__ = (
            list(self.__spec__.submodule_search_locations or ()) if self.__spec__ else []
        )
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        """Return a deferred function, or import the real module and return its attribute."""
        if name in self._functions:
            return lambda *values, **options: getattr(self._load(), name)(*values, **options)
        return getattr(self._load(), name)

    def _load(self) -> ModuleType:
        """Import the real module and return it."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)


@contextlib.contextmanager
def deferred(name: str, *, functions: tuple[str, ...] = ()) -> Iterator[None]:
    """Defer the import of the submodule `name` until its use; an already imported one stays.

    Later imports get the real one: otherwise its submodules could not be imported.
    """
    if name in sys.modules:
        yield
        return
    parent, _, child = name.rpartition(".")
    owner, waiting = importlib.import_module(parent), Deferred(name, functions)
    sys.modules[name] = waiting
    setattr(owner, child, waiting)
    try:
        yield
    finally:
        if sys.modules.get(name) is waiting:
            del sys.modules[name]
        if vars(owner).get(child) is waiting:
            delattr(owner, child)


def import_sklearn() -> None:
    """Import what most models of scikit-learn need; `scipy.stats` is deferred.

    (`from numpy import *`, which scipy does, imports the Fortran compiler's wrapper.)
    """
    with (
        deferred("numpy.f2py"),
        deferred("scipy.stats", functions=("gmean", "rankdata")),
        without(*SKLEARN_WITHOUT),
    ):
        for name in SKLEARN_USUAL:
            importlib.import_module(name)
    _know_arrays()


def _know_arrays() -> None:
    """Tell scikit-learn's use of narwhals at once that an array is not a data frame.

    A prediction of a pipeline of two asks narwhals six times, and narwhals each time looks through
    every library of data frames: half of the time of a prediction of one row.
    """
    import numpy

    library = sys.modules.get("narwhals.stable.v2.dependencies")
    for name in ("is_into_dataframe", "is_into_series"):
        search = getattr(library, name, None)
        if search is not None and not hasattr(search, "__wrapped__"):
            setattr(library, name, _unless(numpy.ndarray, search))


def _unless(kind: type, search: Callable[[object], bool]) -> Callable[[object], bool]:
    """Return `search`, but it answers no for objects of exactly `kind`."""

    @functools.wraps(search)
    def answer(value: object) -> bool:
        return type(value) is not kind and search(value)

    return answer


def import_boosted(name: str) -> ModuleType:
    """Import XGBoost or LightGBM without the libraries that only training needs, and return it.

    Raises:
        ImportError: it is not installed, or the system lacks OpenMP, which it needs.
    """
    try:
        with without(*BOOSTED_WITHOUT):
            return importlib.import_module(name)
    except ImportError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[:1]
        raise ImportError(
            f"{' '.join(reason)} (it needs OpenMP: the package libgomp1 of Debian and Ubuntu, "
            "libgomp of Fedora, libomp of Homebrew)"
        ) from error


def import_tensorflow() -> ModuleType:
    """Import TensorFlow without Keras and its imports, and return it."""
    spec = importlib.util.find_spec("tensorflow")
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in Path(folder).glob(TENSORFLOW_LIBRARY):
            load_unlocked(library)
    with without(*TENSORFLOW_WITHOUT), placeholders(*TENSORFLOW_PLACEHOLDERS):
        return importlib.import_module("tensorflow")


def load_unlocked(library: Path) -> None:
    """Load a shared library while other threads run; if it fails, its import will say why.

    An import holds the interpreter's lock while the dynamic linker works. During that time, the
    event loop could answer neither a health check nor a SIGTERM.
    """
    load = ctypes.CDLL(None).dlopen
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    load(os.fsencode(library), os.RTLD_NOW | os.RTLD_LOCAL)
