"""Tests of L{nanotun.config}."""
