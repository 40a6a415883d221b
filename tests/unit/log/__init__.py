"""Tests of L{nanotun.log}."""
