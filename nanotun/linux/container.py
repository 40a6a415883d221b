"""
Tells whether this process runs in a container, for advice that would be wrong elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Made by Docker, and by Podman and CRI-O, in each container.
FILES = ("/.dockerenv", "/run/.containerenv")

#: Set by Podman, LXC and systemd-nspawn; and by Kubernetes, whichever runtime it has.
VARIABLES = ("container", "KUBERNETES_SERVICE_HOST")


def inContainer(environment: Mapping[str, str] = os.environ, root: str = "") -> bool:
    """
    Whether this is a container.

    @param root: prefix of every path, for tests.
    """
    return any(environment.get(name) for name in VARIABLES) or any(
        os.path.exists(root + path) for path in FILES
    )
