"""
Who is at the other end of a unix socket.
"""

from __future__ import annotations

import socket
import struct
from typing import Any


def peerUid(transport: Any) -> int:
    """The peer's uid, which the kernel recorded when it connected (C{struct ucred})."""
    credentials = transport.socket.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    uid: int = struct.unpack("3i", credentials)[1]
    return uid
