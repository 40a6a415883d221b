"""Unit tests, one folder for each part of nanotun."""
