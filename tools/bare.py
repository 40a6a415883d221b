"""
Runs commands in a bare Debian or Ubuntu, made from nothing, with a clean clone of this checkout:

    python tools/bare.py trixie 'make run' 'make test SUITES=unit'

For C{make bare}.  The root has what the README's user has: apt with its lists,
ca-certificates, git and make.  The clone, of the last commit, is in /root/nanotun, which only
root can read.  Commands run there one after the other, until one fails.

The root has mounts, processes and control groups of its own, which end with it; it shares the
machine's network, to fetch packages, with its name servers and the certificates it trusts.  Kept
between runs, below $XDG_CACHE_HOME or ~/.cache, in nanotun-bare: the bare roots as they were
before the first command, and what apt, pip and Go have fetched.  Remove that folder to begin
anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nanotun-bare"
PLACES = Path(os.environ.get("TMPDIR", "/var/tmp"))
"""Where roots are, as long as something runs there: about 4 GB each."""
KEYRINGS = Path("/usr/share/keyrings")

INCLUDED = "apt,ca-certificates,git,make"

DEBIAN = "http://deb.debian.org/debian"
UBUNTU = "http://archive.ubuntu.com/ubuntu"

#: What the commands see of the environment.
PASSED = (
    *("CI", "TERM", "http_proxy", "https_proxy", "no_proxy"),
    *("PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT"),
)

#: Programs, and the packages of Debian and Ubuntu that have them.
TOOLS = {
    "git": "git",
    "mmdebstrap": "mmdebstrap",
    "pivot_root": "util-linux",
    "tar": "tar",
    "unshare": "util-linux",
}


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that ask for an end."""


class Distribution(NamedTuple):
    """
    A release.

    @ivar sources: lines of sources.list.
    @ivar keyring: the keys that sign its lists.
    """

    title: str
    sources: tuple[str, ...]
    keyring: str


def _debian(suite: str, title: str) -> Distribution:
    return Distribution(
        title,
        (
            f"deb {DEBIAN} {suite} main",
            f"deb {DEBIAN} {suite}-updates main",
            f"deb {DEBIAN}-security {suite}-security main",
        ),
        "debian-archive-keyring",
    )


def _ubuntu(suite: str, title: str) -> Distribution:
    suites = (suite, f"{suite}-updates", f"{suite}-security")
    sources = tuple(f"deb {UBUNTU} {each} main universe" for each in suites)
    return Distribution(title, sources, "ubuntu-archive-keyring")


DISTRIBUTIONS = {
    "bookworm": _debian("bookworm", "Debian 12"),
    "trixie": _debian("trixie", "Debian 13"),
    "noble": _ubuntu("noble", "Ubuntu 24.04"),
}

#: Runs as process 1 of the root's namespaces; its variables precede it.
_INSIDE = r"""
umask 022
set -eu
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm dev/net
for device in null zero full random urandom tty net/tun; do
    if [ -e "/dev/$device" ]; then
        : >"dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    fi
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "dev/${number#*:}"
done
# The machine may have no control groups of version 2.
if mount -t cgroup2 cgroup2 sys/fs/cgroup 2>/dev/null; then
    if mkdir "sys/fs/cgroup/$cgroup" 2>/dev/null; then
        echo 0 >"sys/fs/cgroup/$cgroup/cgroup.procs"
    fi
    umount sys/fs/cgroup
    cgroups='mount -t cgroup2 cgroup2 /sys/fs/cgroup'
fi
for pair in "$archives:var/cache/apt/archives" "$pip:root/.cache/pip" "$go:root/go/pkg/mod"; do
    mkdir -p "${pair#*:}"
    mount --bind "${pair%%:*}" "${pair#*:}"
done
# A change of the root instead of chroot(2), in which the kernel allows no user namespaces.
pivot_root . mnt
exec chroot . /usr/bin/unshare --cgroup /bin/sh -c "
umount -l /mnt
${cgroups:-:}
cd /root/nanotun
$commands"
"""


class Failure(Exception):
    """Nothing was run; the text says why, in one sentence."""


class Interrupted(Exception):
    """A signal asks for the end."""


def say(text: str) -> None:
    """Tell the user what happens now."""
    print(f"bare: {text}", file=sys.stderr, flush=True)


def step(what: str, *argv: str) -> None:
    """
    Run a program to its end.

    @raise Failure: it did not work; it has printed why.
    """
    if subprocess.run(argv, check=False).returncode:
        raise Failure(f"{what} did not work; see above.")


def check(name: str) -> Distribution:
    """
    @raise Failure: it cannot work here.
    """
    if name not in DISTRIBUTIONS:
        known = ", ".join(f"{each} ({made.title})" for each, made in DISTRIBUTIONS.items())
        raise Failure(f"there is no DISTRO={name}; choose one of {known}.")
    if os.geteuid() != 0:
        raise Failure("run this as root, who alone can make and enter a bare root.")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing:
        raise Failure(f"install what is missing here: apt-get install {' '.join(missing)}")
    return DISTRIBUTIONS[name]


def keyring(distribution: Distribution) -> Path:
    """
    The keys that sign a distribution's lists: this machine's package, or for Ubuntu's keys the
    package that Debian distributes, which is signed with keys that this machine has.

    @raise Failure: it has neither.
    """
    file = f"{distribution.keyring}.gpg"
    for place in (KEYRINGS / file, CACHE / file):
        if place.exists():
            return place
    if distribution.keyring != "ubuntu-archive-keyring":
        raise Failure(f"install the keys of the archive: apt-get install {distribution.keyring}")
    say("fetching Ubuntu's keys from Debian's archive")
    debian = DISTRIBUTIONS["trixie"]
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        archive = Path(directory, "keys.tar")
        strap("trixie", debian, archive, "--variant=extract", "--include=ubuntu-keyring")
        step("unpacking them", "tar", "-C", directory, "-xf", str(archive), f".{KEYRINGS / file}")
        os.replace(f"{directory}{KEYRINGS / file}", CACHE / file)
    return CACHE / file


def strap(name: str, distribution: Distribution, archive: Path, *options: str) -> None:
    """
    Make a root as a tar archive.

    @raise Failure: it did not work; mmdebstrap has printed why.
    """
    keys = keyring(distribution)
    with scratch() as directory:
        argv = ["--mount-proc", "env", f"TMPDIR={directory}", "mmdebstrap", "--quiet"]
        argv += ["--mode=root", f"--keyring={keys}", *options, name, str(archive)]
        if contained([*argv, *distribution.sources], os.environ):
            raise Failure(f"making {distribution.title} did not work; see above.")


def bareRoot(name: str, distribution: Distribution) -> Path:
    """
    @return: the bare root as a tar archive, made now if it has not been.
    """
    archive = CACHE / f"{name}.tar"
    if not archive.exists():
        say(f"making {distribution.title} from {distribution.sources[0].split()[1]}")
        unfinished = CACHE / f"{name}.unfinished.tar"
        strap(name, distribution, unfinished, "--variant=minbase", f"--include={INCLUDED}")
        unfinished.replace(archive)
    return archive


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One run at a time for each distribution: apt wants its cache for itself."""
    with (CACHE / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run of {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory, for a while.  What a killed run left behind is removed, too."""
    for left in PLACES.glob("nanotun-bare-*"):
        with contextlib.suppress(OSError), owned(left):
            shutil.rmtree(left, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix="nanotun-bare-", dir=PLACES))
    with owned(directory):
        try:
            yield directory
        finally:
            shutil.rmtree(directory)


@contextlib.contextmanager
def owned(directory: Path) -> Iterator[None]:
    """
    Keep other runs from removing a directory, until this process ends.

    @raise BlockingIOError: it is another run's.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """The root in a directory, for a while."""
    with scratch() as directory:
        directory.chmod(0o755)
        step("unpacking it", "tar", "-C", str(directory), "-xf", str(archive))
        hosts = directory / "etc" / "hosts"
        if not hosts.exists():
            hosts.write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
        # As a machine in this network has them: it may have a proxy that signs by itself.
        for file in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
            if Path("/", file).exists():
                shutil.copyfile(Path("/", file), directory / file)
        yield directory


def clone(directory: Path) -> None:
    """Clone the last commit of this checkout to where the commands run."""
    place = directory / "root" / "nanotun"
    step("cloning", "git", "clone", "-q", "--no-hardlinks", str(ROOT), str(place))
    place.chmod(0o700)
    place.parent.chmod(0o700)
    head = subprocess.check_output(["git", "-C", str(place), "log", "-1", "--format=%h %s"])
    say(f"testing the last commit: {head.decode().strip()}")


def script(commands: Sequence[str]) -> str:
    """Run commands one after the other, until one fails."""
    lines = (f"echo {shlex.quote(f'bare: {each}')} >&2\n({each}) || exit" for each in commands)
    return "\n".join(lines)


def environment() -> dict[str, str]:
    """The variables that the commands see."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**passed, "HOME": "/root", "PATH": path, "LANG": "C.UTF-8", "USER": "root"}


def enter(name: str, directory: Path, commands: Sequence[str]) -> int:
    """
    Run commands in the root.  When this returns or raises, all processes there have ended.

    @return: the exit status of the first that fails.
    """
    caches = {"archives": CACHE / f"{name}-packages", "pip": CACHE / "pip", "go": CACHE / "go"}
    for cache in caches.values():
        cache.mkdir(exist_ok=True)
    places = {**caches, "root": directory, "cgroup": f"nanotun-bare-{os.getpid()}"}
    lines = [f"{key}={shlex.quote(str(value))}" for key, value in places.items()]
    variables = "\n".join([*lines, f"commands={shlex.quote(script(commands))}"])
    try:
        return contained(["--uts", "--ipc", "sh", "-c", variables + _INSIDE], environment())
    finally:
        contained(["sh", "-c", variables + _WITHOUT_GROUP], os.environ)


def contained(argv: Sequence[str], variables: Mapping[str, str]) -> int:
    """
    Run a program with mounts and processes of its own.  When this returns or raises, all of them
    are gone.

    @param argv: more options of unshare(1), and the program.
    @return: its exit status.
    """
    unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    process = subprocess.Popen([*unshare, *argv], env=variables)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            first = [os.pidfd_open(int(child)) for child in children.read_text().split()]
            # With it ends process 1 of the namespace, after all others there.
            process.kill()
            process.wait()
            for each in first:
                select.select([each], [], [])
                os.close(each)


_WITHOUT_GROUP = r"""
mount -t cgroup2 cgroup2 "$root/mnt" 2>/dev/null || exit 0
[ ! -e "$root/mnt/$cgroup" ] || find "$root/mnt/$cgroup" -depth -type d -exec rmdir {} +
"""


def main(arguments: list[str]) -> int:
    """Run C{arguments[1:]} in C{arguments[0]}."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    name, *commands = arguments

    watched = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in watched:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    for number in watched:
        signal.signal(number, interrupt)
    try:
        distribution = check(name)
        CACHE.mkdir(parents=True, exist_ok=True)
        with locked(name), unpacked(bareRoot(name, distribution)) as directory:
            clone(directory)
            status = enter(name, directory, commands)
    except Failure as failure:
        say(str(failure))
        return 1
    except Interrupted:
        say("interrupted; everything is removed.")
        return 130
    say(f"{'passed' if status == 0 else 'FAILED'} on {distribution.title}: {'; '.join(commands)}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
