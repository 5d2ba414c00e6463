"""The one family of errors.

Every message says what was tried, on what, what came back and what to do next::

    PipelineError
    ├── ConfigurationError     bad input: nothing was changed, a retry cannot help
    │   ├── InvalidManifestError   a Kubernetes manifest that is refused, every reason named
    │   └── NotDownloadedError     a pinned file is missing, and may be downloaded
    ├── NotFoundError          no object has this name
    │   └── UnknownNameError       a person wrote the name: a ConfigurationError too
    ├── ConflictError          it exists already, or somebody else owns it
    ├── RefusedError           a blocking check refused it, and nobody accepted that
    ├── IntegrityError         bytes differ from the digest that names them
    ├── CommandError           a program is missing, failed or ran out of time
    ├── UnavailableError       the other side did not answer as it should; a retry may help
    │   ├── AccessDeniedError      it rejects the credentials of the request
    │   └── WaitTimeoutError       it did not become ready in time; has the last state
    └── FatalStateError        a wait that cannot succeed any more
        └── FailedPodError         a pod that cannot become ready; names the pod
"""


class PipelineError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigurationError(PipelineError):
    """Bad input. Nothing was changed and a retry cannot help."""


class InvalidManifestError(ConfigurationError):
    """A Kubernetes manifest that is refused."""


class NotDownloadedError(ConfigurationError):
    """A pinned file is missing, and may be downloaded."""


class NotFoundError(PipelineError):
    """No object has this name."""


class UnknownNameError(NotFoundError, ConfigurationError):
    """A person used an unknown name. Nothing was changed."""


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
        """Exit code; negative: the signal that ended it; None: it did not end by itself."""


class UnavailableError(PipelineError):
    """The other side did not answer as it should. A retry may help."""


class AccessDeniedError(UnavailableError):
    """The other side rejects the credentials of the request."""


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


DAMAGES = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What Python raises when a damaged JSON document is read, or has other fields than expected."""
