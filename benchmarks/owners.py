"""
How reliably, and at what cost, the process of a connection is found:
C{python -m benchmarks.owners}.

Short-lived programs connect to this process as soon as they run, half of them excluded
by name, among many processes that sleep.  Each connection's owner is looked up when it
arrives.  Then the same is done with a proxy on this machine that has thousands of
sockets, and all of it again without the kernel's record of sockets.  Everything happens on
the loopback interface; no route is changed.  If it may, this process raises its own
priority, so that other programs do not delay it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall, react

from nanotun.config.file import Given
from nanotun.config.settings import makeSettings
from nanotun.flow import Endpoint, Flow, Owner
from nanotun.flow import Protocol as IPProtocol
from nanotun.owners.make import makeOwners
from nanotun.owners.options import ownerOptions
from nanotun.owners.owners import Owners
from nanotun.owners.recorder import Recorder
from nanotun.owners.syscalls import LinuxBpf
from nanotun.policy.rules import LOCAL_PROXY

CONNECTS = 10_000
SLEEPERS = 2_000
SOCKETS = 2_000
CONNECTS_EACH = 5
"""Connections of one program."""

AT_ONCE = 4
"""Programs that run at a time, half of them excluded."""

TICK = 0.002
"""Seconds between two measurements of the reactor's delay."""

LIMIT = 600.0
"""Seconds for one row at most."""

MISSED_LIMIT = 0.001
"""Share of the excluded connections that may be missed."""

HELD_LIMIT = 0.020
"""Seconds that the reactor may work without a pause."""

NEWCOMER_LIMIT = 0.0002
"""Seconds of CPU for the lookup of a program's first connection, with the record: the median."""

#: Bash can connect without loading a library, a millisecond after its start.
CONNECT = "for i in {{1..{}}}; do exec 3<>/dev/tcp/127.0.0.1/$0; read -r line <&3; exec 3>&-; done"

PROXY = """
import resource, socket, sys
count, sockets = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (sockets + 100, sockets + 100))
listener = socket.create_server(("127.0.0.1", 0))
held = [socket.socket() for _ in range(sockets)]
print(listener.getsockname()[1], flush=True)
there = int(sys.stdin.readline())
for number in range(count):
    with socket.create_connection(("127.0.0.1", there)) as connection:
        connection.recv(1)
    # The numbers of other sockets become free, as in a proxy.
    if held:
        held[number * 7 % sockets].close()
        held[number * 7 % sockets] = socket.socket()
"""


class Ask(Protocol):
    """Looks up the owner of a connection, and closes it."""

    factory: Asker

    def connectionMade(self) -> None:
        """Look up the owner."""
        assert self.transport is not None
        transport = self.transport
        self.factory.ask(transport.getPeer(), transport.getHost(), transport.loseConnection)


class Asker(Factory):
    """
    The lookups for the connections to one port.

    @ivar expected: the setting that excludes the owners; empty for none.
    @ivar found: the setting that was found to exclude each owner; L{None} for a miss.
    @ivar spent: seconds of CPU for each lookup.
    @ivar misses: how many owners were not found in time.
    @ivar waited: how many flows had to wait for their owner.
    """

    protocol: Any = Ask

    def __init__(self, owners: Owners, expected: str) -> None:
        self._owners = owners
        self.expected = expected
        self.found: list[str | None] = []
        self.spent: list[float] = []
        self.misses = self.waited = 0

    def ask(self, peer: Any, host: Any, done: Callable[[], object]) -> None:
        """Look up an owner, record the result, and call C{done}."""
        source, destination = Endpoint(peer.host, peer.port), Endpoint(host.host, host.port)
        flow = Flow(1, IPProtocol.TCP, source, destination)
        began = time.thread_time()
        owner = self._owners.ownerOf(flow)
        self.spent.append(time.thread_time() - began)
        if isinstance(owner, Deferred):
            self.waited += 1
            owner.addCallback(self._record, done)
        else:
            self._record(owner, done)

    def _record(self, owner: Owner | None, done: Callable[[], object]) -> None:
        self.misses += owner is None
        self.found.append(None if owner is None else owner.excluded)
        done()

    @property
    def wrong(self) -> int:
        """How many were wrongly found to be excluded, or excluded by another setting."""
        return sum(bool(each) and each != self.expected for each in self.found)

    @property
    def missed(self) -> int:
        """How many are excluded but were not found to be."""
        return sum(not each for each in self.found) if self.expected else 0


def settings(**changes: object) -> Any:
    """Settings with these values."""
    # The flows come by this device; the kernel is asked for its number once.
    changes["tunName"] = "lo"
    values = {key: Given(value, key) for key, value in changes.items()}
    return makeSettings(values, {}, None)


@contextlib.contextmanager
def started(argv: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program with all its children, in a process group that is killed afterwards."""
    argv = ["nice", "-n", str(-os.getpriority(os.PRIO_PROCESS, 0)), *argv]
    program = subprocess.Popen(argv, start_new_session=True, text=True, **options)
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


class Held(NamedTuple):
    """
    The worst values of a row, in seconds.

    @ivar late: how late the reactor was by the clock, whatever held it up.
    @ivar spent: CPU time that it used without a pause.
    """

    late: float
    spent: float

    def cells(self) -> list[str]:
        """The cells of the table, in milliseconds."""
        return [f"{self.spent * 1000:.1f}", f"{self.late * 1000:.1f}"]


class Bench:
    """The reactor, and the rows that were measured with it."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self.recorder = Recorder(LinuxBpf())
        self._reactor = reactor
        bash = os.path.realpath(shutil.which("bash") or "/bin/bash")
        self._mine = shutil.copy(bash, str(directory / "bench-mine"))
        self._other = shutil.copy(bash, str(directory / "bench-other"))
        self.rows: list[list[str]] = []
        self.good = True

    async def idle(self, name: str, seconds: float = 5.0) -> None:
        """Measure how late the reactor is when there is nothing to do."""
        done: Deferred[None] = Deferred()
        late = self._watch()
        self._reactor.callLater(seconds, done.callback, None)
        await done
        self.rows.append([name, *[""] * 7, *late().cells()])

    async def row(
        self,
        name: str,
        changes: Mapping[str, object],
        expected: str,
        connects: int,
        proxy: subprocess.Popen[str] | None = None,
        each: int = CONNECTS_EACH,
    ) -> None:
        """
        Measure one case.

        @param connects: connections of short-lived programs.  Half of the programs are
            excluded, unless there is a proxy.
        @param proxy: a L{PROXY} that waits to be told the port to connect to.
        @param each: how many connections one program makes.
        """
        owners = makeOwners(ownerOptions(settings(**changes)), self._reactor, self.recorder)
        began = time.thread_time()
        owners.start()
        # As the daemon does after its start.
        gc.freeze()
        print(f"{name}: the first scan takes {(time.thread_time() - began) * 1000:.0f} ms")
        askers = Asker(owners, expected), Asker(owners, "")
        ports = []
        for asker in askers:
            ports.append(await TCP4ServerEndpoint(self._reactor, 0, 1024).listen(asker))
        late = self._watch()
        numbers = [port.getHost().port for port in ports]
        mine, other = numbers
        if proxy is not None:
            assert proxy.stdin is not None
            print(mine, file=proxy.stdin, flush=True)
            mine = other
        with started(self._programs(connects, mine, other, each)) as program:
            await self._ended(program)
        if proxy is not None:
            await self._ended(proxy)
        held = late()
        for port in ports:
            await port.stopListening()
        owners.stop()
        self._tell(name, askers, held)
        if each == 1 and self.recorder.works:
            self.good &= statistics.median(askers[0].spent + askers[1].spent) <= NEWCOMER_LIMIT

    def _tell(self, name: str, askers: tuple[Asker, Asker], held: Held) -> None:
        excluded, others = askers
        wrong = excluded.wrong + others.wrong
        self.good &= not wrong and held.spent <= HELD_LIMIT
        self.good &= excluded.missed <= MISSED_LIMIT * len(excluded.found)
        self.good &= bool(excluded.found) and bool(others.found)
        for asker, kind in ((excluded, "excluded"), (others, "others")):
            spent = sorted(asker.spent) or [0.0]
            self.rows.append(
                [
                    f"{name}, {kind}",
                    str(len(asker.found)),
                    str(asker.wrong),
                    str(asker.missed) if asker.expected else "",
                    str(asker.waited),
                    str(asker.misses),
                    f"{statistics.median(spent) * 1e6:.0f}",
                    f"{spent[int(len(spent) * 0.99)] * 1e6:.0f}",
                    f"{spent[-1] * 1000:.1f}",
                    *held.cells(),
                ]
            )

    async def _ended(self, program: subprocess.Popen[str]) -> None:
        end = time.monotonic() + LIMIT
        while program.poll() is None:
            if time.monotonic() > end:
                raise RuntimeError("the load did not end in time")
            pause: Deferred[None] = Deferred()
            self._reactor.callLater(0.05, pause.callback, None)
            await pause

    def _watch(self) -> Callable[[], Held]:
        """Begin to watch the reactor; the function returned ends this and returns the result."""
        last, lastSpent = time.perf_counter(), time.thread_time()
        worst = Held(0.0, 0.0)

        def tick() -> None:
            nonlocal last, lastSpent, worst
            now, spent = time.perf_counter(), time.thread_time()
            worst = Held(max(worst.late, now - last - TICK), max(worst.spent, spent - lastSpent))
            last, lastSpent = now, spent

        loop = LoopingCall(tick)
        loop.clock = self._reactor
        loop.start(TICK)

        def end() -> Held:
            loop.stop()
            return worst

        return end

    def _programs(self, connects: int, mine: int, other: int, each: int) -> list[str]:
        """The command that runs programs of both kinds, L{AT_ONCE} at a time."""
        rounds = connects // (each * AT_ONCE)
        connect = CONNECT.format(each)
        pair = '"$1" -c "$3" "$4" & "$2" -c "$3" "$5" & '
        script = f"for n in $(seq {rounds}); do {pair * (AT_ONCE // 2)} wait; done"
        return ["sh", "-c", script, "sh", self._mine, self._other, connect, str(mine), str(other)]


def table(rows: list[list[str]]) -> str:
    """Format the rows."""
    heads = ["", "connects", "wrong", "missed", "waited", "not found"]
    heads += ["median us", "p99 us", "longest ms", "held ms", "late ms"]
    return "\n".join(
        f"{row[0]:44}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in [heads, *rows]
    )


async def rows(bench: Bench, given: argparse.Namespace, how: str) -> None:
    """
    Measure all cases.

    @param how: what to add to their names.
    """
    name = {"proxy": "192.0.2.1:1080", "excludedProcesses": "bench-mine"}
    await bench.row(f"by name{how}", name, "bench-mine", given.connects)
    connects = given.connects // 10
    await bench.row(f"newcomers{how}", name, "bench-mine", connects, each=1)
    for sockets in (0, given.sockets):
        argv = [sys.executable, "-c", PROXY, str(connects), str(sockets)]
        with started(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proxy:
            assert proxy.stdout is not None
            address = {"proxy": f"127.0.0.1:{int(proxy.stdout.readline())}"}
            row = f"local proxy, {sockets} sockets{how}"
            await bench.row(row, address, LOCAL_PROXY, connects, proxy)


async def measure(reactor: Any, given: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    import psutil

    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-owners-")))
        bench = Bench(reactor, directory)
        sleepers = f"for n in $(seq {given.processes}); do sleep 3600 & done; wait"
        stack.enter_context(started(["sh", "-c", sleepers]))
        count = 0
        while count < given.processes:
            count = len(psutil.pids())
            time.sleep(0.1)
        await bench.idle("nothing to do")
        bench.recorder.start()
        stack.callback(bench.recorder.stop)
        if bench.recorder.works:
            await rows(bench, given, "")
            bench.recorder.stop()
        else:
            print("The kernel does not record sockets here.")
        await rows(bench, given, ", no record")
        began = time.thread_time()
        psutil.net_connections("inet")
        scan = time.thread_time() - began
    print(f"{count} processes, {given.connects} connects; for comparison, psutil's full scan,")
    print(f"net_connections(), takes {scan * 1e6:.0f} us of CPU:\n")
    print(table(bench.rows))
    print(
        "\nwrong: found to be excluded, but is not.  missed: excluded, but not found to be.  "
        "waited: looked up\nmore than once.  not found: no owner in time.  held: the most CPU "
        "time that the reactor used without a\npause.  late: the same by the clock, including "
        "the time that other programs took."
    )
    return 0 if bench.good else 1


def main(argv: list[str] | None = None) -> None:
    """Measure and print.  The exit status is 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.owners")
    parser.add_argument("--connects", type=int, default=CONNECTS)
    parser.add_argument("--processes", type=int, default=SLEEPERS)
    parser.add_argument("--sockets", type=int, default=SOCKETS)
    given = parser.parse_args(argv)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)

    async def begin(reactor: Any) -> None:
        status = await measure(reactor, given)
        if status:
            raise SystemExit(status)

    react(lambda reactor: Deferred.fromCoroutine(begin(reactor)))


if __name__ == "__main__":
    main()
