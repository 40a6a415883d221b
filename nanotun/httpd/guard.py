"""
Who gets an answer: whoever sends the token, to an address and not to a name.
"""

from __future__ import annotations

import hmac

from nanotun.addresses import isAddress

LOCALHOST = "localhost"


def namesAddress(host: bytes | None) -> bool:
    """
    Whether the header C{Host} has an address, or C{localhost}.  A page of the web that has its
    name lead to this machine has the browser send that name (DNS rebinding).

    @param host: the header's value; L{None} without one.
    """
    if host is None:
        return False
    text = host.decode("latin-1").strip().lower()
    name, colon, port = text.rpartition(":")
    if colon and not text.endswith("]"):
        if not (port.isascii() and port.isdigit()):
            return False
    else:
        name = text
    if name.startswith("[") and name.endswith("]"):
        return ":" in name and isAddress(name[1:-1])
    return name == LOCALHOST or (":" not in name and isAddress(name))


def hasToken(authorization: bytes | None, token: str) -> bool:
    """
    Whether the header C{Authorization} has the token (RFC 6750, section 2.1).

    @param authorization: the header's value; L{None} without one.
    """
    scheme, _, given = (authorization or b"").strip().partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode())
