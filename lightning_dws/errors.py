"""The one error that bad data causes."""


class DataError(ValueError):
    """Report data that cannot be used: what was found, and what was expected.

    The command line prints its message as one line and exits with status 1.
    """
