"""
Connects to a proxy through another upstream.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nanotun.errors import DestinationSilent, ProxyError, UpstreamError, UpstreamTimeout
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, Via


def openThrough(via: Via, proxy: Endpoint, name: str) -> Deferred[Connection]:
    """
    Connect to a proxy.

    @param proxy: a name is sent as it is, and not looked up here.
    @param name: of the proxy, at the beginning of an error.
    @return: as L{nanotun.interfaces.IUpstream.connect}, but what the upstream says of its
        destination is an error of the proxy, and what is wrong with the upstream itself, or
        with this machine, stays that.
    """
    begin = f"{name} cannot be reached through {via.name}"
    opened = via.upstream.connect(proxy)
    return opened.addCallbacks(_checked, _blamed, callbackArgs=(begin,), errbackArgs=(begin,))


def _checked(connection: Connection, begin: str) -> Connection:
    if connection.http is not None:
        os.close(connection.fd)
        raise ProxyError(f"{begin}, which forbids CONNECT to port 80.")
    return connection


def _blamed(reason: Failure, begin: str) -> Any:
    error = reason.value
    late = isinstance(error, UpstreamTimeout) and not isinstance(error, DestinationSilent)
    # Of no kind: this machine's own trouble, such as too few descriptors.
    ours = type(error) is UpstreamError or not isinstance(error, UpstreamError)
    if late or ours or isinstance(error, ProxyError):
        return reason
    said = str(error)
    raise ProxyError(f"{begin}: {said[:1].lower()}{said[1:]}")
