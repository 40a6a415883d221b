"""Tests of L{nanotun.routing.firewall.tools}, with scripts in the place of tools."""

from __future__ import annotations

import os
import resource

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.errors import RoutingError
from nanotun.routing.firewall import tools
from nanotun.routing.firewall.tools import Ran, SystemTools, firstLine

#: Answers C{q} with C{a}; complains of C{bad}, at length of C{long}, ends at C{end}.
HELD = """\
#!/bin/sh
while read -r line; do
    case $line in
        q) echo a ;;
        bad*) echo "Error: $line" >&2 ;;
        long) head -c 200000 /dev/zero | tr '\\0' x >&2; echo >&2 ;;
        end) echo "Error: over" >&2; exit 3 ;;
    esac
done
: >"$0.ended"
"""


class ToolsCase(SynchronousTestCase):
    """A folder of tools."""

    def setUp(self) -> None:
        """Make the folder."""
        self.folder = os.path.realpath(self.mktemp())
        os.makedirs(self.folder)
        self.tools = SystemTools(("/nonexistent", self.folder), {"EXTRA": "yes"})

    def tool(self, name: str, script: str) -> str:
        """A tool of ours; returns its path."""
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(script)
        os.chmod(path, 0o755)
        return path


class RunTests(ToolsCase):
    """L{SystemTools.path} and L{SystemTools.run}."""

    def test_path(self) -> None:
        """A tool is found in the given folders only."""
        path = self.tool("mine", "#!/bin/sh\n")
        self.assertEqual(self.tools.path("mine"), path)
        self.assertEqual(self.tools.path("sh"), "")
        self.assertEqual(os.path.basename(SystemTools().path("sh")), "sh")

    def test_run(self) -> None:
        """A tool gets its arguments, text and environment, and nothing else of ours."""
        path = self.tool(
            "mine", '#!/bin/sh\ncat; echo "$1 $LC_ALL $EXTRA $MINE"; echo e >&2; exit 4'
        )
        self.patch(os, "environ", {**os.environ, "MINE": "secret"})
        self.assertEqual(self.tools.run([path, "x y"], "in\n"), Ran(4, "in\nx y C yes \n", "e\n"))

    def test_cannotRun(self) -> None:
        """What cannot be started, or hangs, is an error and no exception."""
        self.assertEqual(self.tools.run(["/nonexistent/x"]).status, -1)
        self.patch(tools, "TIME_LIMIT", 0.05)
        path = self.tool("slow", "#!/bin/sh\nexec sleep 20")
        ran = self.tools.run([path])
        self.assertEqual((ran.status, ran.output), (-1, ""))
        self.assertIn("took more", ran.error)

    def test_firstLine(self) -> None:
        """Of an error the first line is shown, from where it says what is wrong."""
        self.assertEqual(firstLine("/dev/stdin:1:5-9: Error: no such\nquote\n^^^\n"), "no such")
        self.assertEqual(firstLine(""), "")


class HoldTests(ToolsCase):
    """L{SystemTools.hold}."""

    def hold(self) -> tools.Held:
        """Hold the script."""
        self.path = self.tool("held", HELD)
        held = self.tools.hold([self.path])
        self.addCleanup(held.close)
        return held

    def test_ask(self) -> None:
        """A line that is fine has no answer, one that is not its error; then it goes on."""
        held = self.hold()
        self.assertEqual(held.ask("fine", "q", "a"), "")
        self.assertEqual(held.ask("bad thing", "q", "a"), "Error: bad thing")
        self.assertEqual(held.ask("fine", "q", "a"), "")
        self.assertTrue(held.isRunning())

    def test_long(self) -> None:
        """Neither a long line nor a long error makes both wait for each other."""
        held = self.hold()
        self.assertEqual(held.ask("x" * 300_000, "q", "a"), "")
        self.assertEqual(len(held.ask("long", "q", "a")), 200_000)

    def test_manyFiles(self) -> None:
        """It works as well in a process that has a thousand files open."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 1200:
            raise SkipTest(f"a process may have {hard} files here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        try:
            self.assertEqual(self.hold().ask("bad", "q", "a"), "Error: bad")
        finally:
            for fd in files:
                os.close(fd)

    def test_end(self) -> None:
        """The end of its input, which is also ours, ends it."""
        held = self.hold()
        held.close()
        self.assertTrue(os.path.exists(f"{self.path}.ended"))
        self.assertFalse(held.isRunning())

    def test_ended(self) -> None:
        """If it ends on its own, the error has what it said."""
        held = self.hold()
        error = self.assertRaises(RoutingError, held.ask, "end", "q", "a")
        self.assertEqual(str(error), f"{self.path} has ended: over.")
        self.assertRaises(RoutingError, held.ask, "fine", "q", "a")

    def test_silent(self) -> None:
        """If it does not answer that is an error after a while."""
        held = self.hold()
        self.patch(tools, "TIME_LIMIT", 0.05)
        self.assertIn("answer", str(self.assertRaises(RoutingError, held.ask, "x", "y", "a")))

    def test_cannotStart(self) -> None:
        """If it cannot be started that is an error."""
        self.assertRaises(RoutingError, self.tools.hold, ["/nonexistent/x"])

    def test_notInherited(self) -> None:
        """No other child of ours keeps its input open."""
        held = self.hold()
        other = self.tools.hold([self.tool("other", "#!/bin/sh\nread line\n")])
        self.addCleanup(other.close)
        held.close()
        self.assertTrue(os.path.exists(f"{self.path}.ended"))
        self.assertTrue(other.isRunning())
