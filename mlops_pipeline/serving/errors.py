"""The two families of errors: a request that cannot be answered, a server that cannot start."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process's exit code means; `python -m mlops_pipeline.serving --help` prints them."""

    OK = 0
    """Stopped by a signal after finishing what was in flight, or the rows were predicted."""
    SETTINGS = 2
    """An option, a variable or a parameter has a value that cannot be used."""
    ARTIFACT = 3
    """The artifact is not what its manifest says."""
    MODEL = 4
    """The artifact is whole, but the model in it does not load or does not answer."""
    PORT = 5
    """A port is taken or may not be used."""
    ROWS = 6
    """`predict`: the rows cannot be read, or the model refuses them."""


class StartError(Exception):
    """The server cannot start. The text is one sentence for the person who starts it."""

    def __init__(self, sentence: str, *, code: ExitCode) -> None:
        super().__init__(sentence)
        self.code = code


class RequestError(Exception):
    """A request that gets an answer with an error status instead of a prediction.

    `reason` is a constant for programs (`WRONG_SHAPE`), the text a sentence for people, `status`
    an HTTP status; gRPC answers the equivalent of it.
    """

    def __init__(self, reason: str, sentence: str, *, status: int = 400) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status

    @property
    def sentence(self) -> str:
        """What is wrong with the request, and what would be right."""
        return str(self)
