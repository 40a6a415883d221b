"""
The manifests in F{etc/kubernetes}: their pods, as C{podman kube play} makes them.

Podman knows no init container that goes on running, so the sidecar is among the others here.  The
machine's network is a container's of the laboratory, and each pod has that one.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.e2e.lab.host import DNS4, HOST4
from tests.e2e.lab.process import PROJECT_ROOT, waitUntil
from tests.image.test_image import UP, ImageCase

MANIFESTS = PROJECT_ROOT / "etc" / "kubernetes"


class KubernetesTests(ImageCase):
    """Pods with the image."""

    def play(self, manifest: str) -> dict[str, Any]:
        """
        Start the pod of a manifest.

        @return: its specification.
        """
        whole = yaml.safe_load((MANIFESTS / manifest).read_text())
        spec: dict[str, Any] = whole["spec"]["template"]["spec"]
        spec["containers"] = [*spec.pop("initContainers", []), *spec["containers"]]
        spec["hostNetwork"] = True
        for each in spec["containers"]:
            each.pop("restartPolicy", None)
            if each["name"] == "nanotun":
                each["env"].append({"name": "NANOTUN_DNS", "value": DNS4})
            else:
                each["command"] = ["sleep", "600"]
            each["image"] = self.pod.image
            each["imagePullPolicy"] = "Never"
        secret = self.directory / "secret"
        secret.mkdir()
        secret.joinpath("proxy").write_text(self.proxyServer.url(HOST4))
        for each in spec["volumes"]:
            if each.get("hostPath", {}).get("path") == "/run/nanotun":
                each["hostPath"]["path"] = str(self.directory / "hostrun")
            if each.pop("secret", None):
                # Podman 4.3 hands secrets out still encoded.
                each["hostPath"] = {"path": str(secret), "type": "Directory"}
        name = self.name
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "x"}},
            "spec": spec,
        }
        file = self.directory / "pod.yaml"
        file.write_text(json.dumps(pod))
        # Also later: what is run in a container that has the machine's network has podman's.
        self.pod.within = self.space.name
        self.addCleanup(setattr, self.pod, "within", "")
        self.addCleanup(self.pod, "pod", "rm", "--force", "--time", "0", name, check=False)
        self.pod("kube", "play", str(file))
        self.name = f"{name}-nanotun"
        waitUntil(lambda: "is up: engine" in self.log(), UP, "nanotun is up")
        return spec

    def probe(self, spec: dict[str, Any], kind: str) -> int:
        """The exit status of a probe of nanotun's container."""
        nanotun = next(each for each in spec["containers"] if each["name"] == "nanotun")
        return self.pod.status("exec", self.name, *nanotun[kind]["exec"]["command"])

    def test_sidecar(self) -> None:
        """The program beside nanotun is proxied, and the probes are content."""
        spec = self.play("sidecar.yaml")
        waitUntil(lambda: not self.probe(spec, "startupProbe"), UP, "the startup probe is content")
        self.assertEqual(self.probe(spec, "livenessProbe"), 0)
        self.name = self.name.replace("-nanotun", "-program")
        self.assertWorks()

    def test_daemonSet(self) -> None:
        """What is in the network that the pod has is proxied, and the probes are content."""
        self.directory.joinpath("hostrun").mkdir()
        spec = self.play("daemonset.yaml")
        kinds = ("startupProbe", "readinessProbe", "livenessProbe")
        waitUntil(
            lambda: not any(self.probe(spec, kind) for kind in kinds), UP, "all probes are content"
        )
        self.assertWorks()
