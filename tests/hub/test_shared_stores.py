import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import HfApi, constants, errors
from one_line import fails_in_one_line

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.hub.repositories import HubRepository
from lightning_dws.inrs import INRStore

REPO = "me/blobs"


@pytest.fixture
def pushed(hub, store):
    """A store, and the hub's repository that holds it."""
    store.push_to_hub(REPO)
    return hub.repositories["datasets", REPO]


def downloads(hub) -> list[str]:
    return [line for line in hub.requests if line.startswith("GET") and "/resolve/" in line]


def first_shard(store) -> str:
    return store.shards[0].range.file_name


def test_a_store_comes_back_as_it_was(hub, store, tmp_path, capsys):
    main(["push", str(store.directory), REPO, "--license", "cc-by-4.0"])
    assert f"{hub.endpoint}/datasets/{REPO}" in capsys.readouterr().out
    main(["inrs", "pull", REPO, str(tmp_path / "pulled")])
    pulled = INRStore(tmp_path / "pulled")
    names = {path.name for path in pulled.directory.iterdir()}
    own = {path.name for path in store.directory.iterdir() if not path.name.startswith(".")}
    assert names == own | {"README.md"}
    for split in store.splits:
        assert torch.equal(pulled.split(split).parameters, store.split(split).parameters)
    card = (pulled.directory / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    assert f'INRStore.from_pretrained("{REPO}")' in card
    assert "| train | 24 | 2 |" in card
    assert "Classes: left, middle, right" in card
    assert not list(tmp_path.glob(".pulled*"))


def test_a_licence_is_never_guessed(pushed):
    card = pushed.files["README.md"].decode()
    assert "license" not in yaml.safe_load(card.split("---\n")[1])
    assert "Licence: not stated" in card


def test_a_hub_that_is_not_reached_is_one_line_of_what_was_asked(hub, store, monkeypatch):
    def refuse(*args, **kwargs):
        raise errors.HTTPError("Connection refused")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(DataError, match=r"the hub cannot be reached \(Connection refused\)$"):
        store.push_to_hub(REPO)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(DataError, match=r"what was downloaded is kept, the same command goes on$"):
        HubRepository(REPO, "dataset").download(["dataset.json"])


def test_a_store_is_downloaded_once(hub, store, pushed):
    first = INRStore.from_pretrained(REPO)
    assert torch.equal(first.split("val").parameters, store.split("val").parameters)
    hub.requests.clear()
    assert INRStore.from_pretrained(REPO).directory == first.directory
    assert not downloads(hub)


def test_what_is_damaged_in_the_cache_is_fetched_again(hub, store, pushed):
    path = INRStore.from_pretrained(REPO).directory / first_shard(store)
    path.resolve().write_bytes(path.read_bytes()[:-1] + b"x")
    hub.requests.clear()
    assert len(INRStore.from_pretrained(REPO).split("train")) == 48
    assert [line.rpartition("/")[2] for line in downloads(hub)] == [path.name]


def test_what_is_damaged_on_the_hub_is_refused(hub, store, pushed, tmp_path, capsys):
    name = first_shard(store)
    files = pushed.files
    pushed.commit({**files, name: files[name][:-1] + b"x"})
    error = fails_in_one_line(["pull", REPO, str(tmp_path / "pulled")], capsys)
    assert f"{REPO}: damaged on the hub" in error
    assert name in error
    assert not (tmp_path / "pulled").exists()
    with pytest.raises(DataError, match="damaged on the hub"):
        INRStore.from_pretrained(REPO)
    pushed.commit(files)
    main(["pull", REPO, str(tmp_path / "pulled")])
    assert len(INRStore(tmp_path / "pulled").split("train")) == 48


def test_an_index_that_was_changed_is_refused(hub, pushed, tmp_path, capsys):
    files = pushed.files
    pushed.commit({**files, "dataset.json": files["dataset.json"].replace(b"middle", b"muddle")})
    error = fails_in_one_line(["pull", REPO, str(tmp_path / "pulled")], capsys)
    assert "was changed after it was written" in error
    assert not (tmp_path / "pulled").exists()


def test_an_interrupted_pull_goes_on(hub, store, pushed, tmp_path, capsys, monkeypatch):
    broken = store.shards[-1].range.file_name
    hub.broken = {broken}
    words = ["inrs", "pull", REPO, str(tmp_path / "pulled")]
    error = fails_in_one_line(words, capsys)
    assert "the same command goes on" in error
    assert not (tmp_path / "pulled").exists()
    hub.broken.clear()
    hub.requests.clear()
    main(words)
    assert len(INRStore(tmp_path / "pulled").split("test")) == 6
    assert {line.rpartition("/")[2] for line in downloads(hub)} == {broken}


def test_a_commit_is_pulled_by_its_name(hub, store, pushed, tmp_path):
    before = pushed.branches["main"]
    pushed.commit({})
    main(["inrs", "pull", REPO, str(tmp_path / "pulled"), "--revision", before])
    assert INRStore(tmp_path / "pulled").header == store.header


def test_shards_of_an_earlier_store_are_not_left(hub, store, pushed):
    pushed.commit({**pushed.files, "train-view009-0000000-0000024.safetensors": b"x"})
    store.push_to_hub(REPO)
    assert set(pushed.files) == {
        "README.md",
        "dataset.json",
        *(shard.range.file_name for shard in store.shards),
    }


def test_a_damaged_store_is_not_pushed(hub, store, capsys):
    path = store.directory / first_shard(store)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    error = fails_in_one_line(["inrs", "push", str(store.directory), REPO], capsys)
    assert f"{path.name}: its SHA-256 is not the one in dataset.json" in error
    assert not hub.requests


def gate(hub) -> None:
    hub.repositories["datasets", REPO].gated = True


PULLS = {
    "there is no such repository": (["me/others", "NEW"], None),
    "gated; ask for access": ([REPO, "NEW"], gate),
    "has no revision 'v9'": ([REPO, "NEW", "--revision", "v9"], None),
    "exists already": ([REPO, "."], None),
    "not a repository's name": (["a/b/c", "NEW"], None),
    "no store of INRs (there is no dataset.json); found pickled files (inrs.pth), which": (
        ["me/pickled", "NEW"],
        lambda hub: hub.add("datasets", "me/pickled", {"inrs.pth": b"", "README.md": b""}),
    ),
    "no store of INRs (there is no dataset.json); found data.csv": (
        ["me/table", "NEW"],
        lambda hub: hub.add("datasets", "me/table", {"data.csv": b""}),
    ),
}


@pytest.mark.parametrize("message", PULLS)
def test_what_cannot_be_pulled_is_one_line(message, hub, pushed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, prepare = PULLS[message]
    if prepare:
        prepare(hub)
    assert message in fails_in_one_line(["inrs", "pull", *words], capsys)
    assert not (tmp_path / "NEW").exists()


def test_a_push_without_a_token_is_one_line(hub, store, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    error = fails_in_one_line(["push", str(store.directory), REPO], capsys)
    assert "no token for the hub: run 'hf auth login', or set HF_TOKEN" in error
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    assert "the token may not do that (401)" in fails_in_one_line(
        ["push", str(store.directory), REPO], capsys
    )


def test_a_licence_that_the_hub_does_not_know_is_one_line(hub, store, capsys):
    words = ["push", str(store.directory), REPO, "--license", "mitt"]
    error = fails_in_one_line(words, capsys)
    assert '"license" must be one of' in error
    assert not hub.repositories["datasets", REPO].files


def test_a_hub_that_is_not_there_is_one_line(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = fails_in_one_line(["inrs", "pull", REPO, str(tmp_path / "new")], capsys)
    assert "HF_HUB_OFFLINE" in error
