"""Tests of L{nanotun.doctor.upstreams.ProxyCheck} with what HTTP proxies say at a CONNECT."""

from __future__ import annotations

from twisted.internet.task import Clock

from nanotun.doctor.finding import Level
from nanotun.doctor.upstreams import ProxyCheck
from nanotun.errors import AuthenticationError, HandshakeError
from nanotun.flow import Endpoint
from nanotun.testing import FakeUpstream
from tests.unit.doctor.doctor_cases import CheckCase
from tests.unit.doctor.peer_cases import QUESTION

SERVER = Endpoint("127.0.0.1", 53)


class FaultTests(CheckCase):
    """What is wrong whatever the destination is."""

    def test_faults(self) -> None:
        """
        An HTTP proxy that refuses the log-in, or is none, is one failure, which says so, with a
        target and without.
        """
        login = AuthenticationError("The proxy wants a password; put it in the URL.")
        nonsense = HandshakeError("The proxy speaks no HTTP; check its port.")
        target = Endpoint("example.org", 443)
        for error, to in ((login, None), (login, target), (nonsense, None), (nonsense, target)):
            upstream = FakeUpstream("http://proxy:3128")
            upstream.carriesDatagrams = False
            check = ProxyCheck(upstream, Clock(), to, SERVER, QUESTION)
            done = check.run()
            upstream.answerCheck()
            for _ in upstream.asked:
                upstream.fail(error)
            found = self.successResultOf(done)
            self.assertSentences(found, check)
            levels = [Level.OK, Level.FAIL, Level.INFO]
            self.assertEqual([each.level for each in found], levels, found)
            self.assertEqual(found[1].text, str(error))
