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
        """A tool gets its arguments, its input and its environment, and no variables of ours."""
        path = self.tool(
            "mine", '#!/bin/sh\ncat; echo "$1 $LC_ALL $EXTRA $MINE"; echo e >&2; exit 4'
        )
        self.patch(os, "environ", {**os.environ, "MINE": "secret"})
        self.assertEqual(self.tools.run([path, "x y"], "in\n"), Ran(4, "in\nx y C yes \n", "e\n"))

    def test_cannotRun(self) -> None:
        """A tool that cannot be started, or hangs, is reported without an exception."""
        self.assertEqual(self.tools.run(["/nonexistent/x"]).status, -1)
        self.patch(tools, "TIME_LIMIT", 0.05)
        path = self.tool("slow", "#!/bin/sh\nexec sleep 20")
        ran = self.tools.run([path])
        self.assertEqual((ran.status, ran.output), (-1, ""))
        self.assertIn("took more", ran.error)

    def test_firstLine(self) -> None:
        """Only the part of the first line that says what is wrong is shown."""
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
        """A correct line has no error, a wrong one has its error, and the tool keeps running."""
        held = self.hold()
        self.assertEqual(held.ask("fine", "q", "a"), "")
        self.assertEqual(held.ask("bad thing", "q", "a"), "Error: bad thing")
        self.assertEqual(held.ask("fine", "q", "a"), "")
        self.assertTrue(held.isRunning())

    def test_long(self) -> None:
        """A long line and a long error do not cause a deadlock."""
        held = self.hold()
        self.assertEqual(held.ask("x" * 300_000, "q", "a"), "")
        self.assertEqual(len(held.ask("long", "q", "a")), 200_000)

    def test_manyFiles(self) -> None:
        """It works in a process that has more than a thousand files open."""
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
        """The tool ends at the end of its input, which is also the end of our process."""
        held = self.hold()
        held.close()
        self.assertTrue(os.path.exists(f"{self.path}.ended"))
        self.assertFalse(held.isRunning())

    def test_ended(self) -> None:
        """If the tool ends on its own, the error contains its message."""
        held = self.hold()
        error = self.assertRaises(RoutingError, held.ask, "end", "q", "a")
        self.assertEqual(str(error), f"{self.path} has ended: over.")
        self.assertRaises(RoutingError, held.ask, "fine", "q", "a")

    def test_silent(self) -> None:
        """If the tool does not answer within the time limit, that is an error."""
        held = self.hold()
        self.patch(tools, "TIME_LIMIT", 0.05)
        self.assertIn("answer", str(self.assertRaises(RoutingError, held.ask, "x", "y", "a")))

    def test_cannotStart(self) -> None:
        """If the tool cannot be started, that is an error."""
        self.assertRaises(RoutingError, self.tools.hold, ["/nonexistent/x"])

    def test_notInherited(self) -> None:
        """No other child process keeps the tool's input open."""
        held = self.hold()
        other = self.tools.hold([self.tool("other", "#!/bin/sh\nread line\n")])
        self.addCleanup(other.close)
        held.close()
        self.assertTrue(os.path.exists(f"{self.path}.ended"))
        self.assertTrue(other.isRunning())
