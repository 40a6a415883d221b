"""The tests: test_<module>.py for each module, and e2e for the whole."""
