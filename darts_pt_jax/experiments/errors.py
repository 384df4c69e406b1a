"""Errors that end a command with one line: a wrong setting (exit code 2), a run that cannot continue (exit code 1)."""


class RunError(RuntimeError):
    """A run cannot continue; the message is one line. The program exits with code 1."""


class ConfigError(ValueError):
    """A setting is wrong; the message is one line that names its key. The program exits with code 2."""
