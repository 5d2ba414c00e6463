"""Refuses phrases that are hard to read, in the texts that users see. `make check` runs it."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PHRASES = {
    r"\b(?:is|are|was|were) asked for\b": "required, requested, expected",
    r"\b(?:go|goes|gone|going|went) on (?:with|from)\b": "continue, resume",
    r"(?<!there )\b(?:is|are) (?:no|none)\b(?! longer)": "is not a, expected … but got …",
    r"\b(?:what|that|which) (?:is|are) there\b": "existing",
    r"\bmend(?:s|ed|ing)?\b": "fix, correct, repair",
    r"\bended at\b": "limit: … is killed",
    r"\b(?:of|is) somebody else's\b": "of somebody else",
    r"\bbroke off\b|\bbroken off\b": "was interrupted",
    r"\btak(?:es|en) up\b": "adopt, resume",
    r"\bby right\b": "legitimately",
    r"\bends for good\b": "does not restart",
    r"\bcomes? to nothing\b": "fails",
    r"\bmade anew\b|\bwritten anew\b": "created again, written again",
}
_GENERATED = ("docs/benchmarks.md",)


def find(text: str) -> Iterator[tuple[str, str]]:
    """Yield each refused phrase in `text`, with what to write instead."""
    for pattern, instead in _PHRASES.items():
        for found in re.finditer(pattern, text, flags=re.IGNORECASE):
            yield found.group(), instead


def texts_of_page(page: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each paragraph, without code, which may quote anything."""
    prose = re.sub(r"^```.*?^```$|`[^`]*`", _blank, page, flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.finditer(r"(?:.+\n?)+", prose):
        yield 1 + prose.count("\n", 0, paragraph.start()), " ".join(paragraph.group().split())


def _blank(code: re.Match[str]) -> str:
    return "`" + "\n" * code.group().count("\n")


def texts_of_source(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each string; of docstrings only a command's, which `--help` shows."""
    tree = ast.parse(source)
    hidden = {id(part) for node in ast.walk(tree) for part in _hidden(node)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _hidden(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of an f-string, and strings that stand for themselves, but a command's."""
    if isinstance(node, ast.JoinedStr):
        yield from node.values
    commands = isinstance(node, ast.FunctionDef) and any(
        ".command(" in ast.unparse(decorator) for decorator in node.decorator_list
    )
    body = getattr(node, "body", None)
    for part in body if isinstance(body, list) else ():
        if isinstance(part, ast.Expr) and not commands:
            yield part.value


def faults(root: Path) -> Iterator[str]:
    """Yield a sentence for each refused phrase in the pages and the package below `root`."""
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    for path in sorted([*pages, *root.glob("mlops_pipeline/**/*.py")]):
        name = path.relative_to(root).as_posix()
        if name in _GENERATED:
            continue
        texts = texts_of_page if path.suffix == ".md" else texts_of_source
        for line, text in texts(path.read_text()):
            for phrase, instead in find(text):
                yield f'{name}:{line}: "{phrase}" is hard to read; write: {instead}'


if __name__ == "__main__":
    found = list(faults(ROOT))
    sys.exit("\n".join(found) if found else 0)
