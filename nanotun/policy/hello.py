"""
What rules take for the name in an app's first bytes.
"""

from __future__ import annotations

import re
from typing import Final

from nanotun.addresses import isAddress

#: Stand in the clear where Encrypted Client Hello hides the real name (RFC 9849, section
#: 6.1): each is shared by all customers of a large provider, so it says nothing about where
#: a flow goes.  Others cannot be told from real names, because browsers send the extension
#: with every ClientHello, mostly filled with noise.
PUBLIC_NAMES: Final = ("cloudflare-ech.com",)

#: A host name, with underscores; what is longer is no name (RFC 1035, section 2.3.4).
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


def nameIn(text: bytes, outer: bool) -> str:
    """
    The name that an app says, in lower case without a final dot; empty if it says none.

    @param text: as the app wrote it: any bytes.
    @param outer: whether it may only stand for an encrypted one.
    """
    name = text.decode("latin-1").lower().removesuffix(".")
    if not _NAME.fullmatch(name) or isAddress(name):
        return ""
    return "" if outer and name in PUBLIC_NAMES else name
