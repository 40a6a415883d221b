"""
The check of plain http through an HTTP proxy.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import inlineCallbacks
from zope.interface import implementer

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection
from nanotun.upstream.httpproxy import FORBIDDING, PORT, HttpUpstream


@implementer(ICheck)
class PlainHttpCheck:
    """
    Whether a proxy connects to port 80 of a host, or takes requests for it.

    @param name: of the check.
    """

    def __init__(self, upstream: HttpUpstream, host: str, name: str = "proxy") -> None:
        self.name = name
        self._upstream = upstream
        self._host = host

    @inlineCallbacks
    def run(self) -> Any:
        """See L{ICheck.run}."""
        what, host = self._upstream.describe(), self._host
        try:
            connection: Connection = yield self._upstream.connect(Endpoint(host, PORT))
        except UpstreamError as error:
            if error.status not in FORBIDDING:
                text = f"{what} does not connect to port {PORT} of {host}: {error}"
                return [Finding(self.name, Level.INFO, text)]
            return [
                Finding(
                    self.name,
                    Level.WARN,
                    f"Plain http from {host} does not work through {what}: {error}",
                    "Try another --target; if all fail, look at the proxy's rules.",
                )
            ]
        os.close(connection.fd)
        if connection.http is None:
            text = f"{what} connects to port {PORT} of {host}."
            return [Finding(self.name, Level.OK, text)]
        return [
            Finding(
                self.name,
                Level.INFO,
                f"{what} forbids CONNECT to port {PORT}, so plain http is sent to it as requests "
                "to a proxy.",
                f"For WebSockets and other protocols on port {PORT}, allow CONNECT to that port in "
                "the proxy's configuration.",
            )
        ]
