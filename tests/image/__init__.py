"""Tests of the container image, with podman: C{make test-image}."""
