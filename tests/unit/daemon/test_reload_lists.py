"""Tests of L{nanotun.daemon.reload} with lists in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanotun.daemon import lists as module
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.policy.listfile import NameLines
from tests.unit.daemon.test_reload import LiveCase


class ListTests(LiveCase):
    """L{Live}, with rules about lists."""

    def withList(self, text: str) -> tuple[Path, str]:
        """A daemon with a rule about a list; returns the list's path, and the configuration."""
        path = Path(f"{self.path}.list")
        path.write_text(text)
        configuration = f"proxy: h:1\nrules: [{{to: direct, domains: 'file:{path}'}}]\n"
        self.write(configuration)
        self.live = self.makeLive()
        return path, configuration

    def test_list(self) -> None:
        """Another version of a list is a change of the rules, and the same one is none."""
        path, configuration = self.withList("a.test\n")
        before = self.live.current
        self.assertEqual(self.live.reload()["changed"], [])
        self.assertIs(self.live.current, before)
        path.write_text("b.test\nc.test\nx y\n")
        answer = self.live.reload()
        self.assertEqual(answer["changed"], ["rules"])
        self.assertIn(f"{path}, line 3 is left out", " ".join(answer["warnings"]))
        self.assertIsNot(self.live.current.judge, before.judge)
        names = self.live.current.lists.lists.names[str(path)]
        self.assertEqual((names.find("b.test"), names.find("a.test")), ("b.test", ""))
        # With a change of something else, it is still what it was.
        self.write(f"{configuration}lan: proxy\n")
        self.assertEqual(self.live.reload()["changed"], ["lan"])
        self.assertIs(self.live.current.lists.lists.names[str(path)], names)
        path.write_text("d.test\n")
        self.write(configuration)
        self.assertEqual(self.live.reload()["changed"], ["lan", "rules"])

    def test_dnsRules(self) -> None:
        """A list that C{dnsRules} alone name changes those, and what they say of names."""
        path = Path(f"{self.path}.list")
        path.write_text("a.test\n")
        configuration = f"proxy: h:1\ndnsRules: [{{domains: 'file:{path}', answer: refuse}}]\n"
        self.write(configuration)
        self.live = self.makeLive()
        before = self.live.current.names
        self.assertEqual(self.live.reload()["changed"], [])
        path.write_text("b.test\n")
        self.assertEqual(self.live.reload()["changed"], ["dnsRules"])
        names = self.live.current.names
        self.assertFalse(names.sameServers(before))
        self.assertIsNotNone(names.of("x.b.test").answer)
        self.assertIsNone(names.of("x.a.test").answer)
        self.assertEqual(self.router.rulesChanges, 0)
        # Once both are about it, it is a change of both.
        self.write(f"{configuration}rules: [{{to: reject, domains: 'file:{path}'}}]\n")
        self.assertEqual(self.live.reload()["changed"], ["rules"])
        path.write_text("c.test\n")
        self.assertEqual(self.live.reload()["changed"], ["dnsRules", "rules"])

    def test_rejected(self) -> None:
        """Names that the rules reject are known, as of the start, and then of the reload."""
        rules = "rules: [{to: reject, domains: ads.test}]\n"
        self.write(f"proxy: h:1\n{rules}dnsRejected: refuse\n")
        self.live = self.makeLive()
        self.write(f"proxy: h:1\n{rules.replace('ads', 'bad')}dnsRejected: refuse\n")
        self.live.reload()
        names = self.live.current.names
        self.assertEqual((names.of("bad.test").rejected, names.of("ads.test").rejected), (1, 0))
        self.write(f"proxy: h:1\n{rules}")
        self.live.reload()
        self.assertFalse(self.live.current.names)

    def test_counted(self) -> None:
        """The router counts anew for other rules, and goes on counting for the same ones."""
        path, configuration = self.withList("a.test\n")
        for text, changes in (
            (f"lan: proxy\n{configuration}", 0),
            (configuration.replace("direct", "reject"), 1),
            (f"# Lines have moved.\n{configuration.replace('direct', 'reject')}", 1),
            ("proxy: h:1\n", 2),
        ):
            self.write(text)
            self.live.reload()
            self.assertEqual(self.router.rulesChanges, changes, text)
        self.write(configuration)
        self.live.reload()
        path.write_text("b.test\n")
        self.assertEqual(self.live.reload()["changed"], ["rules"])
        self.assertEqual(self.router.rulesChanges, 3)

    def test_decides(self) -> None:
        """The judge decides by the lists: those of the start, and then those of the reload."""
        path = Path(f"{self.path}.list")
        path.write_text("192.0.2.0/24\n")
        self.write(f"proxy: h:1\nrules: [{{to: reject, networks: 'file:{path}'}}]\n")
        self.live = self.makeLive()
        flow = Flow(1, Protocol.TCP, Endpoint("127.0.0.1", 4000), Endpoint("192.0.2.7", 443))
        for text, expected in (("", "#1"), ("192.0.3.0/24\n", "reserved"), ("192.0.2.7\n", "#1")):
            if text:
                path.write_text(text)
                self.live.reload()
            decision: Any = self.live.current.judge.judge(flow)
            self.assertEqual(decision.rule, expected)

    def test_readOnce(self) -> None:
        """A changed list is read once for a reload, since nothing is decided meanwhile."""
        path, _ = self.withList("a.test\n")
        read: list[str] = []

        def counted(path: str, size: int) -> NameLines:
            read.append(path)
            return NameLines(path, size)

        self.patch(module, "NameLines", counted)
        path.write_text("b.test\n")
        self.live.reload()
        self.assertEqual(read, [str(path)])

    def test_badList(self) -> None:
        """A list that is broken, or gone, changes nothing."""
        path, configuration = self.withList("a.test\n")
        before = self.inForce()
        self.write(f"{configuration}lan: proxy\n")
        path.write_text("<html>\n")
        error = self.assertRaises(ConfigError, self.live.reload)
        self.assertIn(f"{path} is no list of names", str(error))
        path.unlink()
        error = self.assertRaises(ConfigError, self.live.reload)
        self.assertIn(f"check the path in {self.path}, line 2.", str(error))
        self.assertEqual(self.inForce(), before)
