"""
Tests of L{nanotun.upstream.plugin} and L{nanotun.upstream.schemes.table}: schemes of
other packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.errors import ConfigError
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Authentication,
    Connection,
    DialPlan,
    IPlanned,
    IScheme,
    IUpstream,
    NeededFiles,
    Option,
    ProxyURL,
    UpstreamContext,
)
from nanotun.upstream import plugin
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.plugin import FoundSchemes, GuardedScheme, SchemePlugin, sortPlugins
from nanotun.upstream.reject import RejectUpstream
from nanotun.upstream.scheme import FILE, FLAG, Scheme, canChain, sendsNamesWith
from nanotun.upstream.schemes.table import BUILT_IN, SchemeTable
from nanotun.upstream.url import parseURL
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


class GuardedSchemeTests(SynchronousTestCase):
    """L{GuardedScheme}."""

    def setUp(self) -> None:
        """An error that a plugin raises."""
        self.error: Exception = RuntimeError("out\nof hunter2.")

    def broken(self, *args: Any) -> Any:
        """A part of a plugin that raises the error."""
        raise self.error

    def complaint(self, call: Any, *args: Any, logged: type[Exception] = RuntimeError) -> str:
        """The text of the L{ConfigError} that a mistake becomes, logged for debugging."""
        text = str(self.assertRaises(ConfigError, call, *args))
        self.assertEqual(len(self.flushLoggedErrors(logged)), 1, text)
        return text

    def guarded(self, make: Any = make, **more: Any) -> GuardedScheme:
        """The scheme of a plugin."""
        more.setdefault("authentication", Authentication.PASSWORD)
        return GuardedScheme(SchemePlugin("line", make, defaultPort=7070, **more))

    def make(self, line: GuardedScheme) -> IUpstream:
        """The upstream of a URL."""
        url = ProxyURL(line, "h", 7070, "ann", "hunter2")
        return line.make(url, unmarkedContext(FakeReactor()))

    def test_good(self) -> None:
        """A good plugin is what it is without a guard, and sees itself in its URLs."""
        seen: list[ProxyURL] = []

        def note(url: ProxyURL, *args: Any) -> Any:
            seen.append(url)
            return ("Beware.",)

        def makeNoting(url: ProxyURL, context: UpstreamContext) -> IUpstream:
            note(url)
            return RejectUpstream()

        plugin = SchemePlugin(
            "line",
            makeNoting,
            defaultPort=7070,
            authentication=Authentication.USER,
            credentialLimit=3,
            forbidden="x",
            options={"ca": FILE, "fast": FLAG},
            unixSocket=True,
            sendsNames=True,
            carriesDatagrams=True,
            dialsDestination=True,
            chains=True,
            check=note,
            notices=note,
        )
        line = GuardedScheme(plugin)
        verifyObject(IScheme, line)
        for attribute in set(IScheme) - {"check", "files", "notices", "make", "options"}:
            self.assertEqual(getattr(line, attribute), getattr(plugin, attribute), attribute)
        self.assertEqual(line.takesNames, plugin.takesNames)
        self.assertTrue(canChain(line))
        url = parseURL(line, "ann@h?ca=/c&fast=1")
        self.assertIs(url.scheme, line)
        self.assertEqual(line.notices(url), ("Beware.",))
        self.assertEqual(line.files(url), NeededFiles(read=("/c",)))
        self.assertIsInstance(self.make(line), RejectUpstream)
        self.assertTrue(all(each.scheme is plugin for each in seen))
        self.assertEqual(
            str(self.assertRaises(ConfigError, parseURL, line, "h?fast=2")),
            "must have fast=1 or leave fast out",
        )

    def test_same(self) -> None:
        """URLs stay the same when the plugin is found again."""
        plugin = scheme("line")
        self.assertEqual(len({GuardedScheme(plugin), GuardedScheme(plugin)}), 1)
        self.assertNotEqual(GuardedScheme(plugin), GuardedScheme(scheme("line")))

    def test_ownErrors(self) -> None:
        """A plugin's own L{ConfigError} comes through."""
        self.error = ConfigError("must rest")
        for line, text in (
            (self.guarded(check=self.broken), "h"),
            (self.guarded(options={"a": Option("A", self.broken)}), "h?a=1"),
        ):
            self.assertIs(self.assertRaises(ConfigError, parseURL, line, text), self.error)
        for line in (self.guarded(self.broken), self.guarded(notices=self.broken)):
            self.assertIs(self.assertRaises(ConfigError, self.make, line), self.error)

    def test_check(self) -> None:
        """A mistake in the check of a URL or of an option ends the setting's sentence."""
        for line, text, reason in (
            (self.guarded(check=self.broken), "ann:hunter2@h", "RuntimeError: out of ***"),
            (self.guarded(options={"a": Option("A", self.broken)}), "h?a=1", "RuntimeError: out"),
        ):
            found = self.complaint(parseURL, line, text)
            self.assertIn("must do without line://, whose plugin cannot check the URL", found)
            self.assertIn(f"({reason}", found)
        line = self.guarded(options={"a": Option("A", lambda name, text: cast(Any, None))})
        found = self.complaint(parseURL, line, "h?a=1", logged=TypeError)
        self.assertIn("the check of a returned None", found)

    def test_constructor(self) -> None:
        """A mistake in the constructor becomes a sentence without the password."""
        self.assertEqual(
            self.complaint(self.make, self.guarded(self.broken)),
            "The plugin for line:// cannot make the upstream line://ann:***@h:7070 "
            "(RuntimeError: out of ***); correct the plugin.",
        )

    def test_noUpstream(self) -> None:
        """What a constructor returns has to be an upstream whose health can be checked."""

        @implementer(IUpstream)
        class Unchecked(RejectUpstream):
            check = cast(Any, None)

        for made, reason in (
            (None, "NoneType does not provide all of IUpstream"),
            (Unchecked(), "Unchecked does not provide all of IHealthCheck"),
        ):
            line = self.guarded(lambda url, context, made=made: made)
            self.assertIn(reason, self.complaint(self.make, line, logged=TypeError))

    def test_ownConnect(self) -> None:
        """
        An upstream that connects in its own way is asked for each flow, even if it is derived
        from one of nanotun's that has dial plans.
        """

        class Counting(DirectUpstream):
            def connect(self, destination: Endpoint) -> Deferred[Connection]:
                raise NotImplementedError

        class Planning(Counting):
            def plan(self, destination: Endpoint) -> DialPlan | None:
                return DirectUpstream.plan(self, destination)

        class Named(DirectUpstream):
            def describe(self) -> str:
                return "named"

        def planOf(kind: type[DirectUpstream]) -> object:
            line = self.guarded(lambda url, context: kind(context._replace(mark=0)))
            return IPlanned(self.make(line)).plan(Endpoint("127.0.0.1", 1))

        self.assertIsNone(planOf(Counting))
        for kind in (DirectUpstream, Planning, Named):
            self.assertIsNotNone(planOf(kind), kind)

    def test_filesAndNotices(self) -> None:
        """A mistake in files or notices is found when the upstream is made, not later."""

        class Filing(SchemePlugin):
            files: Any = self.broken

        for line, what in (
            (self.guarded(notices=self.broken), "notices"),
            (GuardedScheme(Filing("line", make)), "files"),
        ):
            self.assertIn(
                f"The plugin for line:// cannot tell the {what} of line://",
                self.complaint(self.make, line),
            )

        class Listing(SchemePlugin):
            def files(self, url: ProxyURL) -> Any:
                return ["/c"]

        for line, what in (
            (self.guarded(notices=lambda url: "Beware."), "no tuple of texts"),
            (GuardedScheme(Listing("line", make)), "no NeededFiles"),
        ):
            self.assertIn(what, self.complaint(self.make, line, logged=TypeError))

    def test_anyClass(self) -> None:
        """The plugin may be of any class that provides L{IScheme}."""

        @implementer(IScheme, IPlugin)
        class Own:
            name = "own"
            defaultPort = 1
            authentication = Authentication.NONE
            credentialLimit = 0
            forbidden = ""
            options: dict[str, Option] = {}
            unixSocket = sendsNames = carriesDatagrams = dialsDestination = False

            def check(self, url: ProxyURL) -> None: ...

            def files(self, url: ProxyURL) -> NeededFiles:
                return NeededFiles()

            def notices(self, url: ProxyURL) -> tuple[str, ...]:
                return ()

            def make(self, url: ProxyURL, context: UpstreamContext) -> IUpstream:
                raise RuntimeError("z")

        (own,) = sortPlugins([Own()], []).schemes.values()
        url = parseURL(own, "h")
        # It says nothing of takesNames and chains, which are younger than it may be.
        self.assertFalse(sendsNamesWith(own, True))
        self.assertFalse(canChain(own))
        self.assertIn(
            "cannot make the upstream own://h:1 (RuntimeError: z)",
            self.complaint(own.make, url, unmarkedContext(FakeReactor())),
        )


class SortPluginsTests(SynchronousTestCase):
    """L{sortPlugins}."""

    def test_good(self) -> None:
        """Schemes are found by their names."""
        line, other = scheme("line"), scheme("x-1.a+b")
        found = sortPlugins([line, other], ["socks5"])
        expected: dict[str, IScheme] = {
            "line": GuardedScheme(line),
            "x-1.a+b": GuardedScheme(other),
        }
        self.assertEqual(found, FoundSchemes(expected, ()))

    def test_bad(self) -> None:
        """What is no scheme, or has a name that it may not have, stops no other one."""

        class Raising(SchemePlugin):
            name = property(lambda self: 1 // 0, lambda self, value: None)

        def bad(**more: Any) -> SchemePlugin:
            return SchemePlugin("bad", make, **more)

        for flawed, complaint in (
            (Raising("bad", make), "cannot be asked for its attributes (ZeroDivisionError: "),
            (bad(defaultPort="x"), "the plugin SchemePlugin has the defaultPort 'x', which"),
            (bad(defaultPort=0), "has the defaultPort 0"),
            (bad(defaultPort=True), "has the defaultPort True"),
            (bad(authentication="user"), "has the authentication 'user'"),
            (bad(credentialLimit="9"), "has the credentialLimit '9'"),
            (bad(credentialLimit=-1), "has the credentialLimit -1"),
            (bad(forbidden="("), "has the forbidden '('"),
            (bad(forbidden=b"x"), "has the forbidden b'x'"),
            (bad(options=["ca"]), "has the options ['ca']"),
            (bad(options={"ca": "FILE"}), "has the options {'ca': 'FILE'}"),
            (bad(options={1: FLAG}), "has the options {1: Option("),
            (bad(options={"a": Option("A", cast(Any, 1))}), "has the options {'a': Option("),
            (scheme("socks5"), "may not replace nanotun's own socks5://"),
            (scheme("Line"), "has the name 'Line'"),
            (scheme("a" * 17), "no scheme can have"),
            (scheme(None), "has the name None"),
            (object(), "the plugin object does not provide all of IScheme"),
        ):
            line = scheme("line")
            found = sortPlugins([flawed, line], ["socks5"])
            self.assertEqual(found.schemes, {"line": GuardedScheme(line)})
            (trouble,) = found.troubles
            self.assertIn(complaint, trouble)

    def test_twice(self) -> None:
        """Of two schemes of one name neither is used, whichever was found first."""
        other = scheme("other")
        found = sortPlugins([scheme("line"), other, scheme("line"), scheme("line")], [])
        self.assertEqual(found.schemes, {"other": GuardedScheme(other)})
        (trouble,) = found.troubles
        self.assertIn("more than one plugin registers line://", trouble)

    def test_alias(self) -> None:
        """One scheme under two names of its module is one plugin."""
        line = scheme("line")
        found = sortPlugins([line, line], [])
        self.assertEqual(found, FoundSchemes({"line": GuardedScheme(line)}, ()))


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
