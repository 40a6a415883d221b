"""
The upstreams that refuse every flow.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from nanotun.errors import DatagramsUnsupported, UpstreamError, UpstreamRefused
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DatagramLeg, IHealthCheck, IUpstream


@implementer(IUpstream, IHealthCheck)
class RejectUpstream:
    """
    Refuses flows with a reset, so that apps give up at once: every system heeds one,
    and not every system heeds an ICMP "prohibited".
    """

    #: There are no legs.
    sharesLegs = False
    sendsNames = False
    carriesDatagrams = False

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        return fail(UpstreamRefused(f"{destination} is refused, because the proxy is reject://."))

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""
        return fail(DatagramsUnsupported("UDP is refused, because the proxy is reject://."))

    def check(self) -> Deferred[None]:
        """See L{IHealthCheck.check}; refusing never fails."""
        return succeed(None)

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        return False

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return "reject://"


@implementer(IUpstream)
class GoneUpstream:
    """
    Stands for an upstream that a reload has removed while a flow waited for its decision.  The
    flow must not leave by any other.

    @param name: the upstream's, in the settings.
    """

    sharesLegs = False
    sendsNames = False
    carriesDatagrams = False

    def __init__(self, name: str) -> None:
        self._name = name

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        return fail(self._error())

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""
        return fail(self._error())

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        return False

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return f"nothing, as {self._name} is gone"

    def _error(self) -> UpstreamError:
        return UpstreamError(
            f"The upstream {self._name} is gone since the configuration was read again."
        )
