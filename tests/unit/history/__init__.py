"""Tests of L{nanotun.history}."""
