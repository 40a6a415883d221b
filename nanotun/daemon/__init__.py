"""The daemon: how its parts are put together, started, reloaded and stopped."""
