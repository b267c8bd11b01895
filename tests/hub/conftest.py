import logging
import sys

import pytest
from pretended_hub import TOKEN, serve


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, and the hub's own client with it as its only one."""
    from huggingface_hub import constants, file_download

    with serve() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        bars = sys.modules["huggingface_hub.utils.tqdm"]
        monkeypatch.setattr(bars, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)  # before it retries
        monkeypatch.setattr(logging.getLogger("huggingface_hub"), "level", logging.ERROR)
        yield hub
