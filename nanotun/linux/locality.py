"""
Whether an address is this machine's own: what comes from elsewhere is not
answered.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable

from nanotun.addresses import KERNEL4, KERNEL6

#: Seconds that an answer is used: addresses come and go.
MAX_AGE = 5.0

#: Addresses that are remembered.  When there are more, somebody makes them up.
LIMIT = 256

#: Nobody's addresses (RFC 5737, RFC 3849): what can be bound to these says nothing.
_NOBODY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}

#: The kernel's on the device.  The device may be in a namespace where this process
#: is not, and nobody else's packets carry these: a kernel drops what claims to come
#: from itself.
DEVICE = tuple(address.partition("/")[0] for address in (KERNEL4, KERNEL6))

#: What the kernel says of an address that is not its own, of one that needs a scope,
#: and of a family that it does not have.
_FOREIGN = (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT)

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


class Locality:
    """
    Asks the kernel, and remembers for a while.

    @param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._known: dict[str, tuple[bool, float]] = {}

    def isLocal(self, host: str) -> bool:
        """
        Whether C{host} is one of this machine's addresses.

        @param host: a literal address.  One with a scope, or that needs one, is
            taken for somebody else's.
        """
        if host in DEVICE:
            return True
        now = self._seconds()
        known, asked = self._known.get(host, (False, -MAX_AGE))
        if asked <= now < asked + MAX_AGE:
            return known
        try:
            known = isOwnAddress(host)
        except OSError:
            # The last answer is better than none, and the next query asks again.
            return known
        if len(self._known) >= LIMIT:
            self._known.clear()
        self._known[host] = known, now
        return known


def isOwnAddress(host: str) -> bool:
    """
    Whether a socket can be bound to C{host} because it is this machine's.

    With C{ip_nonlocal_bind} set a socket can be bound to any address.  Then
    the kernel's choice of source for a way to C{host} is asked for: to itself it
    talks from the same address.

    @raise OSError: it cannot be found out now: there are no file descriptors, say.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # These can be bound as well.
    if address.is_unspecified or address.is_multicast or address == _BROADCAST:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    if not _canBind(family, host):
        return False
    return not _canBind(family, _NOBODY[family]) or _talksToItself(family, host)


def _canBind(family: int, host: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        if error.errno in _FOREIGN:
            return False
        raise
    return True


def _talksToItself(family: int, host: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == host)
