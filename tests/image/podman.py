"""
Podman with a storage of its own.  It makes containers and their network namespaces; the test plugs
in what connects them, so nothing of this machine's network or firewall is touched.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.lab.process import LabError, run

#: No limits that a machine in a machine may not set; and no timers of systemd's, which is why the
#: test asks for a health check itself.
CONFIG = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
infra_image = "{infra}"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""

#: What 'make image' calls it, but for the version.
IMAGE = "localhost/nanotun:test"

#: The same, with nothing to do: it holds the network of pods.
INFRA = "localhost/nanotun-infra:test"

#: Says where the storage is; it is kept, because to load an image takes a while.
STORAGE = "NANOTUN_TEST_STORAGE"

_DEFAULT = "/var/tmp/nanotun-test-image"

#: What podman says where systemd does not run.
_TIMERS = "healthchecks: "


class Podman:
    """
    The command, for one image.

    @ivar within: the name of the network namespace that is the machine's to it, if not ours.
    """

    within = ""

    def __init__(self, archive: Path) -> None:
        """
        @param archive: the image, which is loaded.
        @raise LabError: it cannot be loaded.
        """
        root = Path(os.environ.get(STORAGE, _DEFAULT))
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = root / "containers.conf"
        config.write_text(CONFIG.format(infra=INFRA))
        self._argv = [
            *("env", f"CONTAINERS_CONF={config}", "podman"),
            *("--root", str(root / "storage"), "--runroot", str(root / "run")),
            *("--tmpdir", str(root / "tmp"), "--runtime", shutil.which("runc") or "runc"),
        ]
        # Podman 4.3 takes no archive that is compressed.
        plain = root / "image.tar"
        with gzip.open(archive) as source, open(plain, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        said = self("load", "--quiet", "--input", str(plain), timeout=300)
        plain.unlink()
        self.image = IMAGE
        self("tag", said.split()[-1], IMAGE)
        made = self("create", IMAGE).split()[-1]
        changes = ("--change", 'ENTRYPOINT ["/usr/bin/sleep"]', "--change", 'CMD ["infinity"]')
        self("commit", "--quiet", "--format", "docker", *changes, made, INFRA)
        self("rm", made)

    def argv(self, *arguments: str) -> list[str]:
        """The command with its arguments."""
        prefix = ["nsenter", f"--net=/run/netns/{self.within}"] if self.within else []
        return [*prefix, *self._argv, *arguments]

    def __call__(self, *arguments: str, check: bool = True, timeout: float = 60) -> str:
        """
        Run it to its end.

        @return: what it says, without complaints about systemd.
        """
        done = run(self.argv(*arguments), timeout, check=False)
        lines = [each for each in done.stdout.splitlines() if _TIMERS not in each]
        text = "\n".join(each for each in lines if "Removing timer" not in each)
        if check and done.returncode:
            raise LabError(f"podman {' '.join(arguments)}: status {done.returncode}: {text}")
        return text

    def status(self, *arguments: str, timeout: float = 60) -> int:
        """Run it to its end and return its exit status."""
        return subprocess.run(
            self.argv(*arguments), capture_output=True, timeout=timeout, check=False
        ).returncode

    def inspect(self, name: str) -> dict[str, Any]:
        """What podman knows of a container."""
        found: list[dict[str, Any]] = json.loads(
            subprocess.run(
                self.argv("inspect", name), capture_output=True, check=True, timeout=60
            ).stdout
        )
        return found[0]

    def pid(self, name: str) -> int:
        """The process on this machine that is process 1 of a container; 0 if it does not run."""
        return int(self.inspect(name)["State"]["Pid"])


def archive() -> Path | None:
    """The newest image in F{dist/}, or the one that NANOTUN_TEST_IMAGE names."""
    named = os.environ.get("NANOTUN_TEST_IMAGE")
    if named:
        return Path(named)
    dist = Path(__file__).resolve().parents[2] / "dist"
    found = sorted(dist.glob("nanotun-*.image.tar.gz"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def missing() -> str:
    """Why these tests cannot run here; empty if they can."""
    absent: Sequence[str] = [each for each in ("podman", "runc") if shutil.which(each) is None]
    if absent:
        return f"these programs are missing: {', '.join(absent)}"
    return "" if archive() else "there is no image in dist/; run 'make image'"
