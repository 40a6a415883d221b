"""Tests of L{nanotun.console}."""
