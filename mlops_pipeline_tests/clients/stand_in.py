"""A program of a test's own making, in the place of one that is missing."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SOURCE = """
import json, os, sys
from pathlib import Path

folder = Path({folder!r})
arguments = sys.argv[1:]
reads = {reads!r}
stdin = sys.stdin.read() if any(word in arguments for word in reads) else ""
call = {{"arguments": arguments, "stdin": stdin, "environment": dict(os.environ)}}
number = len(list(folder.iterdir()))
(folder / f"call-{{number:04}}.json").write_text(json.dumps(call))
for words, code, output, errors in json.loads((folder / "answers").read_text()):
    if all(word in arguments for word in words):
        sys.stdout.write(output)
        sys.stderr.write(errors)
        sys.exit(code)
"""


@dataclass(frozen=True)
class Answer:
    """What the program does when all `words` are among its arguments."""

    words: Sequence[str]
    output: str = ""
    errors: str = ""
    code: int = 0


@dataclass(frozen=True)
class Call:
    """How the program was called."""

    arguments: list[str]
    stdin: str
    environment: dict[str, str]


class StandIn:
    """A program at `path` that answers by the first fitting of `answers` and records its calls.

    It reads its standard input where one of the words `reads` is among its arguments.
    """

    def __init__(
        self, path: Path, answers: Sequence[Answer] = (), *, reads: Sequence[str] = ()
    ) -> None:
        self.path = path
        self._folder = path.with_name(f"{path.name}.calls")
        self._folder.mkdir()
        (self._folder / "answers").write_text(
            json.dumps([[list(a.words), a.code, a.output, a.errors] for a in answers])
        )
        source = path.with_name(f"{path.name}.py")
        source.write_text(_SOURCE.format(folder=str(self._folder), reads=list(reads)))
        # The kernel knows no interpreter whose path has a space.
        words = shlex.join([sys.executable, "-IS", str(source)])
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[Call]:
        """How it was called, in that order."""
        files = sorted(self._folder.glob("call-*.json"))
        return [Call(**json.loads(path.read_text())) for path in files]
