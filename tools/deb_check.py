"""
Installs, upgrades, removes and purges the Debian package, and looks what it does.

    python3 tools/deb_check.py PACKAGE

As root, in a bare root made for it (tools/deb_roots.py): this changes the system that it runs
in.  All is done twice: without systemd, and on a systemd that is booted for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: What other programs note about an installation.
NOT_OURS = (
    *("dev", "proc", "sys", "tmp", "mnt", "root", "var/cache", "var/tmp"),
    *("var/lib/apt", "var/lib/dpkg", "var/lib/systemd/random-seed", "var/log/apt"),
    *("etc/.updated", "var/.updated"),
    *(
        "var/log/journal",
        "var/log/wtmp",
        "var/log/dpkg.log",
        "run/lock",
        "run/netns",
        "run/systemd",
        "run/lab",
    ),
)

#: The package's files that dpkg may not remove until a purge.
KEPT = {"etc/nanotun.yaml", "etc/default/nanotun", "etc/init.d/nanotun"}

SECONDS = 60.0

CONFIG = """proxy: socks5://198.51.100.2:1080
autoDefaultRoute: true
dns: 198.51.100.2
logDir: /var/log/nanotun
"""

#: Tells each client its address.
SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode())
http.server.HTTPServer(("11.0.0.5", 80), Handler).serve_forever()
"""

#: Boots systemd with nothing to start, with files of its own in /run.
BOOT = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,ro /proc/sys
umount /sys/fs/cgroup 2>/dev/null || true
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system
printf '[Unit]\\nDefaultDependencies=no\\n' >/run/systemd/system/lab.target
ip link set lo up
exec env -i container=lab PATH="$PATH" /lib/systemd/systemd --system --unit=lab.target \
    --log-target=console --show-status=no
"""


class Broken(Exception):
    """Something does not hold; the text says what."""


def require(holds: object, what: str) -> None:
    """
    @raise Broken: it does not hold.
    """
    if not holds:
        raise Broken(what)


def wait(holds: object, what: str) -> None:
    """
    Wait until a function returns something true.

    @raise Broken: it does not.
    """
    assert callable(holds)
    end = time.monotonic() + SECONDS
    while not holds():
        require(time.monotonic() < end, what)
        time.sleep(0.1)


def tree() -> dict[str, str]:
    """All files, as mode and content by path."""
    found = {}
    for folder, folders, names in os.walk("/"):
        for name in [*folders, *names]:
            path = Path(folder, name)
            relative = str(path)[1:]
            if relative in NOT_OURS:
                if name in folders:
                    folders.remove(name)
                continue
            mode = path.lstat().st_mode
            content = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[relative] = f"{mode:o} {content}"
    return found


def difference(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The paths that are new, gone or changed."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


class Machine:
    """
    This root, in a network whose only neighbour has a proxy and a server.

    @ivar booted: whether systemd runs it.
    """

    def __init__(self, enter: list[str], booted: bool) -> None:
        self._enter = enter
        self.booted = booted

    def run(self, *argv: str, good: bool = True) -> str:
        """
        Run a program.

        @return: what it says.
        @raise Broken: it fails although it should be good, or the other way round.
        """
        # Without this, make's variables reach the program.
        variables = {"PATH": os.environ["PATH"], "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            [*self._enter, *argv],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        require(
            (done.returncode == 0) == good, f"{' '.join(argv)}: {done.returncode}\n{done.stdout}"
        )
        return done.stdout

    def service(self, action: str) -> None:
        """Start or stop the service, as an administrator does."""
        if self.booted:
            self.run("systemctl", action, "nanotun")
        else:
            self.run("/etc/init.d/nanotun", action)

    def pid(self) -> int:
        """The daemon's, or 0."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if b"/usr/lib/nanotun/bin/twistd" in words:
                    return int(path.parent.name)
        return 0

    def rules(self) -> set[str]:
        """Its routing rules, and the routes but for the kernel's own, which come when they can."""
        rules = (self.run("ip", family, "rule") for family in ("-4", "-6"))
        lines = "".join(rules) + self.run("ip", "route", "show", "table", "all")
        return {line for line in lines.splitlines() if " proto kernel " not in line}


@contextlib.contextmanager
def machine(booted: bool) -> Iterator[Machine]:
    """A machine, and a world that it reaches, for a while."""
    with contextlib.ExitStack() as stack:

        def start(*argv: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

            def stop() -> None:
                process.kill()
                process.wait()

            stack.callback(stop)
            return process

        unshare = ["unshare", "--net"]
        if booted:
            unshare += "--mount --pid --fork --kill-child --ipc --uts --cgroup".split()
            # Before systemd is the first of its control groups.
            group = Path("/sys/fs/cgroup/systemd-lab")
            group.mkdir(exist_ok=True)
            stack.callback(wait, lambda: removeGroup(group), "systemd has left processes")
            enter = f'echo $$ >{group}/cgroup.procs && exec "$@"'
            outer = start("sh", "-c", enter, "sh", *unshare, "sh", "-c", BOOT)
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            wait(lambda: _isSystemd(children.read_text()), "systemd does not boot")
            first = children.read_text().strip()
            into = ["nsenter", "--target", first, *"-m -p -n -i -u -C".split()]
        else:
            outer = start(*unshare, "sleep", "infinity")
            mine = os.readlink("/proc/self/ns/net")
            wait(lambda: os.readlink(f"/proc/{outer.pid}/ns/net") != mine, "no network namespace")
            first = str(outer.pid)
            into = ["nsenter", "--target", first, "--net"]
        made = Machine(into, booted)
        if booted:
            wait(lambda: "active" in _quiet(made, "is-active", "lab.target"), "no lab.target")
        world = start("unshare", "--net", "sleep", "infinity")
        wait(
            lambda: os.readlink(f"/proc/{world.pid}/ns/net") != os.readlink("/proc/self/ns/net"),
            "no network namespace",
        )
        there = ["nsenter", "--target", str(world.pid), "--net"]
        # From here, as a booted machine does not know our numbers of processes.
        veth = "ip link add far0 type veth peer name near0 netns"
        subprocess.run([*there, *veth.split(), first], check=True)
        for line in (
            "ip link set lo up",
            "ip addr add 198.51.100.1/24 dev near0",
            "ip link set near0 up",
            "ip route add default via 198.51.100.2",
        ):
            made.run(*line.split())
        for line in (
            "ip link set lo up",
            "ip addr add 11.0.0.5/32 dev lo",
            "ip addr add 198.51.100.2/24 dev far0",
            "ip link set far0 up",
        ):
            subprocess.run([*there, *line.split()], check=True)
        start(*there, "microsocks", "-i", "198.51.100.2", "-p", "1080")
        start(*there, sys.executable, "-c", SERVER)
        probe = ["curl", "-s", "--max-time", "5", "http://11.0.0.5/"]
        wait(
            lambda: subprocess.run([*into, *probe], capture_output=True).stdout == b"198.51.100.1",
            "the server does not answer",
        )
        yield made


def _quiet(made: Machine, *arguments: str) -> str:
    try:
        return made.run("systemctl", *arguments)
    except Broken:
        return ""


def _isSystemd(pids: str) -> bool:
    """Whether one of these processes is systemd by now."""
    return any(Path(f"/proc/{pid}/comm").read_text() == "systemd\n" for pid in pids.split())


def removeGroup(group: Path) -> bool:
    """Remove a control group and all below, if no process is there any more."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not group.exists()


def newer(package: Path, directory: Path) -> Path:
    """The same package with a higher version, in which one module has changed."""
    content = directory / "content"
    subprocess.run(["dpkg-deb", "-R", str(package), str(content)], check=True)
    control = content / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: ", "Version: 99.", control.read_text()))
    (module,) = content.glob("usr/lib/nanotun/lib/python3*/site-packages/nanotun/__init__.py")
    module.write_text(re.sub(r'"([0-9.]+)"', r'"99.\1"', module.read_text()))
    made = directory / "newer.deb"
    # Quickly; the size does not matter.
    pack = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", str(content), str(made)]
    subprocess.run(pack, check=True)
    return made


def check(made: Machine, package: Path, higher: Path) -> None:
    """
    Take the package through its life.

    @raise Broken: something does not hold.
    """
    proxied, direct = "11.0.0.5", "198.51.100.1"
    fetch = ("curl", "-sS", "--max-time", "20", "http://11.0.0.5/")
    install = ("apt-get", "install", "-y", "-q", "--no-install-recommends")
    before, rules = tree(), made.rules()

    said = made.run(*install, str(package))
    require("nanotun is not started" in said, f"installing says: {said}")
    require(made.pid() == 0, "installing starts the daemon")
    require(oct(Path("/etc/nanotun.yaml").stat().st_mode)[-3:] == "600", "others can read secrets")
    lib = Path("/usr/lib/nanotun")
    require(list(lib.glob("lib/*/site-packages/nanotun/__pycache__/*")), "there is no byte code")
    version = made.run("nanotun", "--version")
    require(re.fullmatch(r"nanotun [0-9.]+\n", version), f"its version is {version}")
    run = ("nanotun", "run", "--proxy", "socks5://198.51.100.2:1080", "--", *fetch)
    require(made.run(*run) == proxied, "nanotun run does not go through the proxy")

    Path("/etc/nanotun.yaml").write_text(CONFIG)
    if made.booted:
        made.run("systemctl", "enable", "nanotun")
    else:
        made.run("update-rc.d", "nanotun", "enable")
    made.service("start")
    require(made.run(*fetch) == proxied, "the daemon does not take traffic to the proxy")
    first = made.pid()

    Path("/etc/nanotun.yaml").write_text(f"{CONFIG}mtuu: 1\n")
    said = made.run(*install, "--reinstall", str(package))
    require(made.pid() == first, f"a daemon ends for a configuration with a mistake: {said}")
    require(made.run(*fetch) == proxied, "the running daemon does not survive the new files")
    Path("/etc/nanotun.yaml").write_text(CONFIG)
    said = made.run(*install, str(higher))
    require(made.run("nanotun", "--version") == f"nanotun 99.{version[8:]}", "no upgrade")
    require(made.pid() not in (0, first), f"the upgrade does not restart the daemon: {said}")
    require(made.run(*fetch) == proxied, "the new daemon does not take traffic to the proxy")

    # A crash that nobody has cleaned up.
    if made.booted:
        made.run("systemctl", "mask", "--runtime", "--now", "nanotun")
        made.run("systemctl", "unmask", "--runtime", "nanotun")
        made.service("start")
    else:
        os.kill(made.pid(), signal.SIGKILL)
        wait(lambda: made.pid() == 0, "the daemon cannot be killed")
        require(made.rules() != rules, "a killed daemon leaves nothing to undo")
    said = made.run("apt-get", "remove", "-y", "-q", "nanotun")
    require(made.pid() == 0, "the daemon survives the removal")
    require(made.rules() == rules, f"{said}routes are left or gone: {made.rules() ^ rules}")
    require(made.run(*fetch) == direct, "after the removal, there is no way out")
    require(not lib.exists(), f"{lib} is left")
    left = {path for path in difference(before, tree()) if not os.path.isdir(f"/{path}")}
    others = {path for path in left - KEPT if not re.match(r"etc/(rc.\.d|systemd)/|var/l", path)}
    require(not others, f"the removal leaves {sorted(others)}")

    made.run("apt-get", "purge", "-y", "-q", "nanotun")
    left = difference(before, tree())
    require(not left, f"the purge leaves {sorted(left)}")
    require(not list(Path("/var/lib/dpkg/info").glob("nanotun*")), "dpkg knows it still")
    if made.booted:
        require("nanotun" not in made.run("systemctl", "list-unit-files"), "systemd knows it still")
        for name in ("/run/nanotun", "/run/nanotun.pid"):
            made.run("test", "!", "-e", name)


def main(arguments: list[str]) -> int:
    """Run the check."""
    if len(arguments) != 1 or os.geteuid() != 0:
        print(__doc__, file=sys.stderr)
        return 2
    # systemd empties /tmp.
    with tempfile.TemporaryDirectory(dir="/var/cache") as name:
        directory = Path(name)
        directory.chmod(0o755)
        package = Path(shutil.copy(arguments[0], directory))
        higher = newer(package, directory)
        # Without an init, invoke-rc.d leaves services alone, unless it is told otherwise.
        policy = Path("/usr/sbin/policy-rc.d")
        policy.write_text("#!/bin/sh\nexit 0\n")
        policy.chmod(0o755)
        for booted in (False, True):
            title = "with systemd" if booted else "without systemd"
            try:
                with machine(booted) as made:
                    check(made, package, higher)
            except Broken as broken:
                print(f"{package.name}, {title}: {broken}", file=sys.stderr)
                return 1
            print(f"{package.name}, {title}: installed, upgraded, removed, purged; nothing is left")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
