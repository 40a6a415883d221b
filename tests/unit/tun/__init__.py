"""Tests of L{nanotun.tun}."""
