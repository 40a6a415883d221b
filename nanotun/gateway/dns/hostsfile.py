"""
Follows C{/etc/hosts}.

The file is looked at while somebody asks, once a second at most, and read again when it is
another one: written to, renamed over, mounted over, or gone, which is as good as empty.  So is
one that cannot be read, which is tried again and reported.
"""

from __future__ import annotations

from collections.abc import Callable

from nanotun.gateway.dns.hoststable import HostsTable
from nanotun.linux.stamp import Stamp, stampAt

HOSTS = "/etc/hosts"

#: Seconds for which what is known of the file is used.
MAX_AGE = 1.0

#: Bytes.  Reading that many takes some 0.4 s, in which nothing else happens.
HOSTS_BYTES = 8 << 20


class HostsFile:
    """
    See the module.

    @param report: is given a sentence for the user about a file that cannot be used.
    """

    def __init__(self, report: Callable[[str], None], path: str = HOSTS) -> None:
        self._report = report
        self._path = path
        self._table = HostsTable()
        self._stamp: Stamp | None = None
        self._looked = -MAX_AGE

    def table(self, now: float) -> HostsTable:
        """
        What the file says; another object once it says something else.

        @param now: seconds, of any clock.
        """
        if not 0 <= now - self._looked < MAX_AGE:
            self._looked = now
            stamp = stampAt(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._table = HostsTable(self._read())
        return self._table

    def _read(self) -> bytes:
        try:
            with open(self._path, "rb") as file:
                data = file.read(HOSTS_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            # Perhaps only for lack of file descriptors, so that the next look may do.
            self._stamp = None
            self._report(
                f"{self._path} cannot be read ({error.strerror}), so its names are left to the "
                "servers; make it readable, or set hosts: false."
            )
            return b""
        if len(data) > HOSTS_BYTES:
            self._report(
                f"{self._path} is longer than 8 MiB and is not used; put its names into a list, "
                "and name that in dnsRules."
            )
            return b""
        return data
