"""Tests of the values at the root of nanotun."""
