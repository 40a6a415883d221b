"""Tests of L{nanotun.metrics}."""
