"""The two kinds of errors: a request that cannot be answered, a server that cannot start."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The process's exit codes; `python -m mlops_pipeline.serving --help` prints them."""

    OK = 0
    """Stopped by a signal after answering all requests, or the rows were predicted."""
    SETTINGS = 2
    """An option, a variable or a parameter has an invalid value."""
    ARTIFACT = 3
    """The artifact does not match its manifest."""
    MODEL = 4
    """The artifact is valid, but its model does not load or does not answer."""
    PORT = 5
    """A port is in use or not allowed."""
    ROWS = 6
    """`predict`: the rows cannot be read, or the model refuses them."""


class StartError(Exception):
    """The server cannot start. The text is one sentence for its operator."""

    def __init__(self, sentence: str, *, code: ExitCode) -> None:
        super().__init__(sentence)
        self.code = code


class RequestError(Exception):
    """A request that gets an error instead of a prediction.

    `reason` is a constant for programs (`WRONG_SHAPE`), the text a sentence for people, `status` an
    HTTP status; gRPC uses the equivalent of it.
    """

    def __init__(self, reason: str, sentence: str, *, status: int = 400) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status

    @property
    def sentence(self) -> str:
        """What is wrong with the request, and what is expected."""
        return str(self)
