"""Tests of L{nanotun.policy}."""
