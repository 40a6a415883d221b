"""Tests of L{nanotun.control.directory} and L{nanotun.control.lock}."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.control.directory import makeRunDir, removeRunDir
from nanotun.control.lock import InstanceLock, LockHolder, findHolder, runsAlready
from nanotun.errors import ConfigError, RunningError
from nanotun.interfaces import IPart
from nanotun.rundir import LOCK


class LockCase(SynchronousTestCase):
    """Provides the path of a directory that does not exist yet."""

    def setUp(self) -> None:
        self.runDir = str(Path(self.mktemp(), "deep", "run").resolve())
        self.sleeps: list[float] = []

    def lock(self, config: str = "/etc/n.yaml") -> InstanceLock:
        """A lock that does not really sleep."""
        return InstanceLock(self.runDir, config, lambda: 1e9, self.sleeps.append)


class FindTests(LockCase):
    """L{findHolder}."""

    def test_noDirectory(self) -> None:
        """If runDir is a file, the error says so rather than advising root."""
        Path(self.runDir).parent.mkdir(parents=True, exist_ok=True)
        Path(self.runDir).touch()
        error = self.assertRaises(RunningError, findHolder, self.runDir)
        self.assertIn("(Not a directory); set runDir to a directory.", str(error))

    def test_untrusted(self) -> None:
        """A lock that another user could have written names no daemon to stop."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give a file away")
        os.makedirs(self.runDir, 0o755)
        lock = Path(self.runDir, "lock")
        lock.write_text('{"pid": 1, "since": 0, "config": ""}')
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            holder = findHolder(self.runDir)
            assert holder is not None
            self.assertEqual(holder.pid, 1)
            for path in (str(lock), self.runDir):
                os.chown(path, 65534, 65534)
                error = self.assertRaises(RunningError, findHolder, self.runDir)
                self.assertIn(f"{path} is not trusted, because the user nobody", str(error))
                os.chown(path, 0, 0)


class RunDirTests(LockCase):
    """L{makeRunDir}."""

    def test_made(self) -> None:
        """It is made with its parents, readable by everybody, whatever the umask is."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        self.assertTrue(makeRunDir(self.runDir, os.geteuid()))
        self.assertEqual(stat.S_IMODE(os.stat(self.runDir).st_mode), 0o755)
        self.assertFalse(makeRunDir(self.runDir, os.geteuid()))
        removeRunDir(self.runDir, made=False)
        self.assertTrue(os.path.exists(self.runDir))
        removeRunDir(self.runDir, made=True)
        self.assertFalse(os.path.exists(self.runDir))

    def test_othersWrite(self) -> None:
        """A directory that others can write to is refused with a cure."""
        os.makedirs(self.runDir)
        for mode in (0o775, 0o757, 0o1777):
            os.chmod(self.runDir, mode)
            error = self.assertRaises(ConfigError, makeRunDir, self.runDir, os.geteuid())
            self.assertIn("written to by others", str(error))
            self.assertIn("set runDir", str(error))

    def test_foreign(self) -> None:
        """A directory that belongs to another user is refused."""
        os.makedirs(self.runDir)
        if os.geteuid() == 0:
            os.chown(self.runDir, 12345, 12345)
            self.assertRaises(ConfigError, makeRunDir, self.runDir, 0)
        else:
            self.assertRaises(ConfigError, makeRunDir, self.runDir, os.geteuid() + 1)

    def test_impossible(self) -> None:
        """The error for a directory that cannot be made is one sentence."""
        Path(self.mktemp()).touch()
        file = self.mktemp()
        Path(file).touch()
        error = self.assertRaises(ConfigError, makeRunDir, f"{file}/run", os.geteuid())
        self.assertIn("cannot be made (Not a directory)", str(error))


class InstanceLockTests(LockCase):
    """L{InstanceLock}."""

    def test_interface(self) -> None:
        """The lock is a part of the daemon."""
        verifyObject(IPart, self.lock())

    def test_startStop(self) -> None:
        """The lock is held from start to stop, names its holder, and leaves no file behind."""
        lock = self.lock()
        self.assertIs(findHolder(self.runDir), None)
        lock.start()
        self.assertEqual(findHolder(self.runDir), LockHolder(os.getpid(), 1e9, "/etc/n.yaml"))
        lock.stop()
        self.assertIs(findHolder(self.runDir), None)
        self.assertFalse(os.path.exists(self.runDir))

    def test_notInherited(self) -> None:
        """Programs that the daemon starts do not inherit the lock."""
        lock = self.lock()
        lock.start()
        self.addCleanup(lock.stop)
        self.assertFalse(os.get_inheritable(lock._fd))

    def test_second(self) -> None:
        """A second daemon changes nothing; its error describes the running one."""
        lock = self.lock()
        lock.start()
        self.addCleanup(lock.stop)
        before = os.stat(f"{self.runDir}/{LOCK}")
        error = self.assertRaises(RunningError, self.lock("/other").start)
        self.assertIn(f"nanotun runs as process {os.getpid()} since 2001-09-0", str(error))
        self.assertIn(
            f"with /etc/n.yaml; end that one with 'nanotun stop --run-dir {self.runDir}'",
            str(error),
        )
        self.assertIn(f"runDir is {self.runDir}", str(error))
        after = os.stat(f"{self.runDir}/{LOCK}")
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))

    def test_glance(self) -> None:
        """A process that only examines the lock does not keep the daemon from starting."""
        os.makedirs(self.runDir)
        path = f"{self.runDir}/{LOCK}"
        Path(path).touch()
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_SH)
        lock = InstanceLock(self.runDir, "", lambda: 0.0, lambda seconds: os.close(fd))
        lock.start()
        lock.stop()

    def test_stale(self) -> None:
        """A file that a crash left behind is no obstacle, whatever its content."""
        os.makedirs(self.runDir)
        for content in ('{"pid": 1, "since": 1, "config": ""}', "x", "[]", ""):
            Path(self.runDir, LOCK).write_text(content)
            self.assertIs(findHolder(self.runDir), None)
            lock = self.lock()
            lock.start()
            lock.stop()

    def test_removedMeanwhile(self) -> None:
        """A file that its previous holder removes after it was opened is not the lock."""
        os.makedirs(self.runDir)
        lock = self.lock()
        seen: list[int] = []
        isAtPath = lock._isAtPath

        def onceRemoved(fd: int) -> bool:
            if not seen:
                os.unlink(f"{self.runDir}/{LOCK}")
            seen.append(fd)
            return isAtPath(fd)

        lock._isAtPath = onceRemoved  # type: ignore[method-assign]
        lock.start()
        self.assertEqual(len(seen), 2)
        self.assertEqual(findHolder(self.runDir), LockHolder(os.getpid(), 1e9, "/etc/n.yaml"))
        lock.stop()

    def test_link(self) -> None:
        """A symbolic link in place of the lock is not followed."""
        os.makedirs(self.runDir)
        victim = Path(self.mktemp())
        victim.write_text("kept")
        os.symlink(victim.resolve(), f"{self.runDir}/{LOCK}")
        error = self.assertRaises(RunningError, self.lock().start)
        self.assertIn("cannot be taken", str(error))
        self.assertEqual(victim.read_text(), "kept")
        self.assertRaises(RunningError, findHolder, self.runDir)

    def test_directoryKept(self) -> None:
        """A directory is kept if it existed before or is not empty."""
        os.makedirs(self.runDir)
        lock = self.lock()
        lock.start()
        lock.stop()
        self.assertEqual(os.listdir(self.runDir), [])
        os.rmdir(self.runDir)
        lock = self.lock()
        lock.start()
        Path(self.runDir, "journal.json").touch()
        lock.stop()
        self.assertEqual(sorted(os.listdir(self.runDir)), ["journal.json"])

    def test_madeByAnother(self) -> None:
        """
        If one process makes the directory and another one gets the lock, the one with the
        lock removes the directory.
        """
        made = makeRunDir(self.runDir, os.geteuid())
        winner, loser = self.lock(), self.lock()
        winner.start()
        self.assertRaises(RunningError, loser.start)
        removeRunDir(self.runDir, made)
        self.assertTrue(os.path.exists(self.runDir))
        winner.stop()
        self.assertFalse(os.path.exists(self.runDir))

    def test_describe(self) -> None:
        """Unknown facts about a holder are left out, and control characters are masked."""
        self.assertIn("nanotun runs already; end", str(runsAlready(LockHolder(), "/run/x")))
        self.assertIn("with a?[2Jb", LockHolder(1, 1.0, "a\x1b[2Jb").describe())
