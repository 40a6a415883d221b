"""
Tests of L{nanotun.upstream.plugin} and L{nanotun.upstream.schemes.table}: schemes of
other packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.logger import LogLevel, globalLogPublisher
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import ConfigError
from nanotun.interfaces import IScheme, IUpstream, ProxyURL, UpstreamContext
from nanotun.upstream import plugin
from nanotun.upstream.plugin import FoundSchemes, SchemePlugin, sortPlugins
from nanotun.upstream.reject import RejectUpstream
from nanotun.upstream.scheme import Scheme
from nanotun.upstream.schemes.table import BUILT_IN, SchemeTable
from tests import ROOT
from tests.unit.upstream.upstream_cases import FakeReactor, unmarkedContext

#: What the C{nanotun} command runs.
COMMAND = "import sys; from nanotun.console import main; sys.exit(main())"


def make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
    """A constructor that needs nothing."""
    return RejectUpstream()


def scheme(name: Any) -> SchemePlugin:
    """A scheme of another package."""
    return SchemePlugin(name, make, defaultPort=7070)


class SchemePluginTests(SynchronousTestCase):
    """L{SchemePlugin}."""

    def test_provides(self) -> None:
        """It is a scheme, and a plugin that Twisted finds."""
        line = scheme("line")
        verifyObject(IScheme, line)
        verifyObject(IPlugin, line)
        self.assertEqual(repr(line), "<SchemePlugin line>")

    def test_constructor(self) -> None:
        """A constructor's own error comes through, and any other becomes one sentence."""

        def broken(url: ProxyURL, context: UpstreamContext) -> IUpstream:
            raise error

        line = SchemePlugin("line", broken, defaultPort=7070)
        url = ProxyURL(line, "h", 7070, "ann", "hunter2")
        context = unmarkedContext(FakeReactor())
        error: Exception = ConfigError("The file is no good.")
        self.assertIs(self.assertRaises(ConfigError, line.make, url, context), error)
        error = ImportError("No module\nnamed line.")
        self.assertEqual(
            str(self.assertRaises(ConfigError, line.make, url, context)),
            "The plugin for line:// cannot make the upstream line://ann:***@h:7070 "
            "(ImportError: No module named line); correct the plugin.",
        )
        self.assertEqual(len(self.flushLoggedErrors(ImportError)), 1)


class SortPluginsTests(SynchronousTestCase):
    """L{sortPlugins}."""

    def test_good(self) -> None:
        """Schemes are found by their names."""
        line, other = scheme("line"), scheme("x-1.a+b")
        found = sortPlugins([line, other], ["socks5"])
        self.assertEqual(found, FoundSchemes({"line": line, "x-1.a+b": other}, ()))

    def test_bad(self) -> None:
        """What is no scheme, or has a name that it may not have, stops no other one."""
        for bad, complaint in (
            (scheme("socks5"), "may not replace nanotun's own socks5://"),
            (scheme("Line"), "has the name 'Line'"),
            (scheme("a" * 17), "no scheme can have"),
            (scheme(None), "has the name None"),
            (object(), "the plugin object does not provide all of IScheme"),
        ):
            line = scheme("line")
            found = sortPlugins([bad, line], ["socks5"])
            self.assertEqual(found.schemes, {"line": line})
            (trouble,) = found.troubles
            self.assertIn(complaint, trouble)

    def test_twice(self) -> None:
        """Of two schemes of one name neither is used, whichever was found first."""
        other = scheme("other")
        found = sortPlugins([scheme("line"), other, scheme("line"), scheme("line")], [])
        self.assertEqual(found.schemes, {"other": other})
        (trouble,) = found.troubles
        self.assertIn("more than one plugin registers line://", trouble)


class SchemeTableTests(SynchronousTestCase):
    """L{SchemeTable}."""

    def setUp(self) -> None:
        """A table whose search finds what the test says."""
        self.searches = 0
        self.found = FoundSchemes({}, ())
        self.patch(plugin, "findSchemes", self.search)
        self.table = SchemeTable(BUILT_IN)

    def search(self, taken: Any) -> FoundSchemes:
        """Instead of L{plugin.findSchemes}."""
        self.assertEqual(set(taken), {each.name for each in BUILT_IN})
        self.searches += 1
        return self.found

    def test_builtIn(self) -> None:
        """For nanotun's own schemes, and for what no scheme can be, nothing is searched."""
        for text in ("h", "socks5://h", "HTTPS://h", "direct://"):
            self.table.parse(text)
        for text in ("direct", "Hunter2@ann://h", "://h", f"{'a' * 17}://h"):
            self.assertRaises(ConfigError, self.table.parse, text)
        self.assertEqual(self.searches, 0)

    def test_found(self) -> None:
        """A scheme of another package is searched for once."""
        line = scheme("line")
        self.found = FoundSchemes({"line": line}, ())
        for _ in range(2):
            url = self.table.parse("line://h")
            self.assertEqual(url, ProxyURL(line, "h", 7070))
        self.assertEqual(self.searches, 1)

    def test_foundInSpite(self) -> None:
        """What is wrong with other plugins is a warning where the scheme was found."""
        events: list[Any] = []
        add: Any = events.append
        globalLogPublisher.addObserver(add)
        self.addCleanup(globalLogPublisher.removeObserver, add)
        self.found = FoundSchemes({"line": scheme("line")}, ("the plugin x is broken",))
        self.table.parse("line://h")
        (event,) = events
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertEqual(event["trouble"], "the plugin x is broken")

    def test_unknown(self) -> None:
        """An unknown scheme is an error with all that there are and what is wrong; it may
        be installed later."""
        self.found = FoundSchemes({"line": scheme("line")}, ("the plugin x is broken",))
        text = str(self.assertRaises(ConfigError, self.table.parse, "lime://h"))
        self.assertTrue(text.endswith("reject://, line://, not lime://; the plugin x is broken"))
        self.found = FoundSchemes({"lime": scheme("lime")}, ())
        self.assertEqual(self.table.parse("lime://h").scheme.name, "lime")


class SearchTests(SynchronousTestCase):
    """The search in C{twisted.plugins}, by the command, in a process of its own."""

    def setUp(self) -> None:
        """An empty directory that Python looks into."""
        self.path = Path(self.mktemp()).resolve()
        self.plugins = self.path / "twisted" / "plugins"
        self.plugins.mkdir(parents=True)

    def check(self, url: str) -> tuple[int, str]:
        """The status and the output of C{nanotun check}."""
        config = self.path / "nanotun.yaml"
        config.write_text(f"proxy: {url}\n")
        config.chmod(0o600)
        path = os.pathsep.join((str(self.path), str(ROOT)))
        found = subprocess.run(
            [sys.executable, "-c", COMMAND, "check", str(config)],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return found.returncode, found.stdout

    def test_broken(self) -> None:
        """A plugin that cannot be loaded is a part of one sentence, and stops no other one."""
        (self.plugins / "import_error.py").write_text("import nosuchmodule\n")
        (self.plugins / "syntax_error.py").write_text("def (\n")
        (self.plugins / "good.py").write_text(
            "from nanotun.upstream.plugin import SchemePlugin\n"
            "from nanotun.upstream.schemes.reject import REJECT\n"
            "line = SchemePlugin('line', REJECT.make, defaultPort=7070)\n"
        )
        status, output = self.check("line://h")
        self.assertEqual((status, output.splitlines()[1].split()), (0, ["proxy", "line://h:7070"]))
        status, output = self.check("lime://h")
        self.assertEqual((status, output.count("\n")), (1, 1), output)
        self.assertIn("line://, not lime://; the plugin ", output)
        self.assertIn(f"{self.plugins / 'import_error.py'} cannot be loaded", output)
        self.assertIn(f"{self.plugins / 'syntax_error.py'} cannot be loaded", output)
        self.assertNotIn("Traceback", output)

    def test_notIPlugin(self) -> None:
        """A plain L{Scheme} in such a module is not registered."""
        self.assertFalse(IPlugin.providedBy(Scheme("line", make)))
