"""
Makes the Debian package for other systems, each in a bare root of its own (tools/bare.py), of the
last commit:

    python tools/deb_roots.py build DISTRO   puts it into dist/
    python tools/deb_roots.py test DISTRO    makes it twice, which must give the same; asks lintian;
                                             and takes it through its life in a root without
                                             anything that the build needs (tools/deb_check.py)
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import bare
import deb

#: What the check runs, besides what the package depends on.
WANTED = "curl iproute2 microsocks procps python3 systemd nftables"

#: Makes it again, elsewhere, and compares; looks for traces of where it was made; asks lintian.
COMPARE = r"""
set -eu
apt-get update -qq
apt-get install -y -qq --no-install-recommends git lintian >/dev/null
export SOURCE_DATE_EPOCH="$(git -C /root/nanotun log -1 --format=%ct)"
git clone -q /root/nanotun /srv/elsewhere/nanotun
(umask 077; cd /srv/elsewhere/nanotun && make -s deb)
cmp /root/nanotun/dist/*.deb /srv/elsewhere/nanotun/dist/*.deb
echo 'Two builds are identical.'
dpkg-deb -R /root/nanotun/dist/*.deb /srv/content
if grep -rlE '/root/nanotun|/srv/elsewhere|/tmp/nanotun-deb|/tmp/tmp' /srv/content; then
    echo 'These files say where they were made.'
    exit 1
fi
lintian --allow-root --fail-on error /root/nanotun/dist/*.deb
"""


def inRoot(name: str, commands: list[str], package: Path | None = None) -> Path | None:
    """
    Run commands in a bare root.

    @param package: to put into F{dist/} there.
    @return: the package that is in F{dist/} afterwards, here; L{None} if a command failed.
    """
    with bare.unpacked(bare.bareRoot(name, bare.DISTRIBUTIONS[name])) as directory:
        bare.clone(directory)
        there = directory / "root" / "nanotun" / "dist"
        if package is not None:
            there.mkdir()
            shutil.copy(package, there)
        if bare.enter(name, directory, commands):
            return None
        (made,) = there.glob("nanotun_*.deb")
        place = bare.ROOT / "dist"
        place.mkdir(exist_ok=True)
        return Path(shutil.copy(made, place))


def main(arguments: list[str]) -> int:
    """Run one of the commands in the module's docstring."""
    if len(arguments) != 2 or arguments[0] not in ("build", "test"):
        print(__doc__, file=sys.stderr)
        return 2
    action, name = arguments
    try:
        bare.check(name)
        bare.CACHE.mkdir(parents=True, exist_ok=True)
        with bare.locked(name):
            # The same time for both builds, also where the root has no git.
            commands = [f"SOURCE_DATE_EPOCH={deb.commitTime()} make -s deb"]
            if action == "test":
                commands.append(f"sh -c {shlex.quote(COMPARE)}")
            made = inRoot(name, commands)
            if made is not None and action == "test":
                get = "apt-get update -qq && apt-get install -y -qq --no-install-recommends"
                check = f"python3 tools/deb_check.py dist/{made.name}"
                made = inRoot(name, [f"{get} {WANTED} >/dev/null", check], made)
    except bare.Failure as failure:
        bare.say(str(failure))
        return 1
    if made is None:
        return 1
    bare.say(f"{made.relative_to(bare.ROOT)}: {made.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
