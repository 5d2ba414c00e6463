"""Addresses in messages and records: without passwords and signatures."""

import re

_WITHOUT_QUERY = ("gs", "s3", "file")
"""Schemes in which `?` and `#` belong to the name."""


def shown(uri: str) -> str:
    """Return a URI without a password or a signature; a path as it is."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    if scheme.lower() not in _WITHOUT_QUERY:
        rest = re.split("[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
