"""Tests of L{nanotun.console.run.scripts}: whose rights a script gets, and its process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell.command import CommandUser
from nanotun.console.run import scripts
from nanotun.console.run.options import RunOptions
from nanotun.console.run.scripthelper import become
from nanotun.console.run.scripts import (
    RunScript,
    ScriptProcess,
    environmentOf,
    ownerOf,
    whoRuns,
)
from nanotun.errors import ConfigError
from nanotun.linux.users import nameOf
from nanotun.scripting.apart import RemoteScript
from nanotun.scripting.script import ScriptOptions
from nanotun.scripting.served import Lines

PATH = "/srv/agent.py"
USER = CommandUser(4711, 4711, (), {"HOME": "/home/ann", "USER": "ann"})


class WhoTests(SynchronousTestCase):
    """L{whoRuns}, and whom that is."""

    def setUp(self) -> None:
        names = {1000: "ann", 1001: "bob"}
        self.patch(scripts, "nameOf", names.__getitem__)

    def test_rights(self) -> None:
        """A script of root's gets root's rights, whoever COMMAND runs as; another its owner's."""
        self.assertEqual(whoRuns(PATH, 1000, {}), 0)
        self.assertEqual(whoRuns(PATH, 0, {}), 0)
        self.assertEqual(whoRuns(PATH, 1001, {1000: "/srv"}), 1000)

    def test_refused(self) -> None:
        """Nothing runs that COMMAND could write, or that belongs to more than one."""
        elsewhere = "keep it where only root can write, such as /etc/nanotun"
        for command, writers, sentence in (
            (
                1000,
                {1000: "/srv"},
                f"ann, as whom COMMAND runs, so COMMAND could change what it may do; {elsewhere}, "
                "or run COMMAND as another user (-u).",
            ),
            (
                0,
                {1000: "/srv"},
                "ann, but COMMAND runs as root and could change it as well; run COMMAND as another "
                f"user (-u), or {elsewhere}.",
            ),
            (
                7,
                {1000: "/srv", 1001: PATH},
                "several users (ann, bob); keep it where only root or one user can.",
            ),
        ):
            error = self.assertRaises(ConfigError, whoRuns, PATH, command, writers)
            self.assertEqual(str(error), f"The script {PATH} can be written by {sentence}")

    def test_ordinary(self) -> None:
        """An ordinary user's nanotun runs scripts of root's and of that user's, and no others."""
        self.assertEqual(whoRuns(PATH, 1000, {}, 1000), 0)
        self.assertEqual(whoRuns(PATH, 1000, {1000: PATH}, 1000), 1000)
        error = self.assertRaises(ConfigError, whoRuns, PATH, 1000, {1001: PATH}, 1000)
        self.assertEqual(
            str(error),
            f"The script {PATH} can be written by bob, and only root could run it with such "
            "rights; keep it where only root can write, such as /etc/nanotun, or have one of your "
            "own.",
        )

    def test_owner(self) -> None:
        """The owner's process gets the owner's groups; a number that nobody has is an error."""
        self.assertEqual(ownerOf(PATH, 0).variables["USER"], "root")
        error = self.assertRaises(ConfigError, ownerOf, PATH, 4_000_000)
        self.assertEqual(
            str(error),
            f"The script {PATH} belongs to the user 4000000, whom this machine does not know; run "
            f"'chown root {PATH}'.",
        )

    def test_environment(self) -> None:
        """Of nanotun's variables it gets none that could be a secret, and of its owner's all."""
        ours = {"PATH": "/bin", "LC_ALL": "C", "NANOTUN_PROXY": "x", "HOME": "/root", "TOKEN": "x"}
        expected = {"PATH": "/bin", "LC_ALL": "C", **USER.variables}
        self.assertEqual(environmentOf(USER, ours), expected)
        self.patch(os.path, "exists", lambda path: path == "/run/user/4711/bus")
        session = {
            "XDG_RUNTIME_DIR": "/run/user/4711",
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/4711/bus",
        }
        self.assertEqual(environmentOf(USER, ours), expected | session)


class BecomeTests(SynchronousTestCase):
    """L{become}."""

    def test_order(self) -> None:
        """Groups go first, because only root may change them, and no saved number is left."""
        done: list[tuple[object, ...]] = []
        for name in ("setgroups", "setresgid", "setresuid"):
            self.patch(os, name, lambda *ids, name=name: done.append((name, *ids)))
        become(CommandUser(4711, 4712, (4712, 4713), {}))
        self.assertEqual(
            done,
            [
                ("setgroups", (4712, 4713)),
                ("setresgid", 4712, 4712, 4712),
                ("setresuid", 4711, 4711, 4711),
            ],
        )


class RunScriptTests(SynchronousTestCase):
    """L{RunScript}."""

    def setUp(self) -> None:
        self.said: list[str] = []
        self.made: list[tuple[Any, ...]] = []
        self.writers: dict[int, str] = {}
        self.path = os.path.abspath(self.mktemp())
        Path(self.path).write_text("def flow(flow): print('x')\n")
        self.patch(scripts, "writersOf", lambda path, what: self.writers)
        self.patch(scripts, "ScriptProcess", self._make)
        self.patch(scripts, "findUser", lambda text: USER)
        self.patch(os, "geteuid", lambda: 0)
        self.patch(sys, "stdout", sys.stdout)

    def _make(self, *arguments: Any) -> RunScriptTests:
        self.made.append(arguments)
        return self

    def ready(self, reactor: object) -> str:
        """Stands for the process."""
        return "ready"

    def end(self) -> None:
        """Stands for the process."""
        self.made.append(())

    def run_(self, *arguments: str) -> RunScript:
        """What a command line makes."""
        options = RunOptions()
        options.parseOptions(["--proxy", "reject://", *arguments, "true"])
        return RunScript(options, Clock(), self.said.append)

    def test_none(self) -> None:
        """Without a script there is nothing to do."""
        script = self.run_()
        self.assertEqual(script.ready(), None)
        script.end()
        self.assertEqual((self.said, self.made), ([], []))

    def test_here(self) -> None:
        """A script of root's runs here; one line warns if COMMAND is root's, too."""
        self.patch(scripts, "scriptFor", lambda *arguments, trusted: (*arguments, trusted))
        for flags, said in (
            (("-u", "65534"), []),
            (
                (),
                [
                    f"COMMAND runs as root, who can change the script {self.path} for the next "
                    "time; -u USER has it run as somebody who cannot."
                ],
            ),
        ):
            self.patch(scripts, "findUser", lambda text: USER)
            script = self.run_("--script", self.path, *flags)
            settings, _, trusted = script.ready()  # type: ignore[misc]
            self.assertEqual(trusted, (0,))
            self.assertEqual(settings.script, self.path)
            self.assertEqual((self.said, self.made), (said, []))
            # What it prints is not mixed with COMMAND's output.
            self.assertIs(sys.stdout, sys.stderr)

    def test_own(self) -> None:
        """An ordinary user's own runs here, too, with a warning; root's without one."""
        self.patch(os, "geteuid", lambda: 65534)
        self.patch(scripts, "scriptFor", lambda *arguments, trusted: trusted)
        warning = (
            f"COMMAND runs as {nameOf(65534)}, who can change the script {self.path} for the next "
            "time; keep it where only root can write, such as /etc/nanotun."
        )
        for writers, said in (({}, []), ({65534: self.path}, [warning])):
            self.writers = writers
            self.assertEqual(self.run_("--script", self.path).ready(), (65534,))
            self.assertEqual((self.said, self.made), (said, []))

    def test_wrong(self) -> None:
        """What is wrong with the script is a sentence, before or after COMMAND's network."""
        Path(self.path).write_text("flow(\n")
        os.chmod(self.path, 0o666)
        script = self.run_("--script", self.path)
        self.assertIn("could be changed by", str(self.assertRaises(ConfigError, script.ready)))

    def test_process(self) -> None:
        """Another's runs in a process of its own, which is ended."""
        self.writers = {1000: self.path}
        relative = os.path.relpath(self.path)
        script = self.run_("--script", relative, "-u", "65534", "--script-timeout", "7s")
        ((path, user, options, environment),) = self.made
        self.assertEqual((path, user), (self.path, USER))
        self.assertEqual((options.timeout, options.onError), (7.0, "reject"))
        self.assertIn("proxy", options.names)
        self.assertEqual(environment["HOME"], "/home/ann")
        self.assertEqual(script.ready(), "ready")
        script.end()
        self.assertEqual(self.made[1:], [()])
        self.assertEqual(self.said, [])


class FakeReactor(Clock):
    """Keeps what it is to adopt."""

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        """Connect a protocol to nothing."""
        self.protocol = factory.buildProtocol(None)


class ProcessTests(SynchronousTestCase):
    """L{ScriptProcess}, with another program than ours."""

    BEGIN = (
        "import json, os, signal, socket, sys\n"
        "about = json.loads(sys.argv[2])\n"
        "channel = socket.socket(fileno=about['channel'])\n"
    )

    HELLO = (
        "channel.sendall(json.dumps(dict(log='error', text='at the top')).encode() + b'\\n')\n"
        "text = json.dumps(dict.fromkeys(('needsProcess', 'decides', 'followsFlows',"
        " 'answersQueries'), True))\n"
        "channel.sendall(text.encode() + b'\\nmore')\n"
    )

    def process(self, code: str) -> ScriptProcess:
        """A process that runs this code."""
        self.patch(scripts, "BOOT", self.BEGIN + code)
        options = ScriptOptions(5.0, "reject", {"proxy": frozenset()})
        process = ScriptProcess(PATH, USER, options, {"TOLD": "x"})
        self.addCleanup(process.end)
        return process

    def test_ready(self) -> None:
        """What it says of its script counts; what comes after that is left to the connection."""
        reactor = FakeReactor()
        self.patch(scripts, "logFor", lambda message: logged.append(message["text"]))
        logged: list[str] = []
        script = self.process(self.HELLO).ready(reactor)
        self.assertIsInstance(script, RemoteScript)
        self.assertTrue(script.needsProcess and script.answersQueries)
        self.assertEqual(logged, ["at the top"])
        script.start()
        assert isinstance(reactor.protocol, Lines)
        self.assertEqual(reactor.protocol._buffer, b"more")

    def test_apart(self) -> None:
        """It has a session of its own, the root as its directory, no input, and our variables."""
        process = self.process(
            "about = [os.getsid(0) == os.getpid(), os.getcwd(), os.read(0, 9).decode(),"
            " os.environ['TOLD'], os.readlink('/proc/self/fd/1')"
            " == os.readlink('/proc/self/fd/2'), len(os.listdir('/proc/self/fd'))]\n"
            "channel.sendall(json.dumps(dict(error=about)).encode() + b'\\n')\n"
        )
        error = self.assertRaises(ConfigError, process.ready, FakeReactor())
        # Standard streams, the channel, and the directory that it looks at.
        self.assertEqual(str(error), "[True, '/', '', 'x', True, 5]")

    def test_byteCode(self) -> None:
        """It writes byte code only if this process does."""
        said = "json.dumps(dict(error=str(sys.dont_write_bytecode)))"
        for silent in (True, False):
            self.patch(sys, "dont_write_bytecode", silent)
            process = self.process(f"channel.sendall({said}.encode() + b'\\n')\n")
            error = self.assertRaises(ConfigError, process.ready, FakeReactor())
            self.assertEqual(str(error), str(silent))

    def test_ended(self) -> None:
        """One that ends too early says how."""
        for code, why in (
            ("sys.exit(3)\n", "status 3"),
            ("os.kill(os.getpid(), 9)\n", "signal 9"),
        ):
            self.patch(scripts, "STATUS_LIMIT", 10.0)
            error = self.assertRaises(ConfigError, self.process(code).ready, FakeReactor())
            self.assertEqual(
                str(error),
                f"The process of the script {PATH} ended before the script was imported ({why}).",
            )

    def test_late(self) -> None:
        """One that says nothing is not waited for, and is killed if it does not end by itself."""
        self.patch(scripts, "READY_LIMIT", 0.05)
        self.patch(scripts, "END_LIMIT", 0.05)
        process = self.process("signal.pause()\n")
        error = self.assertRaises(ConfigError, process.ready, FakeReactor())
        self.assertEqual(
            str(error),
            f"The script {PATH} was not ready within 0.05 s; it must not wait at the top of the "
            "file or in start.",
        )
        process.end()
        self.assertEqual(process._process.returncode, -9)

    def test_ends(self) -> None:
        """It ends by itself when the channel is closed, even if others hold it open."""
        process = self.process(self.HELLO + "channel.recv(1)\n")
        process.ready(FakeReactor())
        other = os.dup(process._channel.fileno())
        self.addCleanup(os.close, other)
        started = time.monotonic()
        process.end()
        self.assertEqual(process._process.returncode, 0)
        self.assertLess(time.monotonic() - started, scripts.END_LIMIT)

    def test_cannotStart(self) -> None:
        """Why it cannot be started is a sentence."""

        def broken(*arguments: object, **more: object) -> None:
            raise OSError(11, "Resource temporarily unavailable")

        self.patch(subprocess, "Popen", broken)
        error = self.assertRaises(ConfigError, self.process, "")
        self.assertEqual(
            str(error),
            f"The process of the script {PATH} cannot be started (Resource temporarily "
            "unavailable); look at the limits of processes and of memory.",
        )
