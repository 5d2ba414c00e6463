"""What several groups of commands declare and print alike."""

import sys
from typing import Annotated

import typer
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 200)
"""Standard output."""
Model = Annotated[str, typer.Argument(help="Name of a model or of its deployment.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(*sentences: str) -> None:
    """Print sentences as they are."""
    for sentence in sentences:
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)


def say_waiting(who: str) -> None:
    """Print which process is waited for, to standard error."""
    typer.echo(f"waiting for {who}", err=True)
