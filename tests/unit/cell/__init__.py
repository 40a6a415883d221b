"""Tests of L{nanotun.cell}."""
