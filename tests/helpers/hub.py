"""A Hub on this machine that serves folders as dataset repositories, read-only: enough for the real clients."""

import contextlib
import hashlib
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_COMMIT = hashlib.sha1(b"the only commit").hexdigest()
_API = "/api/datasets/"


class _Handler(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks of a dataset repository."""

    server: "_Server"

    def log_message(self, *_):
        """Say nothing: the output belongs to the test."""

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)
        if path.startswith(_API):
            owner, name, *rest = path.removeprefix(_API).split("/")
            self._api(f"{owner}/{name}", rest, query)
        elif path.startswith("/datasets/") and "/resolve/" in path:
            name, _, place = path.removeprefix("/datasets/").partition("/resolve/")
            self._file(name, place.partition("/")[2])
        else:
            self._missing("EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = urllib.parse.unquote(self.path)
        if not (path.startswith(_API) and "/paths-info/" in path):
            return self._missing("EntryNotFound")
        owner, name, *_ = path.removeprefix(_API).split("/")
        folder = self.server.folders.get(f"{owner}/{name}")
        if folder is None:
            return self._missing("RepoNotFound")
        asked = json.loads(body)["paths"] if body.startswith("{") else urllib.parse.parse_qs(body)["paths"]
        return self._json([self._entry(folder, folder / place) for place in asked if (folder / place).exists()])

    def _api(self, repository: str, rest: list[str], query: Mapping[str, list[str]]) -> None:
        folder = self.server.folders.get(repository)
        if folder is None:
            self._missing("RepoNotFound")
        elif rest[:1] == ["tree"]:
            place = folder / "/".join(rest[2:])
            if not place.is_dir():
                return self._missing("EntryNotFound")
            recursive = query.get("recursive", ["false"])[0].lower() == "true"
            found = place.rglob("*") if recursive else place.iterdir()
            self._json([self._entry(folder, path) for path in sorted(found)])
        else:
            files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            siblings = [{"rfilename": name} for name in files]
            facts = {"id": repository, "sha": _COMMIT, "private": False, "siblings": siblings, "tags": []}
            self._json({**facts, "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"})

    def _entry(self, folder: Path, path: Path) -> dict:
        place = path.relative_to(folder).as_posix()
        oid = hashlib.sha1(place.encode()).hexdigest()
        if path.is_dir():
            return {"type": "directory", "path": place, "size": 0, "oid": oid}
        return {"type": "file", "path": place, "size": path.stat().st_size, "oid": oid}

    def _file(self, repository: str, place: str) -> None:
        folder = self.server.folders.get(repository)
        if folder is None:
            return self._missing("RepoNotFound")
        if not (folder / place).is_file():
            return self._missing("EntryNotFound")
        data = (folder / place).read_bytes()
        tag = hashlib.sha1(place.encode() + data).hexdigest()
        return self._send(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": _COMMIT})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code, "X-Error-Message": "not found"})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    """The server, and the folders it serves."""

    daemon_threads = True
    folders: Mapping[str, Path]


@contextlib.contextmanager
def serve_datasets(folders: Mapping[str, Path], home: Path) -> Iterator[dict[str, str]]:
    """Serve folders as dataset repositories.

    Args:
        folders: "owner/name" -> folder; it may be filled while the server runs.
        home: where the clients keep what they download.

    Yields:
        The environment variables that send a process's Hugging Face libraries there.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.folders = folders
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
        }
    finally:
        server.shutdown()
        server.server_close()
