"""Files that tools write beside a model: caches, version control, and a desktop's own files."""

_FOLDERS = frozenset(
    {
        *("__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache", ".ruff_cache"),
        *(".git", ".hg", ".svn", ".idea", ".vscode", "__MACOSX", ".Trashes", ".Spotlight-V100"),
    }
)
_FILES = frozenset(
    {".DS_Store", "Thumbs.db", "desktop.ini", ".git", ".gitignore", ".gitattributes"}
)
_BEGINNING = "._"
"""How macOS names a file with the attributes of another."""


def is_by_product(name: str, *, folder: bool) -> bool:
    """Say whether a file or a folder of this name is never part of a model.

    A submodule of Git has a file `.git`.
    """
    return name in _FOLDERS if folder else name in _FILES or name.startswith(_BEGINNING)
