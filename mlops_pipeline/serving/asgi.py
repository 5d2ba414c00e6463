"""The types of an ASGI application."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ANSWERING = "mlops_pipeline.answering"
"""Key in a scope: the task that answers the request. It is cancelled if the client disconnects."""
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
