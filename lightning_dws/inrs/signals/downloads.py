"""Downloads of published files into the user's cache, checked by SHA-256."""

from pathlib import Path

from lightning_dws.errors import DataError


def cache_folder(folder_name: str) -> Path:
    """Give a folder in the user's cache, there or not."""
    import pooch

    return Path(pooch.os_cache("lightning_dws")) / folder_name


def download(
    title: str, base_url: str, sha256: dict[str, str], folder_name: str, alternative: str = ""
) -> Path:
    """Download files that are not in the cache yet.

    Args:
        title: What the files are, for messages.
        base_url: Where they are.
        sha256: Of each file, by its name.
        folder_name: Of the folder in the user's cache.
        alternative: Ends the message, behind what else the user can do.

    Returns:
        The folder.

    Raises:
        DataError: There is no network, or a file is not the one that was published.
    """
    import pooch

    folder = cache_folder(folder_name)
    for name, expected in sha256.items():
        try:
            pooch.retrieve(base_url + name, f"sha256:{expected}", fname=name, path=folder)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{title} could not be downloaded ({error}); put {', '.join(sha256)} into a "
                f"folder and give it as root{alternative}"
            ) from error
    return folder
