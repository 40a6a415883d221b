"""
Reads a hosts file (hosts(5)): an address on each line, and the names that it has.
"""

from __future__ import annotations

from ipaddress import ip_address

from nanotun.gateway.dns.addresses import checkName
from nanotun.gateway.dns.message import AAAA, A


class HostsTable:
    """
    The names and addresses of a hosts file.  A name may have several addresses, in the order of
    the file; an address has the first name that is given to it.

    Addresses with a zone, such as C{fe80::1%lo0}, mean nothing to another program and are left
    out, as is what is no address or no host's name.

    @param text: the file's.
    """

    def __init__(self, text: str = "") -> None:
        self._addresses: dict[str, dict[int, list[bytes]]] = {}
        self._lines: dict[str, int] = {}
        self._names: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.partition("#")[0].split()
            if len(words) > 1:
                self._add(number, *words)

    def _add(self, number: int, host: str, *names: str) -> None:
        try:
            address = ip_address(host)
        except ValueError:
            return
        if "%" in host:
            return
        kind = A if address.version == 4 else AAAA
        for given in names:
            name = checkName(given.lower().rstrip(".").encode("ascii", "replace"))
            if not name:
                continue
            self._lines.setdefault(name, number)
            self._names.setdefault(address.reverse_pointer, name)
            found = self._addresses.setdefault(name, {A: [], AAAA: []})[kind]
            if address.packed not in found:
                found.append(address.packed)

    def of(self, name: str, kind: int) -> list[bytes] | None:
        """
        The addresses of a name.

        @param name: in lower case, without the final dot.
        @param kind: the type of record: A, AAAA, or another, of which there are none.
        @return: packed; L{None} if the name is not in the file.
        """
        found = self._addresses.get(name)
        return None if found is None else found.get(kind, [])

    def nameOf(self, pointer: str) -> str:
        """
        The name of an address.

        @param pointer: what a query for it asks for, such as C{1.0.0.10.in-addr.arpa}.
        @return: empty if the address is not in the file.
        """
        return self._names.get(pointer, "")

    def lineOf(self, name: str) -> int:
        """The line on which a name that is in the file stands first."""
        return self._lines[name]
