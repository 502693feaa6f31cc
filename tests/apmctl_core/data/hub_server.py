"""The least of the Hub that reading a public data set needs: one repository of files, one commit."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHA = "1234567890abcdef1234567890abcdef12345678"


class HubServer:
    """Serves `files` as data set `repo` on a free loopback port; every other data set is missing.

    `status` is answered instead, where it is set; `asked` are the requests so far.
    """

    def __init__(self, repo: str, files: Mapping[str, bytes], status: int = 0, code: str = "") -> None:
        self.repo, self.files, self.status, self.code = repo, dict(files), status, code
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                owner.answer(self, "HEAD", b"")

            def do_GET(self) -> None:
                owner.answer(self, "GET", b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                owner.answer(self, "POST", body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> HubServer:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, method: str, body: bytes) -> None:
        url = urllib.parse.urlsplit(request.path)
        path = urllib.parse.unquote(url.path)
        self.asked.append(f"{method} {request.path}")
        if self.status:
            self.send(request, self.status, b"{}", {"X-Error-Code": self.code} if self.code else {})
        elif path.startswith(f"/datasets/{self.repo}/resolve/"):
            self.resolve(request, path.split("/resolve/", 1)[1].split("/", 1)[1])
        elif path.startswith(f"/api/datasets/{self.repo}"):
            self.api(request, path.removeprefix(f"/api/datasets/{self.repo}"), url.query, body)
        else:
            self.send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def api(self, request: BaseHTTPRequestHandler, rest: str, query: str, body: bytes) -> None:
        if rest == "" or rest.startswith("/revision/"):
            if rest.removeprefix("/revision/") not in ("", "main", SHA):
                return self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            info = {"id": self.repo, "sha": SHA, "siblings": [{"rfilename": f} for f in self.files]}
            return self.send(request, 200, json.dumps(info | {"private": False, "tags": []}).encode())
        if rest.startswith("/tree/"):
            folder = "/".join(rest.split("/")[3:])
            deep = urllib.parse.parse_qs(query).get("recursive", [""])[0].lower() in ("true", "1")
            return self.send(request, 200, json.dumps(self.tree(folder, deep)).encode())
        if rest.startswith("/paths-info/"):
            wanted = urllib.parse.parse_qs(body.decode()).get("paths", [])
            if body.startswith(b"{"):
                wanted = json.loads(body)["paths"]
            return self.send(request, 200, json.dumps([e for p in wanted for e in self.entry(p)]).encode())
        return self.send(request, 404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def entry(self, path: str) -> list[dict[str, Any]]:
        if path in self.files:
            data = self.files[path]
            return [{"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}]
        if any(f.startswith(path + "/") for f in self.files):
            return [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40}]
        return []

    def tree(self, folder: str, deep: bool) -> list[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        names = {prefix + f.removeprefix(prefix).split("/")[0] for f in self.files if f.startswith(prefix)}
        found = [e for name in sorted(names) for e in self.entry(name)]
        below = [e for d in found if deep and d["type"] == "directory" for e in self.tree(d["path"], deep)]
        return found + below

    def resolve(self, request: BaseHTTPRequestHandler, path: str) -> None:
        if path not in self.files:
            return self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": SHA})
        data = self.files[path]
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}
        return self.send(request, 200, data, headers)

    def send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
