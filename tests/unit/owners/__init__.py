"""Tests of L{nanotun.owners}."""
