"""
Which selector a process or a socket matches: pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nanotun.config.selectors import Selector, SelectorKind
from nanotun.errors import ConfigError
from nanotun.linux.users import nearUser
from nanotun.owners.values import Process, Program


class Matcher:
    """
    All selectors of C{excludedProcesses}, indexed.

    @ivar bySockets: whether a socket's user or cgroup can match.
    @ivar byCgroups: whether any selector is about cgroups.
    @ivar byFamilies: whether the children of a user's or cgroup's processes match, too.
    @ivar byProcesses: whether processes have to be examined.
    @param children: whether the children of an excluded process are excluded, too.
    @param uidOf: see L{nanotun.linux.users.uidOf}.
    @param realPath: resolves the symbolic links in a path.
    @raise ConfigError: a user is unknown.
    """

    def __init__(
        self,
        selectors: Iterable[Selector],
        children: bool,
        uidOf: Callable[[str], int],
        realPath: Callable[[str], str],
    ) -> None:
        values: dict[SelectorKind, dict[str, str]] = {kind: {} for kind in SelectorKind}
        for selector in selectors:
            values[selector.kind].setdefault(selector.value, str(selector))
        self._realPath = realPath
        self._names = values[SelectorKind.NAME]
        self._paths = values[SelectorKind.PATH]
        self._realPaths = dict(self._paths)
        self._units = values[SelectorKind.UNIT]
        self._cgroups = tuple(values[SelectorKind.CGROUP].items())
        self._pids = {int(value): text for value, text in values[SelectorKind.PID].items()}
        self._starts: dict[int, int] = {}
        self._uids = {_uid(value, uidOf): text for value, text in values[SelectorKind.UID].items()}
        self.byFamilies = children and bool(self._uids or self._cgroups or self._units)
        self.byCgroups = bool(self._cgroups or self._units)
        self.bySockets = bool(self._uids) or self.byCgroups
        self.byProcesses = bool(self._names or self._paths or self._pids or self.byFamilies)

    def bindPids(self, startOf: Callable[[int], int | None]) -> list[str]:
        """
        Make C{pid:N} mean the process that has this pid now, and no later one with the
        same pid.

        @param startOf: when a process was started; L{None} if there is no such process.
        @return: the selectors that match no process.
        """
        nobody = []
        for pid, text in self._pids.items():
            started = startOf(pid)
            if started is None:
                nobody.append(text)
            else:
                self._starts[pid] = started
        return nobody

    def resolvePaths(self) -> None:
        """Resolve symbolic links again: updates change them.  Thread-safe."""
        paths = dict(self._paths)
        for path, text in self._paths.items():
            paths.setdefault(self._realPath(path), text)
        self._realPaths = paths

    def socketText(self, uid: int, cgroup: str) -> str:
        """
        The selector that matches all sockets of a user or of a cgroup; empty if none does.

        @param cgroup: a path; empty if it is unknown.
        """
        return self._uids.get(uid) or self._cgroupText(cgroup)

    def programText(self, pid: int, started: int, program: Program) -> str:
        """The selector that matches a process's pid or program; empty if none does."""
        if self._starts.get(pid) == started:
            return self._pids[pid]
        found = self._realPaths.get(program.path)
        if found:
            return found
        for name in program.names:
            if name in self._names:
                return self._names[name]
        return ""

    def processText(self, process: Process) -> str:
        """The selector that matches a process; empty if none does."""
        program = Program(process.names, process.path)
        found = self.programText(process.pid, process.stat.started, program)
        if found:
            return found
        # Its own sockets match by themselves; this is for its children.
        if self.byFamilies:
            return self.socketText(process.uids[1], process.cgroup)
        return ""

    def _cgroupText(self, cgroup: str) -> str:
        if not cgroup or not self.byCgroups:
            return ""
        for path, text in self._cgroups:
            if path == "/" or cgroup == path or cgroup.startswith(f"{path}/"):
                return text
        if self._units:
            for part in cgroup.split("/"):
                if part in self._units:
                    return self._units[part]
        return ""


def _uid(value: str, uidOf: Callable[[str], int]) -> int:
    try:
        return uidOf(value)
    except KeyError:
        near = nearUser(value)
        advice = f"did you mean {near}?" if near else "write another name, or a number."
        raise ConfigError(
            f"excludedProcesses names uid:{value}, but this machine has no user {value}; {advice}"
        ) from None
