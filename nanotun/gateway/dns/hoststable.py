"""
Reads a hosts file (hosts(5)): an address on each line, and the names that it has.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from socket import AF_INET, AF_INET6, inet_pton

from nanotun.gateway.dns.addresses import checkName
from nanotun.gateway.dns.message import AAAA, A

#: Addresses of one name; no program tries more, and no answer has to hold more.
ADDRESSES_LIMIT = 64


class HostsTable:
    """
    The names and addresses of a hosts file.  A name may have several addresses, in the order of
    the file, L{ADDRESSES_LIMIT} at most; an address has the first name that is given to it.

    Addresses with a zone, such as C{fe80::1%lo0}, mean nothing to another program and are left
    out, as is what is no address or no host's name.

    @param data: what is in the file.
    """

    def __init__(self, data: bytes = b"") -> None:
        # By name.
        self._addresses: dict[bytes, tuple[bytes, ...]] = {}
        self._lines: dict[bytes, int] = {}
        # By address.
        self._names: dict[bytes, bytes] = {}
        # Lists of blocked names give one address to all of them.
        known: dict[bytes, tuple[bytes, ...]] = {}
        for number, line in enumerate(BytesIO(data.lower()), start=1):
            words = line.partition(b"#")[0].split()
            if len(words) < 2:
                continue
            host = words[0]
            packed = known.get(host)
            if packed is None:
                packed = known[host] = _packed(host)
            if not packed:
                continue
            for word in words[1:]:
                name = word.removesuffix(b".")
                before = self._addresses.setdefault(name, packed)
                if (
                    before is not packed
                    and len(before) < ADDRESSES_LIMIT
                    and packed[0] not in before
                ):
                    self._addresses[name] = before + packed
                self._lines.setdefault(name, number)
            self._names.setdefault(packed[0], words[1].removesuffix(b"."))

    def of(self, name: str, kind: int) -> list[bytes] | None:
        """
        The addresses of a name.

        @param name: in lower case, without the final dot.
        @param kind: the type of record: A, AAAA, or another, of which there are none.
        @return: packed; L{None} if the name is not in the file.
        """
        found = self._addresses.get(name.encode())
        size = {A: 4, AAAA: 16}.get(kind)
        return None if found is None else [each for each in found if len(each) == size]

    def nameOf(self, pointer: str) -> str:
        """
        The name of an address.

        @param pointer: what a query for it asks for, in lower case, such as
            C{1.0.0.10.in-addr.arpa}.
        @return: as from L{checkName}; empty if the address is not in the file.
        """
        packed = _pointedTo(pointer)
        return checkName(self._names.get(packed, b""))

    def ruleOf(self, name: str) -> str:
        """Where a name that is in the file stands first, for the user."""
        return f"/etc/hosts, line {self._lines[name.encode()]}"


def _packed(host: bytes) -> tuple[bytes, ...]:
    """An address as a record has it, alone; nothing if it is none."""
    try:
        text = host.decode("ascii")
        return (inet_pton(AF_INET6 if ":" in text else AF_INET, text),)
    except (OSError, ValueError):
        return ()


def _pointedTo(pointer: str) -> bytes:
    """
    The address whose name a query asks for (RFC 1035, section 3.5; RFC 3596, section 2.5), packed;
    empty if it asks for something else.
    """
    labels = pointer.split(".")[::-1]
    with suppress(OSError, ValueError):
        if labels[:2] == ["arpa", "in-addr"] and len(labels) == 6:
            return inet_pton(AF_INET, ".".join(labels[2:]))
        if labels[:2] == ["arpa", "ip6"] and len(labels) == 34:
            return bytes.fromhex("".join(labels[2:]))
    return b""
