"""Tests of L{nanotun.script}."""
