"""Tests of L{nanotun.linux.container}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.container import inContainer


class ContainerTests(SynchronousTestCase):
    """L{inContainer}."""

    def test_known(self) -> None:
        """Docker, Podman and Kubernetes are told by what they leave in each container."""
        root = Path(self.mktemp())
        root.joinpath("run").mkdir(parents=True)
        self.assertFalse(inContainer({"HOME": "/root", "container": ""}, str(root)))
        self.assertTrue(inContainer({"container": "podman"}, str(root)))
        self.assertTrue(inContainer({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, str(root)))
        for path in (".dockerenv", "run/.containerenv"):
            root.joinpath(path).touch()
            self.assertTrue(inContainer({}, str(root)))
            root.joinpath(path).unlink()
