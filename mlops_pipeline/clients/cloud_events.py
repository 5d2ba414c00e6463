"""CloudEvents 1.0 over HTTP in binary mode: attributes are headers, and the data is the body.

https://github.com/cloudevents/spec/blob/v1.0/http-protocol-binding.md
"""

import json
import uuid
from collections.abc import Mapping
from urllib.parse import quote

from mlops_pipeline.clients.errors import UnavailableError

_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What a header of an attribute holds as it is; the rest is percent-encoded."""


class EventSender:
    """Posts events to one URL, over one connection where the server keeps it open."""

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        """`timeout` is in seconds and bounds each step of a request. Nothing is contacted."""
        import httpx

        self.url = url
        self._client: httpx.Client = httpx.Client(timeout=timeout, trust_env=False)

    def send(self, kind: str, data: object, attributes: Mapping[str, str]) -> None:
        """Post one event of the type `kind`, with JSON as its data.

        Raises:
            UnavailableError: the receiver did not accept it.
        """
        import httpx

        said = {"id": uuid.uuid4().hex, "specversion": "1.0", "type": kind, **attributes}
        headers = {f"ce-{name}": quote(text, safe=_SAFE) for name, text in said.items()}
        headers["content-type"] = "application/json"
        try:
            answer = self._client.post(self.url, content=json.dumps(data), headers=headers)
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"could not post an event to {self.url}: {type(error).__name__}: {error}"
            ) from error
        if answer.status_code >= 400:
            raise UnavailableError(
                f"could not post an event to {self.url}: it answered {answer.status_code}"
            )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
