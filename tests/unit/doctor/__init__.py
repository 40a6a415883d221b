"""Tests of L{nanotun.doctor}."""
