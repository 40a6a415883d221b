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
    return addressIn(host) is not None


def addressIn(host: bytes | None) -> str | None:
    """
    The address in the header C{Host}, in lower case and without its port, or C{localhost}.

    @param host: the header's value; L{None} without one.
    @return: L{None} if it has anything else.
    """
    if host is None:
        return None
    text = host.decode("latin-1").strip().lower()
    name, colon, port = text.rpartition(":")
    if colon and not text.endswith("]"):
        if not (port.isascii() and port.isdigit()):
            return None
    else:
        name = text
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
        return name if ":" in name and isAddress(name) else None
    return name if name == LOCALHOST or (":" not in name and isAddress(name)) else None


def hasToken(authorization: bytes | None, token: str) -> bool:
    """
    Whether the header C{Authorization} has the token (RFC 6750, section 2.1).

    @param authorization: the header's value; L{None} without one.
    """
    scheme, _, given = (authorization or b"").strip().partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode())
