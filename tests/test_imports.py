"""
Reads the source and fails on what no other tool looks for: a wrong arrow
between modules, a library outside its home, an impure pure module, a reactor
at module level, an f-string in a log call, a test that does not say what must
hold.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import ROOT

#: These touch the world, and are known to the others by their interfaces only: the
#: rooms in ROOTS name them, and nobody else.
WORLD = (
    "nanotun.tun",
    "nanotun.engine",
    "nanotun.gateway",
    "nanotun.owners",
    "nanotun.routing",
    "nanotun.control",
    "nanotun.cell",
    "nanotun.scripting",
    "nanotun.metrics",
    "nanotun.history",
    "nanotun.web",
)

#: From the bottom to the top.  A module may import from its own part and from
#: lines below its own, but for PORTS.  The longest name that fits is a module's part.
LAYERS = (
    ("nanotun",),
    (
        "nanotun.flow",
        "nanotun.errors",
        "nanotun.addresses",
        "nanotun.rundir",
        "nanotun.timer",
        "nanotun.script",
    ),
    ("nanotun.interfaces",),
    (
        "nanotun.log",
        "nanotun.linux",
        "nanotun.httpd",
        "nanotun.upstream.url",
        "nanotun.upstream.scheme",
        # TLS is spoken with proxies and with DNS servers.
        "nanotun.upstream.tlsstream",
    ),
    # What one upstream is made of; its schemes' table is read with the settings.
    ("nanotun.upstream",),
    ("nanotun.upstream.schemes",),
    ("nanotun.config",),
    ("nanotun.policy",),
    WORLD,
    ("nanotun.router",),
    ("nanotun.daemon",),
    ("nanotun.doctor",),
    ("nanotun.console",),
    ("nanotun.testing",),
)

#: A dial touches the world, too, though it is needed to read the settings.
PORTS = (*WORLD, "nanotun.upstream")
ROOTS = (
    "nanotun.daemon",
    "nanotun.doctor",
    "nanotun.console",
    "nanotun.testing",
)

#: No reactor, socket, clock or file: bytes and values in, bytes and values out.
PURE = (
    "nanotun.flow",
    "nanotun.errors",
    "nanotun.addresses",
    "nanotun.rundir",
    "nanotun.script",
    "nanotun.httpd.guard",
    "nanotun.interfaces",
    "nanotun.router.udp.pauses",
    "nanotun.config.file",
    "nanotun.upstream.url",
    "nanotun.config.values",
    "nanotun.config.entry",
    "nanotun.config.askedservers",
    "nanotun.config.dnskeys",
    "nanotun.config.dnsrules",
    "nanotun.config.dnsservers",
    "nanotun.config.domains",
    "nanotun.config.flowrules",
    "nanotun.config.times",
    "nanotun.config.keys",
    "nanotun.config.observedkeys",
    "nanotun.config.proxykeys",
    "nanotun.config.rulecheck",
    "nanotun.config.rulekeys",
    "nanotun.config.scriptkeys",
    "nanotun.config.upstreams",
    "nanotun.config.notices",
    "nanotun.config.settings",
    "nanotun.config.units",
    "nanotun.policy",
    "nanotun.owners.budget",
    "nanotun.owners.inheritance",
    "nanotun.owners.matching",
    "nanotun.owners.names",
    "nanotun.owners.program",
    "nanotun.owners.values",
    "nanotun.history.schema",
    "nanotun.routing.values",
    "nanotun.routing.plan",
    "nanotun.routing.firewall.switchtext",
    "nanotun.config.change",
    "nanotun.control.messages",
    "nanotun.metrics.families",
    "nanotun.metrics.labels",
    "nanotun.metrics.made",
    "nanotun.console.capture.packets",
    "nanotun.console.capture.pcapng",
    "nanotun.console.capture.text",
    "nanotun.console.dns.text",
    "nanotun.console.flows.ends",
    "nanotun.console.flows.filters",
    "nanotun.console.flows.rows",
    "nanotun.console.flows.table",
    "nanotun.console.statustext",
    "nanotun.upstream.group.breaker",
    "nanotun.upstream.group.member",
    "nanotun.upstream.handshakes.goodway",
    "nanotun.upstream.handshakes.http",
    "nanotun.upstream.handshakes.httpstatus",
    "nanotun.upstream.pool.lifetimes",
    "nanotun.upstream.handshakes.httplogin",
    "nanotun.upstream.handshakes.socks4",
    "nanotun.upstream.group.policies",
    "nanotun.upstream.handshakes.socks5relay",
    "nanotun.upstream.handshakes.socks5",
    "nanotun.upstream.handshakes.tls",
    "nanotun.upstream.scheme",
    "nanotun.upstream.tlsstream",
    "nanotun.upstream.schemes",
    "nanotun.web.explainpage",
    "nanotun.web.flowpages",
    "nanotun.web.html",
    "nanotun.web.parts",
    "nanotun.web.recordpages",
    "nanotun.web.shell",
    "nanotun.web.statepages",
    "nanotun.web.text",
    "nanotun.gateway.dns.interfaces",
    "nanotun.gateway.dns.message",
    "nanotun.gateway.dns.rebinding",
    "nanotun.gateway.dns.records",
    "nanotun.gateway.dns.http2",
    "nanotun.gateway.dns.cache",
    "nanotun.gateway.dns.servers",
    "nanotun.gateway.dns.backoff",
    "nanotun.gateway.dns.edns",
    "nanotun.gateway.dns.padding",
    "nanotun.gateway.dns.framedtalk",
    "nanotun.gateway.dns.talks",
    "nanotun.gateway.dns.tlstalk",
    "nanotun.gateway.dns.troubles",
    "nanotun.gateway.dns.contexts",
    "nanotun.gateway.dns.servertally",
    "nanotun.gateway.dns.trace",
    "nanotun.gateway.dns.tlstalk",
    "nanotun.gateway.dns.counters",
    "nanotun.gateway.dns.addresses",
    "nanotun.gateway.dns.answered",
    "nanotun.gateway.dns.svcb",
    "nanotun.gateway.dns.types",
    "nanotun.gateway.dns.shown",
    "nanotun.gateway.dns.hoststable",
    "nanotun.gateway.dns.made",
    "nanotun.gateway.dns.privatezones",
    "nanotun.gateway.fakeip.pool",
    "nanotun.gateway.fakeip.answers",
    "nanotun.gateway.fakeip.asking",
    "nanotun.routing.firewall.rules",
    "nanotun.routing.firewall.nfttext",
    "nanotun.routing.firewall.iptablestext",
)
IMPURE: tuple[str, ...] = ("twisted.internet", "socket", "select", "os", "time", "ctypes")
IMPURE += ("subprocess", "asyncio")
#: What of those only converts text and bytes, or stands for a value that is yet to come.
HARMLESS = (
    "socket.AF_INET",
    "socket.AF_INET6",
    "socket.inet_pton",
    "socket.inet_ntop",
    "twisted.internet.defer.Deferred",
)

#: Libraries with one home each.
HOMES: dict[str, str | tuple[str, ...]] = {
    # The native library; capset(2), prctl(2) and bpf(2), for which no package is kept up.
    "ctypes": (
        "nanotun.engine",
        "nanotun.daemon.privileges",
        "nanotun.owners.syscalls",
        "nanotun.cell.capabilities",
    ),
    "pyroute2": "nanotun.routing",
    "yaml": "nanotun.config.file",
    "h11": "nanotun.upstream.handshakes.http",
    "h2": "nanotun.gateway.dns.http2",
    "hpack": "nanotun.gateway.dns.http2",
    "hyperlink": "nanotun.upstream.url",
    "idna": "nanotun.config.domains",
    "maxminddb": "nanotun.daemon.countries",
    "prometheus_client": "nanotun.metrics",
    "psutil": "nanotun.doctor",
    "rich": "nanotun.console",
    "sqlite3": "nanotun.history",
}

#: The aim is 100 to 300; a file need not be torn in two for its last lines.
LINES_LIMIT = 500

#: Lines of a class, from its first decorator to its end.
CLASS_LIMIT = 250

#: Files at the root of nanotun/: values that every part may use, and nothing else.
ROOT_FILES_LIMIT = 6


def within(module: str, parents: str | tuple[str, ...]) -> bool:
    """Whether C{module} is one of C{parents} or inside it."""
    parents = (parents,) if isinstance(parents, str) else parents
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def layer(module: str) -> tuple[int, str]:
    """
    Find a module's place.

    @return: the layer's number and the part's name.
    @raise LookupError: it has none yet.
    """
    places = [
        (number, part)
        for number, parts in enumerate(LAYERS)
        for part in parts
        if module == part or (part != "nanotun" and within(module, part))
    ]
    if not places:
        raise LookupError(f"{module} has no place in LAYERS yet; give it one")
    return max(places, key=lambda place: len(place[1]))


def sources(*folders: str) -> Iterator[tuple[str, str, ast.Module]]:
    """The name, text and tree of every module in C{folders}."""
    for folder in folders:
        for path in sorted(Path(ROOT, folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            text = path.read_text()
            yield name.removesuffix(".__init__"), text, ast.parse(text)


def classes(*folders: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class in C{folders}, with the name of its module; inner ones included."""
    for module, _, tree in sources(*folders):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield module, node


def length(node: ast.ClassDef) -> int:
    """The number of a class's lines, with its decorators."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return (node.end_lineno or first) - first + 1


def forTypesOnly(node: ast.AST) -> bool:
    """Whether this is C{if TYPE_CHECKING:}."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(tree: ast.AST, inFunctions: bool = True, forTypes: bool = True) -> Iterator[str]:
    """
    The full names that a module imports.

    @param inFunctions: whether those count that a function imports when it is called.
    @param forTypes: whether those count that only a type checker sees.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif forTypes or not forTypesOnly(node):
            isFunction = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if inFunctions or not isFunction:
                yield from imports(node, inFunctions, forTypes)


def wrongArrow(module: str, name: str) -> str:
    """What is wrong about C{module} importing C{name}, or nothing."""
    number, part = layer(module)
    if name.count(".") and not moduleExists(name):
        name = name.rpartition(".")[0]
    target, targetPart = layer(name)
    if targetPart == part:
        return ""
    if target >= number:
        return f"{module} imports {name}, which is not below it"
    sameRoom = name.split(".")[:2] == module.split(".")[:2]
    if targetPart in PORTS and not sameRoom and not within(module, ROOTS):
        return f"{module} imports {name}; it should know its interface only"
    return ""


def moduleExists(name: str) -> bool:
    """Whether C{name} is a module of the project and not a name inside one."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


class ArrowTests(SynchronousTestCase):
    """The order of the modules."""

    def test_arrows(self) -> None:
        """Imports point one way, from the composition root down to the values."""
        wrong = [
            wrongArrow(module, name)
            for module, _, tree in sources("nanotun")
            for name in imports(tree)
            if within(name, "nanotun")
        ]
        self.assertEqual([text for text in wrong if text], [])

    def test_noCircles(self) -> None:
        """No room imports another one that needs it, not even by way of third ones."""
        needs: dict[str, set[str]] = {}
        for module, _, tree in sources("nanotun"):
            room = ".".join(module.split(".")[:2])
            found = {".".join(n.split(".")[:2]) for n in imports(tree) if within(n, "nanotun")}
            needs.setdefault(room, set()).update(found - {room, "nanotun"})
        while free := [room for room, needed in needs.items() if not needed & set(needs)]:
            for room in free:
                del needs[room]
        self.assertEqual(needs, {})

    def test_arrowsAreRead(self) -> None:
        """The test of the arrows sees a wrong one."""
        self.assertIn("not below", wrongArrow("nanotun.config.settings", "nanotun.router.router"))
        self.assertIn("interface", wrongArrow("nanotun.router.router", "nanotun.tun.port.TunPort"))
        self.assertIn("not below", wrongArrow("nanotun.tun.port", "nanotun.engine.native"))
        self.assertEqual(wrongArrow("nanotun.daemon.tap", "nanotun.tun.port.TunPort"), "")
        self.assertRaises(LookupError, wrongArrow, "nanotun.unheard", "nanotun.flow")
        tree = ast.parse(
            "import a\nif 1:\n from b import c\ndef f():\n import d\nif TYPE_CHECKING:\n import e\n"
        )
        self.assertEqual(list(imports(tree)), ["a", "b.c", "d", "e"])
        self.assertEqual(list(imports(tree, forTypes=False)), ["a", "b.c", "d"])

    def test_homes(self) -> None:
        """ctypes, pyroute2, yaml, hyperlink and psutil are used in one place each."""
        wrong = [
            f"{module} imports {name}"
            for module, _, tree in sources("nanotun")
            for name in imports(tree)
            for library, home in HOMES.items()
            if within(name, library) and not within(module, home)
        ]
        self.assertEqual(wrong, [])

    def test_pure(self) -> None:
        """Values, configuration, policy and handshakes touch nothing of the world."""
        wrong = [
            f"{module} imports {name}"
            for module, _, tree in sources("nanotun")
            if within(module, PURE)
            for name in imports(tree, forTypes=False)
            if within(name, IMPURE) and name not in HARMLESS
        ]
        self.assertEqual(wrong, [])


class HabitTests(SynchronousTestCase):
    """What the style asks of each file."""

    def test_noGlobalReactor(self) -> None:
        """The reactor is imported where it gets its clock, and there in a function only."""
        wrong = []
        for module, _, tree in sources("nanotun", "twisted"):
            inFunctions = module != "nanotun.timer"
            if "twisted.internet.reactor" in imports(tree, inFunctions=inFunctions):
                wrong.append(module)
        self.assertEqual(wrong, [])
        asking = []
        for module, _, tree in sources("nanotun"):
            if "nanotun.timer.steadyReactor" in imports(tree) and not within(
                module,
                ("nanotun.daemon.tap", "nanotun.daemon.cellservice", "nanotun.console"),
            ):
                asking.append(module)
        self.assertEqual(asking, [])

    def test_logFields(self) -> None:
        """Log calls have named fields and no f-string, which would format what is filtered."""
        wrong = []
        for module, _, tree in sources("nanotun"):
            for node in ast.walk(tree):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and "log" in ast.unparse(node.func.value).lower()
                    and any(isinstance(argument, ast.JoinedStr) for argument in node.args)
                ):
                    wrong.append(f"{module}:{node.lineno}")
        self.assertEqual(wrong, [])

    def test_length(self) -> None:
        """No file is too long to be read at once."""
        wrong = {
            module: lines
            for module, text, _ in sources("nanotun", "twisted", "tools", "tests", "benchmarks")
            if (lines := text.count("\n")) > LINES_LIMIT
        }
        self.assertEqual(wrong, {})

    def test_classLength(self) -> None:
        """No class has more than 250 lines."""
        wrong = {
            f"{module}.{node.name}": lines
            for module, node in classes("nanotun")
            if (lines := length(node)) > CLASS_LIMIT
        }
        self.assertEqual(wrong, {})

    def test_classNames(self) -> None:
        """No class name is used twice in nanotun/, so a name says which class is meant."""
        places: dict[str, list[str]] = {}
        for module, node in classes("nanotun"):
            # The names there are for those who write scripts, and do not see the others.
            if module != "nanotun.script":
                places.setdefault(node.name, []).append(module)
        self.assertEqual({name: each for name, each in places.items() if len(each) > 1}, {})

    def test_rootFiles(self) -> None:
        """At most six files are at the root of nanotun/; everything else has a room."""
        files = sorted(path.name for path in Path(ROOT, "nanotun").glob("*.py"))
        self.assertLessEqual(len(files), ROOT_FILES_LIMIT, files)

    def test_checksAreNoTests(self) -> None:
        """A class of checks is deleted once its tests are made, or trial would run it, too."""
        kept = []
        for module, _, tree in sources("tests/e2e"):
            if not module.rpartition(".")[2].startswith("test_"):
                continue
            deleted = {
                name.id
                for node in tree.body
                if isinstance(node, ast.Delete)
                for name in ast.walk(node)
                if isinstance(name, ast.Name)
            }
            kept += [
                f"{module}.{node.name}"
                for node in tree.body
                if isinstance(node, ast.ClassDef)
                and node.name.endswith("Checks")
                and node.name not in deleted
            ]
        self.assertEqual(kept, [])

    def test_testsSayWhatMustHold(self) -> None:
        """Every test has a docstring."""
        wrong = [
            f"{module}.{node.name}"
            for module, _, tree in sources("tests")
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and node.name.startswith("test_")
            and not ast.get_docstring(node)
        ]
        self.assertEqual(wrong, [])

    def test_noSleep(self) -> None:
        """No unit test sleeps: clocks are advanced."""
        wrong = [
            module
            for module, _, tree in sources("tests")
            if module.startswith(("tests.unit.", "tests.contracts.", "tests.test_"))
            and "time.sleep" in ast.unparse(tree)
        ]
        self.assertEqual(wrong, ["tests.test_imports"])
