"""
TLS by the native library, for connections of this process with or without an engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from nanotun.engine import abi
from nanotun.engine.ondemand import OnDemand
from nanotun.interfaces import ITls


@implementer(ITls)
class NativeTls(OnDemand):
    """See L{ITls}."""

    def number(
        self, authorities: bytes, insecure: bool, host: str, protocols: Sequence[str]
    ) -> int:
        """See L{ITls.number}."""
        result = self.library.ns_tls(
            authorities, len(authorities), insecure, host.encode(), ",".join(protocols).encode()
        )
        return abi.check(result, "ns_tls")

    def secure(self, fd: int, number: int, early: bytes) -> int:
        """See L{ITls.secure}."""
        return abi.check(self.library.ns_secure(fd, number, early, len(early)), "ns_secure")

    def socketOf(self, fd: int) -> int:
        """See L{ITls.socketOf}."""
        return abi.check(self.library.ns_lent_socket(fd), "ns_lent_socket")
