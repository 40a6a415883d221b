"""Tests of L{nanotun.httpd}."""
