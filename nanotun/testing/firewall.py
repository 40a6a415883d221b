"""
Fakes of the machine's firewall tools: as much of nft, iptables and busctl as our changes
use.  The changes pass the same contract with these and with the real tools
(tests/contracts/firewall.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from nanotun.routing.firewall.tools import TIME_LIMIT, Held, Ran

DENIED = "Error: Could not process rule: Operation not permitted"


class FakeNft:
    """
    Tables, each with its owner.

    @ivar tables: their texts, by name.
    @ivar owners: the owners of tables that have one, by name.
    @ivar refused: for a part of a script that the kernel does not know, nft's error.
    @ivar meanwhile: called just before something is refused.
    @ivar loads: how many scripts have changed something.
    """

    def __init__(self) -> None:
        self.tables: dict[str, str] = {}
        self.owners: dict[str, object] = {}
        self.refused: dict[str, str] = {}
        self.meanwhile: Callable[[], object] = lambda: None
        self.loads = 0

    def load(self, script: str, owner: object = None, check: bool = False) -> str:
        """Run a script; returns the error, or an empty string."""
        for part, error in self.refused.items():
            if part in script:
                self.meanwhile()
                return error
        deleted = re.findall(r"delete table inet (\S+?)(?:;|\n|$)", script)
        for name in deleted:
            if name not in self.tables:
                return "Error: Could not process rule: No such file or directory"
            if self.owners.get(name) not in (None, owner):
                return DENIED
        if check:
            return ""
        self.loads += 1
        for name in deleted:
            self.tables.pop(name)
            self.owners.pop(name, None)
        made = re.search(r"(?<!delete )table inet (\S+) \{.*\}", script, re.S)
        if made:
            self.tables[made[1]] = made[0]
            if "flags owner" in made[0]:
                self.owners[made[1]] = owner
        return ""

    def forget(self, owner: object) -> None:
        """The process that owns tables has ended."""
        for name in [name for name, held in self.owners.items() if held is owner]:
            del self.tables[name], self.owners[name]

    def flush(self) -> None:
        """Another program's C{nft flush ruleset}."""
        self.tables = {name: text for name, text in self.tables.items() if name in self.owners}


class FakeHeld:
    """A running C{nft -i}; see L{Held}."""

    def __init__(self, nft: FakeNft) -> None:
        self._nft = nft
        self._running = True

    def ask(self, line: str, question: str, answer: str) -> str:
        """See L{Held.ask}."""
        return self._nft.load(line, self)

    def isRunning(self) -> bool:
        """See L{Held.isRunning}."""
        return self._running

    def close(self) -> None:
        """See L{Held.close}.  If a test calls it, somebody has killed the process."""
        self._running = False
        self._nft.forget(self)


class FakeIptables:
    """
    The rules of one version of IP.

    @ivar lines: the lines C{-N CHAIN} and C{-A CHAIN ...} of each table.
    @ivar refused: see L{FakeNft.refused}.
    """

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {
            "mangle": ["-A OUTPUT -j SOMEBODY"],
            "nat": ["-A OUTPUT -j SOMEBODY"],
        }
        self.refused: dict[str, str] = {}

    def save(self) -> str:
        """The output of C{iptables-save}."""
        text = ""
        for table, lines in self.lines.items():
            chains = [f":{line[3:]} - [0:0]" for line in lines if line.startswith("-N ")]
            rules = [line for line in lines if line.startswith("-A ")]
            text += "\n".join([f"*{table}", ":OUTPUT ACCEPT [0:0]", *chains, *rules, "COMMIT", ""])
        return text

    def restore(self, script: str) -> str:
        """Run C{iptables-restore --noflush}; returns the error, or an empty string."""
        for part, error in self.refused.items():
            if part in script:
                return error
        table = ""
        for line in script.splitlines():
            words = line.split()
            if line.startswith("*"):
                table = line[1:]
                lines = list(self.lines[table])
            elif line == "COMMIT":
                self.lines[table] = lines
            elif line.startswith(":") or words[0] == "-F":
                chain = words[0][1:] if line.startswith(":") else words[1]
                lines = [each for each in lines if not each.startswith(f"-A {chain} ")]
                if f"-N {chain}" not in lines:
                    lines.append(f"-N {chain}")
            elif words[0] == "-X":
                lines.remove(f"-N {words[1]}")
            elif words[0] == "-D":
                if f"-A{line[2:]}" not in lines:
                    return "Bad rule (does a matching rule exist in that chain?)."
                lines.remove(f"-A{line[2:]}")
            elif words[0] == "-I":
                lines.insert(0, f"-A{line[2:]}")
            else:
                lines.append(line)
        return ""


class FakeResolved:
    """
    systemd-resolved on the bus.

    @ivar running: whether it is on the bus.
    @ivar links: for each number, the arguments of each method that was called.
    @ivar refused: methods that it answers with an error.
    @ivar unknown: methods that it does not have.
    @ivar hung: whether it does not answer.
    @ivar asked: how often a property of a link was read.
    """

    def __init__(self) -> None:
        self.running = False
        self.links: dict[str, dict[str, list[str]]] = {}
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self.hung = False
        self.asked = 0

    def call(self, words: Sequence[str]) -> Ran:
        """Call a method; takes the arguments that follow C{busctl}'s options."""
        _, service, path, _, method, *values = words
        if service == "org.freedesktop.DBus":
            return Ran(0, f"b {'true' if self.running else 'false'}\n", "")
        self.asked += method == "Get"
        if self.hung:
            return Ran(1, "", "Call failed: Connection timed out\n")
        if not self.running or method in self.refused:
            return Ran(1, "", "Call failed: no\n")
        if method in self.unknown:
            return Ran(1, "", f"Call failed: Unknown method {method} or interface {path}.\n")
        if method == "Get":
            link = self.links.get(path.rpartition("/")[2], {})
            told = link.get("SetLinkDNS", ["0"])
            return Ran(0, f"v a(iay) {' '.join(told)}\n", "")
        index = f"_{ord(values[1][0]):x}{values[1][1:]}"
        if method == "RevertLink":
            self.links.pop(index, None)
        else:
            self.links.setdefault(index, {})[method] = values[2:]
        return Ran(0, "", "")


class FakeTools:
    """
    See L{nanotun.routing.firewall.tools.Tools}.

    @ivar installed: the names of the installed tools.
    @ivar version: the output of C{iptables --version}.
    @ivar ran: the names of all tools that were run.
    @ivar hardware: the names of links that are hardware.
    @ivar broken: why no tool can be run; empty if they can.
    """

    def __init__(self, *installed: str) -> None:
        self.installed = set(installed)
        self.version = "iptables v1.8.9 (nf_tables)"
        self.nft = FakeNft()
        self.held: list[FakeHeld] = []
        self.iptables = {4: FakeIptables(), 6: FakeIptables()}
        self.resolved = FakeResolved()
        self.hardware: set[str] = set()
        self.ran: list[str] = []
        self.broken = ""
        self._generations: list[str] = []

    def exists(self, path: str) -> bool:
        """See L{Tools.exists}: systemd-resolved has run once."""
        words = path.split("/")
        return words[1] != "sys" or words[-2] in self.hardware

    def generation(self) -> int:
        """See L{Tools.generation}."""
        # The end of an owner makes no new generation.
        unowned = {name: text for name, text in self.nft.tables.items() if "owner" not in text}
        state = repr((unowned, self.nft.loads, [each.lines for each in self.iptables.values()]))
        if self._generations[-1:] != [state]:
            self._generations.append(state)
        return len(self._generations)

    def path(self, name: str) -> str:
        """See L{Tools.path}."""
        return f"/usr/sbin/{name}" if name in self.installed else ""

    def run(self, argv: Sequence[str], text: str = "", limit: float = TIME_LIMIT) -> Ran:
        """See L{Tools.run}."""
        name = os.path.basename(argv[0])
        self.ran.append(name)
        if self.broken:
            return Ran(-1, "", self.broken)
        if name not in self.installed:
            return Ran(-1, "", "No such file or directory")
        run: Callable[[Sequence[str], str], Ran] = {"nft": self._nft, "busctl": self._busctl}.get(
            name, self._iptables
        )
        return run(argv, text)

    def hold(self, argv: Sequence[str]) -> Held:
        """See L{Tools.hold}."""
        self.held.append(FakeHeld(self.nft))
        return self.held[-1]

    def _nft(self, argv: Sequence[str], text: str) -> Ran:
        if "list" in argv:
            found = self.nft.tables.get(argv[-1], "")
            return Ran(0, found, "") if found else Ran(1, "", "Error: No such file or directory")
        error = self.nft.load(text, check="-c" in argv)
        return Ran(bool(error), "", error)

    def _iptables(self, argv: Sequence[str], text: str) -> Ran:
        if "--version" in argv:
            return Ran(0, f"{self.version}\n", "")
        rules = self.iptables[6 if "ip6" in argv[0] else 4]
        if argv[0].endswith("-restore"):
            before = rules.lines.copy()
            error = rules.restore(text)
            if "--test" in argv:
                rules.lines = before
            return Ran(bool(error), "", error)
        return Ran(0, rules.save(), "")

    def _busctl(self, argv: Sequence[str], text: str) -> Ran:
        return self.resolved.call([word for word in argv[1:] if not word.startswith("--")])
