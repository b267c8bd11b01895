"""Numbers of things, in words."""


def counted(number: int, one: str, several: str | None = None) -> str:
    """Write a number with the words behind it, which are others for one thing.

    Args:
        number: Of things.
        one: What is said of one.
        several: What is said of any other number. Default: ``one`` with an s.

    Example:
        >>> counted(1, "cell"), counted(0, "cell"), counted(2, "file holds", "files hold")
        ('1 cell', '0 cells', '2 files hold')
    """
    return f"{number} {one if number == 1 else several or f'{one}s'}"
