"""The two ways in which a call can end badly; a message names what is wrong and the remedy."""


class InputError(ValueError):
    """The caller gave something that cannot be used (exit status 2)."""


class FailureError(RuntimeError):
    """The work itself failed: a disk is full, training diverged (exit status 1)."""
