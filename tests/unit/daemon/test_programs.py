"""Tests of L{nanotun.daemon.programs}, and of upstreams with fields in their user names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.settings import Settings
from nanotun.daemon.programs import valuesOf
from nanotun.daemon.upstreams import Upstreams
from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.linux.users import nameOf
from nanotun.log.trouble import TroubleLog
from nanotun.testing.names import FakeNames
from nanotun.upstream.group.perprogram import PROGRAMS_LIMIT
from nanotun.upstream.pool.pool import WarmPool
from tests.unit.daemon.test_upstreams import settingsOf

HERE, ELSEWHERE = "198.18.0.2", "192.168.7.9"
CURL = Owner(5, 0, "curl", "/usr/bin/curl")
FIELDS = ("user", "uid", "process", "source")


def flowFrom(host: str) -> Flow:
    """A flow from this machine or another."""
    return Flow(1, Protocol.TCP, Endpoint(host, 40000), Endpoint("203.0.113.7", 443))


class ValuesTests(SynchronousTestCase):
    """L{valuesOf}."""

    def values(
        self, decision: Decision, host: str = HERE, fields: Any = FIELDS, **known: str
    ) -> dict[str, str]:
        """The values for a flow from a host."""
        found = valuesOf(fields, decision, flowFrom(host), HERE.__eq__, known)
        self.assertEqual([name for name, _ in found], sorted(fields))
        return dict(found)

    def test_owner(self) -> None:
        """A flow has its owner's values, as far as they are known, and never another's."""
        decision = Decision(Verdict.PROXY, "#1", owner=CURL)
        self.assertEqual(
            self.values(decision),
            {"user": nameOf(0), "uid": "0", "process": "curl", "source": "local"},
        )
        unknown = self.values(decision._replace(owner=None), ELSEWHERE)
        self.assertEqual(unknown, {"user": "", "uid": "", "process": "", "source": ELSEWHERE})
        self.assertEqual(self.values(decision, fields=("uid",)), {"uid": "0"})

    def test_known(self) -> None:
        """What is known of every flow needs no owner."""
        found = self.values(Decision(Verdict.PROXY, "#1"), user="ann", uid="1000", process="curl")
        self.assertEqual(
            found, {"user": "ann", "uid": "1000", "process": "curl", "source": "local"}
        )

    def test_script(self) -> None:
        """A script gives values of its own."""
        decision = Decision(Verdict.PROXY, "script", values=(("session", "bank"),))
        self.assertEqual(
            self.values(decision, fields=("session", "uid")), {"session": "bank", "uid": ""}
        )


class ProgramsTests(SynchronousTestCase):
    """L{Upstreams} with fields in user names."""

    def made(self, settings: Settings) -> Upstreams:
        """The upstreams of these settings."""
        clock = Clock()
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        return Upstreams(settings, clock, FakeNames(), TroubleLog(clock, log), isLocal=HERE.__eq__)

    def leaving(self, upstreams: Upstreams, name: str, owner: Owner | None = CURL) -> Any:
        """The upstream of a process's flow."""
        decision = Decision(Verdict.PROXY, "#1", upstream=name, owner=owner)
        return upstreams.leaving(decision, flowFrom(HERE))

    def ownOf(self, upstream: Any) -> list[Any]:
        """A program's upstreams, one for each proxy."""
        return list(upstream._own.values())

    def loginOf(self, upstream: Any) -> Any:
        """The user name that an upstream of one proxy logs in with."""
        return upstream._handshakes.connect(Endpoint("192.0.2.1", 443))._credentials[0].decode()

    def test_own(self) -> None:
        """Each program has its own log-in, and what nanotun itself sends has nanotun's."""
        upstreams = self.made(settingsOf("h", upstreams="tor=socks5://{uid}-{process}:x@t"))
        curl = self.leaving(upstreams, "tor")
        wget = self.leaving(upstreams, "tor", Owner(6, 0, "wget"))
        self.assertIs(self.leaving(upstreams, "tor"), curl)
        self.assertIsNot(curl, wget)
        logins = [self.loginOf(*self.ownOf(each)) for each in (curl, wget)]
        logins.append(self.loginOf(*upstreams.single["tor"]))
        # A value is marked where another one could seem to begin in it.
        ends = [login.rpartition("-")[2] for login in logins]
        self.assertEqual(ends, ["curl", "wget", "nanotun"])
        self.assertEqual(curl.describe(), "socks5://{uid}-{process}:***@t:1080")
        self.assertEqual(upstreams.reports()["tor"]["programs"], 2)
        self.assertIs(upstreams.reports()["proxy"]["programs"], None)

    def test_unknown(self) -> None:
        """A flow whose process is not known goes by a log-in that no program has."""
        upstreams = self.made(settingsOf("socks5://{process}:x@t"))
        decision = Decision(Verdict.PROXY, "default")
        unknown = upstreams.leaving(decision, flowFrom(ELSEWHERE))
        self.assertEqual(self.loginOf(*self.ownOf(unknown)), "unknown")

    def test_common(self) -> None:
        """A proxy without fields in its user name is common to all programs of its group."""
        upstreams = self.made(settingsOf("h", upstreams="tor=socks5://{uid}:x@t,tor=http://b"))
        own, common = self.ownOf(self.leaving(upstreams, "tor"))
        group = cast(Any, upstreams.byName["tor"])
        self.assertIs(common, group.members.all[1].upstream)
        self.assertIsNot(own, group.members.all[0].upstream)

    def test_chain(self) -> None:
        """A program is dialled through its own log-in at the upstream before, if it has one."""
        settings = settingsOf("h", upstreams="tor=socks5://{uid}:x@t,deep=socks5://{process}:y@b")
        tor, deep = settings.upstreams
        upstreams = self.made(replace(settings, upstreams=(tor, deep._replace(via="tor"))))
        (curl,) = self.ownOf(self.leaving(upstreams, "deep"))
        (wget,) = self.ownOf(self.leaving(upstreams, "deep", Owner(6, 0, "wget")))
        self.assertIsNot(curl, wget)
        before = curl._context.via.upstream
        self.assertIs(before, wget._context.via.upstream)
        self.assertIs(before, self.leaving(upstreams, "tor"))
        (first,) = upstreams.single["deep"]
        self.assertIs(cast(Any, first)._context.via.upstream, upstreams.byName["tor"])

    def test_chainOnly(self) -> None:
        """So it is if only the upstream before has fields."""
        settings = settingsOf("h", upstreams="tor=socks5://{process}:x@t,deep=socks5://b")
        tor, deep = settings.upstreams
        upstreams = self.made(replace(settings, upstreams=(tor, deep._replace(via="tor"))))
        (curl,) = self.ownOf(self.leaving(upstreams, "deep"))
        self.assertIs(curl._context.via.upstream, self.leaving(upstreams, "tor"))

    def test_pools(self) -> None:
        """A program has few connections in stock; they are given up in another network."""
        settings = settingsOf("h", upstreams="tor=socks5://{process}:x@t", upstreamPool="8")
        upstreams = self.made(settings)
        (own,) = self.ownOf(self.leaving(upstreams, "tor"))
        self.assertEqual(own._context.poolSize, 2)
        moved: list[WarmPool] = []
        self.patch(WarmPool, "networkMoved", lambda pool: moved.append(pool))
        upstreams.networkMoved()
        self.assertIn(own.pool, moved)
        self.assertEqual(len(moved), 3)

    def test_full(self) -> None:
        """If there are too many programs, the log says so."""
        upstreams = self.made(settingsOf("h", upstreams="tor=socks5://{process}:x@t"))
        for number in range(PROGRAMS_LIMIT + 1):
            self.leaving(upstreams, "tor", Owner(6, 0, f"program{number}"))
        self.assertEqual(
            [formatEvent(event) for event in self.logged],
            [
                "The upstream tor has more than 64 programs at a time; the one that was silent "
                "for longest gets new connections."
            ],
        )

    def test_addresses(self) -> None:
        """The name of a proxy is looked up once for all programs."""
        upstreams = self.made(settingsOf("h", upstreams="tor=socks5://{process}:x@t"))
        (own,) = self.ownOf(self.leaving(upstreams, "tor"))
        (common,) = upstreams.single["tor"]
        self.assertIs(own._addresses, cast(Any, common)._addresses)
