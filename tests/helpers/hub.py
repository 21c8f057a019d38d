"""A Hub on this machine that serves folders as data sets and takes models: enough for the real clients."""

import base64
import contextlib
import functools
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_COMMIT = hashlib.sha1(b"the only commit").hexdigest()
_KINDS = "resolve|revision|tree|paths-info|preupload|commit"
_ROUTE = re.compile(
    rf"(?:/api)?(?:/datasets|/models)?/(?P<name>[^/]+/[^/]+)(?:/(?P<kind>{_KINDS})/[^/]+/?(?P<place>.*))?"
)


def _entry(folder: Path, path: Path) -> dict:
    """What the Hub says of a file or folder in a repository."""
    place = path.relative_to(folder).as_posix()
    kind, size = ("directory", 0) if path.is_dir() else ("file", path.stat().st_size)
    return {"type": kind, "path": place, "size": size, "oid": hashlib.sha1(place.encode()).hexdigest()}


class _Handler(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks of a repository."""

    def __init__(self, folders: dict[str, Path], home: Path, *connection):
        self.folders, self.home = folders, home
        super().__init__(*connection)

    def log_message(self, *_):
        """Say nothing: the output belongs to the test."""

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        route = _ROUTE.fullmatch(urllib.parse.unquote(url.path))
        folder = self.folders.get(route["name"]) if route else None
        if folder is None:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "not found"})
        place = folder / (route["place"] or "")
        if route["kind"] == "resolve" and place.is_file():
            data = place.read_bytes()
            tag = hashlib.sha1(route["place"].encode() + data).hexdigest()
            return self._send(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": _COMMIT})
        if route["kind"] == "tree" and place.is_dir():
            found = place.rglob("*") if "recursive=true" in url.query.lower() else place.iterdir()
            return self._json([_entry(folder, path) for path in sorted(found)])
        if route["kind"] == "paths-info":
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            asked = json.loads(body)["paths"] if body.startswith("{") else urllib.parse.parse_qs(body)["paths"]
            return self._json([_entry(folder, folder / place) for place in asked if (folder / place).exists()])
        if route["kind"] in ("resolve", "tree"):
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "not found"})
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        facts = {"id": route["name"], "sha": _COMMIT, "siblings": [{"rfilename": name} for name in files], "tags": []}
        facts |= {"private": False, "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"}
        return self._json(facts)

    def do_POST(self):
        route = _ROUTE.fullmatch(urllib.parse.urlsplit(self.path).path)
        if route and route["kind"] == "paths-info":
            return self.do_GET()
        lines = self.rfile.read(int(self.headers.get("Content-Length") or 0)).splitlines()
        first, *others = map(json.loads, lines)
        address = f"http://{self.headers['Host']}"
        if self.path == "/api/validate-yaml":
            return self._json({"warnings": [], "errors": []})
        if self.path == "/api/repos/create":
            name = f"{first.get('organization') or 'me'}/{first['name']}"
            self.folders[name] = self.home / "pushed" / name
            self.folders[name].mkdir(parents=True, exist_ok=True)
            return self._json({"url": f"{address}/{name}"})
        if route["kind"] == "preupload":
            small = {"uploadMode": "regular", "shouldIgnore": False}
            return self._json({"files": [{"path": file["path"], **small} for file in first["files"]]})
        for line in others:  # a commit: the head, then one file a line
            path = self.folders[route["name"]] / line["value"]["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(line["value"]["content"]))
        return self._json({"commitUrl": f"{address}/{route['name']}/commit/{_COMMIT}", "commitOid": _COMMIT})

    do_HEAD = do_GET  # noqa: N815

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def serve_hub(folders: dict[str, Path], home: Path) -> Iterator[dict[str, str]]:
    """Serve folders as dataset repositories, and take models.

    Args:
        folders: "owner/name" -> folder; it may be filled while the server runs. Models that are pushed join it; they
            are of "me" where the client names no owner.
        home: where the clients keep what they download, and the server what is pushed.

    Yields:
        The environment variables that send a process's Hugging Face libraries there.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, folders, home)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        online = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_x"}
        try:
            yield {"HF_ENDPOINT": address, "HF_HOME": str(home), **online}
        finally:
            server.shutdown()
