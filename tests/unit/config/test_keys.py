"""Tests of L{nanotun.config.keys}."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.keys import KEYS
from nanotun.config.proxykeys import PROXIES, optionLines
from nanotun.interfaces import Option
from nanotun.upstream.scheme import FILE, Scheme


class OptionLinesTests(SynchronousTestCase):
    """L{optionLines}."""

    def test_lines(self) -> None:
        """Each option is shown once, with the first scheme that has it."""
        keep = cast(Any, None)
        option = Option("WORD", keep, help="say a word")
        one = Scheme("one", keep, options={"say": option, "quiet": Option("1", keep)})
        ca = FILE._replace(help="trust them " * 5, example="/etc/ssl/proxy.pem")
        two = Scheme("two", keep, options={"say": option, "ca": ca})
        self.assertEqual(
            optionLines([one, two]).split("\n"),
            [
                "  one://host?say=WORD                say a word",
                "  one://host?quiet=1",
                "  two://host?ca=/etc/ssl/proxy.pem   trust them trust them trust them trust",
                "                                     them trust them",
            ],
        )
        self.assertEqual(optionLines([]), "")

    def test_proxies(self) -> None:
        """nanotun's own schemes say what each of their options does, in the sample file."""
        doc = KEYS["proxy"].doc
        for scheme in PROXIES:
            for name, option in scheme.options.items():
                self.assertTrue(option.help, (scheme.name, name))
                self.assertEqual(doc.count(f"://host?{name}="), 1, name)
