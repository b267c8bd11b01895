"""A stand-in for the Hugging Face Hub: the endpoints that its client uses, on this machine."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_pretended"
LICENSES = ("mit", "cc-by-4.0")
Files = dict[str, bytes]


@dataclass
class Repository:
    """Its commits: the files of each by its id; a branch is the id of one."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: Files, branch: str = "main") -> str:
        content = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        text = json.dumps([content, len(self.commits)])
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    @property
    def files(self) -> Files:
        return self.commits[self.branches["main"]]


class Hub:
    """What the server holds.

    Attributes:
        repositories: By kind and name, ``("datasets", "me/digits")``.
        requests: What was asked for, as ``GET /path``.
        broken: Names of files whose download ends after half of them.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []
        self.broken: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.endpoint = ""

    def add(self, kind: str, name: str, files: Files) -> Repository:
        repository = self.repositories.setdefault((kind, name), Repository())
        repository.commit(files)
        return repository


class Failure(Exception):
    def __init__(self, status: int, code: str, text: str) -> None:
        self.status, self.code, self.text = status, code, text


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self._read_body()
        self.hub.requests.append(f"{self.command} {path}")
        try:
            for pattern, method in ROUTES:
                if match := re.fullmatch(pattern, path):
                    method(self, *match.groups())
                    return
            raise Failure(404, "", f"no route {path}")
        except Failure as failure:
            headers = {"X-Error-Code": failure.code, "X-Error-Message": failure.text}
            self._send(json.dumps({"error": failure.text}).encode(), failure.status, headers)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(
        self, content: bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, plain: Any) -> None:
        self._send(json.dumps(plain).encode())

    def _find(self, kind: str | None, name: str) -> Repository:
        repository = self.hub.repositories.get((kind or "models", name))
        if repository is None:
            raise Failure(404, "RepoNotFound", "Repository not found")
        if repository.gated:
            raise Failure(403, "GatedRepo", f"Access to {name} is restricted")
        return repository

    def _resolve(self, kind: str | None, name: str, revision: str) -> tuple[str, Files]:
        repository = self._find(kind, name)
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            raise Failure(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, repository.commits[sha]

    def _check_token(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Failure(401, "", "Invalid credentials")

    def create(self) -> None:
        self._check_token()
        said = json.loads(self.body)
        kind, name = f"{said.get('type', 'model')}s", f"{said['organization']}/{said['name']}"
        known = (kind, name) in self.hub.repositories
        if not known:
            self.hub.add(kind, name, {})
        prefix = "" if kind == "models" else f"{kind}/"
        answer = {"url": f"{self.hub.endpoint}/{prefix}{name}"}
        self._send(json.dumps(answer).encode(), 409 if known else 200)

    def validate(self) -> None:
        front = json.loads(self.body)["content"].split("---\n")[1]
        found = yaml.safe_load(front).get("license", LICENSES[0])
        if found in LICENSES:
            self._json({"errors": [], "warnings": []})
        else:
            message = {"message": f'"license" must be one of {LICENSES}'}
            self._send(json.dumps({"errors": [message]}).encode(), 400)

    def preupload(self, kind: str, name: str, revision: str) -> None:
        self._resolve(kind, name, revision)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._json({"files": files})

    def batch(self, kind: str | None, name: str) -> None:
        self._find((kind or "models/").rstrip("/"), name)
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}"}}}
            for one in json.loads(self.body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def put_object(self, oid: str) -> None:
        self.hub.objects[oid] = self.body
        self._send(b"")

    def commit(self, kind: str, name: str, revision: str) -> None:
        self._check_token()
        files = dict(self._resolve(kind, name, revision)[1])
        for line in self.body.splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif said["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif said["key"] == "deletedFile":
                del files[value["path"]]
        sha = self._find(kind, name).commit(files, revision)
        self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})

    def info(self, kind: str, name: str, revision: str | None) -> None:
        sha, files = self._resolve(kind, name, revision or "main")
        siblings = [{"rfilename": file} for file in files]
        self._json({"id": name, "sha": sha, "siblings": siblings, "tags": [], "downloads": 0})

    def tree(self, kind: str, name: str, revision: str) -> None:
        files = self._resolve(kind, name, revision)[1]
        self._json(
            [
                {"type": "file", "path": file, "size": len(data), "oid": _oid(data)}
                for file, data in files.items()
            ]
        )

    def resolve(self, kind: str | None, name: str, revision: str, file: str) -> None:
        sha, files = self._resolve((kind or "models/").rstrip("/"), name, revision)
        if file not in files:
            raise Failure(404, "EntryNotFound", f"no {file}")
        content = files[file]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_oid(content)}"', "Accept-Ranges": "bytes"}
        if self.command == "GET" and file in self.hub.broken:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self._send(content, 200, headers)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


_NAME = r"([\w.-]+/[\w.-]+?)"
ROUTES = (
    (r"/api/repos/create", Handler.create),
    (r"/api/validate-yaml", Handler.validate),
    (rf"/api/(models|datasets)/{_NAME}/preupload/(.+)", Handler.preupload),
    (rf"/api/(models|datasets)/{_NAME}/commit/(.+)", Handler.commit),
    (rf"/api/(models|datasets)/{_NAME}/tree/(.+)", Handler.tree),
    (rf"/api/(models|datasets)/{_NAME}(?:/revision/(.+))?", Handler.info),
    (rf"/(datasets/)?{_NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"/lfs/(\w+)", Handler.put_object),
    (rf"/(datasets/)?{_NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
)


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub for as long as the block lasts."""
    hub = Hub()
    handler = type("OwnHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
