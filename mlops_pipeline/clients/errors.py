"""The one family of errors.

Every message says what was tried, on what, what was seen and what to do next::

    PipelineError
    ├── ConfigurationError     bad input: nothing was changed, a retry cannot help
    │   ├── InvalidManifestError   a Kubernetes manifest that is refused, every reason named
    │   └── NotDownloadedError     something pinned is not here, and may be downloaded
    ├── NotFoundError          the thing asked for by name does not exist
    │   └── UnknownNameError       a person wrote the name: a ConfigurationError too
    ├── ConflictError          it exists already, or somebody else owns it
    ├── RefusedError           a blocking check refused it, and nobody accepted that
    ├── IntegrityError         bytes differ from the digest that names them
    ├── CommandError           a program is missing, failed or ran out of time
    ├── UnavailableError       the other side did not answer as it should; a retry may help
    │   ├── AccessDeniedError      it refuses the keys that it was asked with
    │   └── WaitTimeoutError       it did not become ready in time; holds what was last seen
    └── FatalStateError        a wait that cannot succeed any more
        └── FailedPodError         a pod that cannot become ready; holds which one
"""


class PipelineError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigurationError(PipelineError):
    """Bad input. Nothing was changed and a retry cannot help."""


class InvalidManifestError(ConfigurationError):
    """A Kubernetes manifest that is refused."""


class NotDownloadedError(ConfigurationError):
    """Something pinned is not here yet, and may be downloaded."""


class NotFoundError(PipelineError):
    """The thing asked for by name does not exist."""


class UnknownNameError(NotFoundError, ConfigurationError):
    """A person asked for something by a name that nothing has. Nothing was changed."""


class ConflictError(PipelineError):
    """The thing exists already, or somebody else owns it."""


class RefusedError(PipelineError):
    """A blocking check refused the artifact, and nobody has accepted that."""


class IntegrityError(PipelineError):
    """Bytes differ from the digest that names them."""


class CommandError(PipelineError):
    """A program is missing, failed or ran out of time."""

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        """With which it ended by itself; below 0: by that signal; None: it did not."""


class UnavailableError(PipelineError):
    """The other side did not answer as it should. A retry may help."""


class AccessDeniedError(UnavailableError):
    """The other side refuses the keys that it was asked with."""


class WaitTimeoutError(UnavailableError):
    """Something did not become ready in time."""


class FatalStateError(PipelineError):
    """A wait that cannot succeed any more, ended early."""


class FailedPodError(FatalStateError):
    """A pod that cannot become ready."""

    def __init__(self, message: str, *, uid: str) -> None:
        super().__init__(message)
        self.uid = uid
        """The identity of the pod."""
