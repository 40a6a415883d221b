"""
Tells whether an address is this machine's own: packets from other machines are not
answered.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable

from nanotun.addresses import KERNEL4, KERNEL6

#: Seconds for which an answer is used at most.  A machine gains and loses addresses, but
#: L{Locality.forget} is called then.
MAX_AGE = 60.0

#: Addresses that are remembered, in some 2 MB.  If there are more, somebody makes them up.
LIMIT = 16384

#: Addresses that no machine has (RFC 5737, RFC 3849): if a socket can be bound to these,
#: it can be bound to any address.
_NOBODY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}

#: The kernel's addresses on the device.  They count although the device may be in another
#: network namespace than this process.  No other machine can send packets from them: a
#: kernel drops packets that claim to come from itself.
DEVICE = tuple(address.partition("/")[0] for address in (KERNEL4, KERNEL6))

#: The kernel's errors for an address that is not its own, for one that needs a scope, and
#: for a family that it does not have.
_FOREIGN = (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT)

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


Probes = dict[int, socket.socket]


class Locality:
    """
    Asks the kernel, and remembers each answer for L{MAX_AGE}.

    @param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._known: dict[str, tuple[bool, float, int]] = {}
        self._changes = 0
        self._probes: Probes = {}

    def forget(self) -> None:
        """Addresses may have changed: ask the kernel anew."""
        self._changes += 1

    def isLocal(self, host: str) -> bool:
        """
        Whether C{host} is one of this machine's addresses.

        @param host: a literal address.  One with a scope, or that needs a scope, counts as
            another machine's.
        """
        if host in DEVICE:
            return True
        now = self._seconds()
        known, asked, changes = self._known.get(host, (False, -MAX_AGE, -1))
        if changes == self._changes and asked <= now < asked + MAX_AGE:
            return known
        try:
            known = isOwnAddress(host, self._probes)
        except OSError:
            # The last answer is better than none, and the next call asks again.
            return known
        if len(self._known) >= LIMIT:
            self._known.clear()
        self._known[host] = known, now, self._changes
        return known


def isOwnAddress(host: str, probes: Probes | None = None) -> bool:
    """
    Whether a socket can be bound to C{host} because it is this machine's.

    With C{ip_nonlocal_bind} set a socket can be bound to any address.  Then the source
    address decides that the kernel chooses for packets to C{host}: to itself a machine
    talks from the same address.

    @param probes: keeps an unbound socket of each family for the next question, which then takes
        one system call; L{None} to keep none.
    @raise OSError: it cannot be found out now, for example without file descriptors.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        return False
    # First, as this is all that most addresses need.
    if not _canBind(family, host, probes):
        return False
    address = ipaddress.ip_address(host)
    # Sockets can be bound to these as well.
    if address.is_unspecified or address.is_multicast or address == _BROADCAST:
        return False
    return not _canBind(family, _NOBODY[family]) or _talksToItself(family, host)


def _canBind(family: int, host: str, probes: Probes | None = None) -> bool:
    probe = None if probes is None else probes.pop(family, None)
    try:
        if probe is None:
            probe = socket.socket(family, socket.SOCK_DGRAM)
        probe.bind((host, 0))
    except OSError as error:
        if error.errno not in _FOREIGN:
            raise
        if probe is not None and probes is not None:
            # Still unbound, it serves the next question.
            probes[family], probe = probe, None
        return False
    finally:
        if probe is not None:
            probe.close()
    return True


def _talksToItself(family: int, host: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == host)
