"""
Rules about names, by real clients: names from fake addresses, from the relay's answers, and from
the first bytes of a flow.
"""

from __future__ import annotations

from tests.e2e.case import engines
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES
from tests.e2e.rules_case import HTTP, OFFICE, USUAL, RulesCase

OUTSIDE = [family.proxyOutside for family in FAMILIES]


class FlowRuleChecks(RulesCase):
    """Each name's flow goes through its own proxy, and nothing goes anywhere else."""

    def assertEachByItsOwn(self, witness: Tcpdump, hidden: bool = False) -> None:
        """Each name is fetched by TLS through its proxy, and one of each kind by plain http."""
        for family in FAMILIES:
            for name in (*OFFICE, *USUAL):
                options = self.hidden(name, family) if hidden else ()
                with self.by(name):
                    told = self.fetch(name, family, *options)
                self.assertEqual(told, "127.0.0.1", f"{name} {family.name}")
            for name in (OFFICE[0], USUAL[0]):
                options = self.hidden(name, family, HTTP) if hidden else ()
                with self.by(name):
                    told = self.fetch(name, family, *options, scheme="http")
                # A proxy that is sent a name takes an address of either version.
                self.assertIn(told, OUTSIDE, f"{name} {family.name}")
        self.assertEqual(witness.destinations(), {})

    def test_fake(self) -> None:
        """With fake addresses each flow has its name."""
        witness = self.witness()
        daemon = self.ruled(dnsMode="fake-ip")
        self.assertEachByItsOwn(witness)
        self.assertEndsWell(daemon)

    def test_relay(self) -> None:
        """Without them the relay's answers are its name."""
        witness = self.witness()
        daemon = self.ruled()
        self.assertEachByItsOwn(witness)
        self.assertEndsWell(daemon)

    def test_sniffed(self) -> None:
        """If nobody was asked for an address, the name comes from TLS and from http."""
        witness = self.witness()
        daemon = self.ruled(sniff=True)
        self.assertEachByItsOwn(witness, hidden=True)
        self.assertEndsWell(daemon)

    def test_unread(self) -> None:
        """Without sniff a flow to such an address has no name, and no rule about names holds."""
        daemon = self.ruled()
        for family in FAMILIES:
            with self.carried(usual=1):
                self.fetch(OFFICE[0], family, *self.hidden(OFFICE[0], family))
        self.assertEndsWell(daemon)


engines(globals(), FlowRuleChecks)
# Otherwise trial would run the base class, too.
del FlowRuleChecks
