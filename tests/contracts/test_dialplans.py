"""Every upstream that has dial plans keeps their contract, and so does the fake."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from tempfile import mkdtemp

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from nanotun.interfaces import IUpstream, UpstreamContext
from nanotun.log.trouble import TroubleLog
from nanotun.router.named import NamedUpstream
from nanotun.testing import FakeNames, PlannedFakeUpstream
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.perprogram import PerProgram
from nanotun.upstream.group.policies import POLICIES
from nanotun.upstream.group.sole import SoleUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.contracts.dialplans import SECRET, DialPlanContract
from tests.unit.upstream.upstream_cases import FakeReactor, unmarkedContext

TIMEOUT = 10.0
INTERVAL = 30.0

#: Of proxies at a port of this machine.
URLS = (
    "socks5://127.0.0.1:{port}",
    "socks5://ann:{secret}@127.0.0.1:{port}",
    "socks5://ann:{secret}@127.0.0.1:{port}?pipeline=1",
    "socks5h://127.0.0.1:{port}",
    "socks5://[::1]:{port}",
    "socks5://{folder}/proxy",
    "socks4://127.0.0.1:{port}",
    "socks4://ann@127.0.0.1:{port}",
    "socks4a://127.0.0.1:{port}",
    "http://127.0.0.1:{port}",
    "http://ann:{secret}@127.0.0.1:{port}?pipeline=1",
)


class DialPlansCase(SynchronousTestCase):
    """What the upstreams here are made with."""

    reactor: FakeReactor
    port: int

    def context(self) -> UpstreamContext:
        """One whose sockets the engine may make."""
        return unmarkedContext(self.reactor, TIMEOUT)._replace(mark=0)

    def proxy(self, url: str = URLS[0]) -> IUpstream:
        """The upstream of a URL."""
        text = url.format(port=self.port, secret=SECRET, folder=self.folder)
        parsed = parseProxyURL(text)
        return parsed.scheme.make(parsed, self.context())

    @property
    def folder(self) -> str:
        """One where no proxy listens."""
        found = mkdtemp()
        self.addCleanup(os.rmdir, found)
        return found

    def trouble(self) -> TroubleLog:
        """A log."""
        trouble = TroubleLog(self.reactor, Logger(namespace="test"))
        self.addCleanup(trouble.stop)
        return trouble


class SingleDialPlanTests(DialPlanContract, DialPlansCase):
    """Upstreams without any others inside."""

    def makers(self) -> dict[str, Callable[[], IUpstream]]:
        """See L{DialPlanContract.makers}."""
        return {
            "direct": lambda: DirectUpstream(self.context()),
            "fake": PlannedFakeUpstream,
            **{url: partial(self.proxy, url) for url in URLS},
        }


class NamedDialPlanTests(DialPlanContract, DialPlansCase):
    """L{NamedUpstream}."""

    def makers(self) -> dict[str, Callable[[], IUpstream]]:
        """See L{DialPlanContract.makers}."""
        return {
            f"{kind} {sends}": partial(self.named, upstream, sends)
            for kind, upstream in (
                ("proxy", self.proxy),
                ("direct", lambda: DirectUpstream(self.context())),
            )
            for sends in (False, True)
        }

    def named(self, make: Callable[[], IUpstream], sends: bool) -> IUpstream:
        """One around an upstream that this makes."""
        names = FakeNames()
        names.known = {"192.0.2.1": "www.example", "2001:db8::1": "x" * 300}
        return NamedUpstream(make(), names, self.reactor, TIMEOUT, sends)


class GroupedDialPlanTests(DialPlanContract, DialPlansCase):
    """Groups, single upstreams whose health is known, and those with a log-in per program."""

    def makers(self) -> dict[str, Callable[[], IUpstream]]:
        """See L{DialPlanContract.makers}."""
        return {
            "sole": self.sole,
            **{policy: partial(self.group, policy) for policy in POLICIES},
            "program of one": lambda: self.program(self.sole()),
            "program of group": lambda: self.program(self.group()),
        }

    def sole(self) -> SoleUpstream:
        """A single one."""
        return SoleUpstream(self.proxy(), self.reactor, TIMEOUT, INTERVAL, self.trouble())

    def group(self, policy: str = "failover") -> GroupUpstream:
        """A group whose second member is silent."""
        members = [self.proxy(), PlannedFakeUpstream()]
        return GroupUpstream(members, policy, self.reactor, TIMEOUT, INTERVAL, self.trouble())

    def program(self, group: GroupUpstream) -> IUpstream:
        """That of one program."""
        own = [self.proxy(URLS[1]), PlannedFakeUpstream()][: len(group.members.all)]
        programs = PerProgram(group, lambda values, services: own, lambda: None)
        return programs.upstreamOf((("process", "curl"),))
