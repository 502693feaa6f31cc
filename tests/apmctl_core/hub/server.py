"""A server of the Hub's protocol for tests: git repositories on disk, LFS uploads, and faults to be switched on.

`python -m tests.apmctl_core.hub.server ROOT PORT`. Under ROOT: `repos/` (see repositories.py); `faults.json`, read
at each request, says what to do wrong; `requests.jsonl` lists what was asked for. Tokens: `hf_writer`, `hf_reader`.

Faults, each `{"match": regex on "METHOD path", "do": ..., "times": n}`: `die` (in the middle of a body, with the whole
process), `status` (answer `code`), `cut` (end a body half-way), `flip` (one byte of a body), `length` (announce more
than there is), `short` (send half, announced as such), `no ranges` (send all of a file), `stall`, `move` (somebody else
commits before), `lose` (do it, but answer `code`), `endless` (more blanks than any client should take, or `bytes`),
`redirect` (to the same path of another server, `to`). Answers that are a fault may have `code`, `headers` and `body`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .repositories import Entry, Moved, Repository, is_lfs

TOKENS = {"hf_writer": "write", "hf_reader": "read"}
_CHUNK = 64 << 10
_ENDLESS = 48 << 20
_DATE = "2026-01-01T00:00:00.000Z"


class Refused(Exception):
    """An answer that is an error of the Hub."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.response = JSONResponse(
            {"error": message or code},
            status,
            {k: v for k, v in (("X-Error-Code", code), ("X-Error-Message", message)) if v},
        )


class Hub:
    """The state of the server: all of it on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._faults = root / "faults.json"
        self._log = root / "requests.jsonl"

    def note(self, request: Request) -> None:
        """List a request; credentials by whether they were there alone."""
        line = {"do": f"{request.method} {request.url.path}", "authorised": "authorization" in request.headers}
        line |= {"host": request.url.netloc, "range": request.headers.get("range")}
        with self._log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def fault(self, request: Request, *kinds: str) -> dict[str, Any] | None:
        """The fault that is switched on for a request; it is used up by being asked for."""
        if not self._faults.exists():
            return None
        faults = json.loads(self._faults.read_text())
        for fault in faults:
            fits = re.search(fault["match"], f"{request.method} {request.url.path}")
            if fault["do"] in kinds and fits and fault.get("times", 1 << 30) > 0:
                fault["times"] = fault.get("times", 1 << 30) - 1
                self._faults.write_text(json.dumps(faults))
                return dict(fault)
        return None

    def role(self, request: Request) -> str | None:
        """What the token of a request may do; None without one. Refuses one that is unknown."""
        given = request.headers.get("authorization")
        if given is None:
            return None
        role = TOKENS.get(given.removeprefix("Bearer "))
        if role is None:
            raise Refused(401, message="Invalid credentials in Authorization header")
        return role

    def repository(self, request: Request, *, write: bool = False) -> Repository:
        """The repository of a request, if its token may have it."""
        parts = request.path_params
        repository = Repository(self.root / "repos" / parts.get("type", "models") / parts["owner"] / parts["name"])
        role = self.role(request)
        if not repository.path.exists() or (repository.private and role is None):
            raise Refused(401 if role is None else 404, "RepoNotFound", "Repository not found")
        if repository.gated and role != "write":
            raise Refused(403, "GatedRepo", "Access to this repository is restricted")
        if write and role != "write":
            raise Refused(403, message="You don't have the rights to write to this repository")
        return repository


def commit_of(repository: Repository, request: Request) -> str:
    """The commit that a request names."""
    found = repository.resolve(request.path_params.get("rev", "main"))
    if found is None:
        raise Refused(404, "RevisionNotFound", "Invalid rev id")
    return found


# --- the API -----------------------------------------------------------------------------------------------------


async def whoami(request: Request) -> Response:
    role = hub(request).role(request)
    if role is None:
        raise Refused(401, message="Invalid username or password.")
    token = {"displayName": "test", "role": role}
    return JSONResponse({"type": "user", "name": "tester", "auth": {"type": "access_token", "accessToken": token}})


async def validate_yaml(request: Request) -> Response:
    text = (await request.json())["content"]
    errors = [] if text.startswith("---\n") else [{"message": "no metadata"}]
    return JSONResponse({"errors": errors, "warnings": []})


async def create(request: Request) -> Response:
    if hub(request).role(request) != "write":
        raise Refused(403, message="You don't have the rights to create a repository here")
    body = await request.json()
    kind, owner = body.get("type", "model") + "s", body.get("organization") or "tester"
    repository = Repository(hub(request).root / "repos" / kind / owner / body["name"])
    url = f"{request.base_url}{'datasets/' if kind == 'datasets' else ''}{owner}/{body['name']}"
    if repository.path.exists():
        return JSONResponse({"error": "You already created this repo", "url": url}, 409)
    repository.make(private=body.get("visibility") == "private")
    return JSONResponse({"url": url, "name": f"{owner}/{body['name']}"})


async def info(request: Request) -> Response:
    repository = hub(request).repository(request)
    commit = commit_of(repository, request)
    siblings = [_sibling(entry) for entry in repository.entries(commit)]
    name = f"{request.path_params['owner']}/{request.path_params['name']}"
    about = {"_id": "0", "id": name, "modelId": name, "author": request.path_params["owner"], "sha": commit}
    state = {"private": repository.private, "gated": "auto" if repository.gated else False, "disabled": False}
    dates = {"lastModified": _DATE, "createdAt": _DATE, "downloads": 0, "likes": 0, "tags": []}
    return JSONResponse(about | state | dates | {"siblings": siblings, "cardData": _card(repository, commit)})


def _card(repository: Repository, commit: str) -> Any:
    if "README.md" not in {entry.path for entry in repository.entries(commit)}:
        return None
    text = repository.git("show", f"{commit}:README.md").decode()
    return yaml.safe_load(text.removeprefix("---\n").split("\n---\n")[0])


def _sibling(entry: Entry) -> dict[str, Any]:
    lfs = {"lfs": {"sha256": entry.lfs, "size": entry.size, "pointerSize": 130}} if entry.lfs else {}
    return {"rfilename": entry.path, "size": entry.size, "blobId": entry.oid} | lfs


def _listed(entry: Entry) -> dict[str, Any]:
    lfs = {"lfs": {"oid": entry.lfs, "size": entry.size, "pointerSize": 130}} if entry.lfs else {}
    return {"type": "file", "path": entry.path, "oid": entry.oid, "size": entry.size} | lfs


async def tree(request: Request) -> Response:
    repository = hub(request).repository(request)
    entries = repository.entries(commit_of(repository, request))
    inside = request.path_params.get("path", "").strip("/")
    recursive = request.query_params.get("recursive", "").lower() in ("1", "true")
    found: list[dict[str, Any]] = []
    for entry in entries:
        below = entry.path.removeprefix(f"{inside}/") if inside else entry.path
        if inside and below == entry.path:
            continue
        if recursive or "/" not in below:
            found.append(_listed(entry))
        elif (folder := f"{inside}/{below.split('/')[0]}".strip("/")) not in [f["path"] for f in found]:
            found.append({"type": "directory", "path": folder, "oid": "0" * 40, "size": 0})
    if inside and not found:
        raise Refused(404, "EntryNotFound", "no such folder")
    return JSONResponse(found)


async def refs(request: Request) -> Response:
    repository = hub(request).repository(request)
    kinds = {"branches": "refs/heads", "tags": "refs/tags"}
    listed = {
        kind: [{"name": n, "ref": f"{prefix}/{n}", "targetCommit": c} for n, c in repository.refs(prefix).items()]
        for kind, prefix in kinds.items()
    }
    return JSONResponse(listed | {"converts": [], "pullRequests": []})


async def commits(request: Request) -> Response:
    repository = hub(request).repository(request)
    lines = repository.git("log", "--format=%H\t%s", commit_of(repository, request)).decode().splitlines()
    return JSONResponse(
        [{"id": line[:40], "title": line[41:], "message": "", "authors": [], "date": _DATE} for line in lines]
    )


async def paths_info(request: Request) -> Response:
    repository = hub(request).repository(request)
    entries = {entry.path: entry for entry in repository.entries(commit_of(repository, request))}
    if request.headers.get("content-type", "").startswith("application/json"):
        asked = (await request.json())["paths"]
    else:
        asked = (await request.form()).getlist("paths")
    return JSONResponse([_listed(entries[path]) for path in asked if path in entries])


async def preupload(request: Request) -> Response:
    repository = hub(request).repository(request, write=request.query_params.get("create_pr") != "1")
    there = {entry.path: entry for entry in repository.entries(commit_of(repository, request))}
    files = (await request.json())["files"]
    return JSONResponse({"files": [_mode(file, there.get(file["path"])) for file in files]})


def _mode(file: dict[str, Any], there: Entry | None) -> dict[str, Any]:
    mode = "lfs" if is_lfs(file["path"], file["size"]) else "regular"
    oid = {"oid": there.lfs or there.oid} if there else {}
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False} | oid


async def lfs_batch(request: Request) -> Response:
    repository = hub(request).repository(request, write=True)
    base = str(request.base_url).rstrip("/")
    answer = []
    for item in (await request.json())["objects"]:
        known = repository.object(item["oid"]).exists()
        place = repository.path.relative_to(hub(request).root / "repos")
        href = f"{base}/lfs-put/{place}/{item['oid']}?X-Amz-Signature=s3cret"
        answer.append(item | ({} if known else {"actions": {"upload": {"href": href}}}))
    return JSONResponse({"transfer": "basic", "objects": answer})


async def lfs_put(request: Request) -> Response:
    parts = request.path_params
    repository = Repository(hub(request).root / "repos" / parts["type"] / parts["owner"] / parts["name"])
    fault = hub(request).fault(request, "die", "status", "stall")
    if fault and fault["do"] == "status":
        await request.body()
        return Response(status_code=fault["code"])
    temporary = hub(request).root / f"upload-{secrets.token_hex(4)}"
    try:
        with temporary.open("wb") as file:
            async for piece in request.stream():
                file.write(piece)
                if fault:
                    os._exit(9)
        ok = repository.put_object(parts["oid"], temporary)
    except ClientDisconnect:
        ok = False
    finally:
        temporary.unlink(missing_ok=True)
    return Response(status_code=200 if ok else 400)


async def commit(request: Request) -> Response:
    pr = request.query_params.get("create_pr") == "1"
    repository = hub(request).repository(request, write=not pr)
    branch = request.path_params["rev"]
    header: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    lfs: dict[str, tuple[str, int]] = {}
    deleted: list[str] = []
    for line in filter(None, (await request.body()).split(b"\n")):
        item = json.loads(line)
        key, value = item["key"], item["value"]
        if key == "header":
            header = value
        elif key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            if not repository.object(value["oid"]).exists():
                raise Refused(400, message="an LFS object is missing")
            lfs[value["path"]] = (value["oid"], value["size"])
        elif key == "deletedFile":
            deleted.append(value["path"])
    if hub(request).fault(request, "move"):
        repository.commit(branch, None, "somebody else", {"NOTES.md": secrets.token_bytes(4).hex().encode()}, ())
    target = f"refs/pr/{len(repository.refs('refs/pr')) + 1}" if pr else branch
    if pr:
        repository.git("update-ref", target, commit_of(repository, request))
    try:
        made = repository.commit(target, header.get("parentCommit"), header["summary"], files, tuple(deleted), lfs)
    except Moved:
        raise Refused(412, message="A commit has happened since. Please refresh and try again.") from None
    url = f"{request.base_url}{request.path_params['owner']}/{request.path_params['name']}"
    answer = {"commitUrl": f"{url}/commit/{made}", "commitOid": made, "success": True}
    return JSONResponse(answer | ({"pullRequestUrl": f"{url}/discussions/1"} if pr else {}))


async def tag(request: Request) -> Response:
    repository = hub(request).repository(request, write=True)
    name = (await request.json())["tag"]
    if name in repository.refs("refs/tags"):
        raise Refused(409, message="Tag reference exists already")
    repository.git("update-ref", f"refs/tags/{name}", commit_of(repository, request))
    return JSONResponse({})


async def branch(request: Request) -> Response:
    repository = hub(request).repository(request, write=True)
    name = request.path_params["branch"]
    if name in repository.refs("refs/heads"):
        raise Refused(409, message="Reference already exists")
    start = (await request.json()).get("startingPoint") or "main"
    repository.git("update-ref", f"refs/heads/{name}", start)
    return JSONResponse({})


# --- files -------------------------------------------------------------------------------------------------------


async def resolve(request: Request) -> Response:
    repository = hub(request).repository(request)
    found = commit_of(repository, request)
    entries = {entry.path: entry for entry in repository.entries(found)}
    entry = entries.get(request.path_params["path"])
    if entry is None:
        raise Refused(404, "EntryNotFound", "Entry not found")
    headers = {"X-Repo-Commit": found, "ETag": f'"{entry.lfs or entry.oid}"', "Accept-Ranges": "bytes"}
    if entry.lfs:
        headers |= {"X-Linked-Etag": f'"{entry.lfs}"', "X-Linked-Size": str(entry.size)}
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(entry.size)})
    begin, status = 0 if hub(request).fault(request, "no ranges") else _begin(request), 200
    if begin:
        headers, status = headers | {"Content-Range": f"bytes {begin}-{entry.size - 1}/{entry.size}"}, 206
    fault = hub(request).fault(request, "die", "cut", "flip", "length", "short")
    end = entry.size // 2 if fault and fault["do"] == "short" else entry.size
    body = _body(repository.content(entry), begin, end, fault)
    length = max(0, end - begin) + (1000 if fault and fault["do"] == "length" else 0)
    return StreamingResponse(body, status, headers | {"Content-Length": str(length)})


def _begin(request: Request) -> int:
    asked = re.match(r"bytes=(\d+)-", request.headers.get("range", ""))
    return int(asked[1]) if asked else 0


async def _body(content: bytes | Path, begin: int, size: int, fault: dict[str, Any] | None) -> AsyncIterator[bytes]:
    """The bytes from `begin` on, in pieces; with a fault, not quite."""
    do = fault["do"] if fault else ""
    half = (begin + size) // 2
    position = begin
    while position < size:
        piece = _piece(content, position, min(_CHUNK, half - position if position < half else size - position))
        if do == "flip" and position >= half:
            piece, do = bytes([piece[0] ^ 1]) + piece[1:], ""
        position += len(piece)
        yield piece
        if do in ("die", "cut") and position >= half:
            await asyncio.sleep(0.05)
            if do == "die":
                os._exit(9)
            raise ConnectionAbortedError


def _piece(content: bytes | Path, position: int, length: int) -> bytes:
    if isinstance(content, bytes):
        return content[position : position + length]
    with content.open("rb") as file:
        file.seek(position)
        return file.read(length)


# --- the application ---------------------------------------------------------------------------------------------


def hub(request: Request) -> Hub:
    found: Hub = request.app.state.hub
    return found


async def _stall(request: Request, fault: dict[str, Any]) -> Response:
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits that long")


async def _status(request: Request, fault: dict[str, Any]) -> Response:
    return Response(fault.get("body"), status_code=fault["code"], headers=fault.get("headers", {}))


async def _endless(request: Request, fault: dict[str, Any]) -> Response:
    async def blanks() -> AsyncIterator[bytes]:
        left = fault.get("bytes", _ENDLESS)
        while left > 0:
            yield b" " * min(left, 1 << 20)
            left -= 1 << 20
            await asyncio.sleep(0)  # to see that nobody listens any more

    return StreamingResponse(blanks(), fault.get("code", 200), headers=fault.get("headers", {}))


async def _redirect(request: Request, fault: dict[str, Any]) -> Response:
    return Response(status_code=302, headers={"Location": f"{fault['to']}{request.url.path}?{request.url.query}"})


# Faults that are the whole answer.
_WHOLE = {"status": _status, "stall": _stall, "endless": _endless, "redirect": _redirect}


class Faults(BaseHTTPMiddleware):
    """Lists each request, and answers those that are to fail."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        hub(request).note(request)
        if not request.url.path.startswith("/lfs-put"):
            fault = hub(request).fault(request, *_WHOLE)
            if fault:
                return await _WHOLE[fault["do"]](request, fault)
        try:
            answer: Response = await call_next(request)
        except Refused as e:
            return e.response
        lost = hub(request).fault(request, "lose")
        return Response(status_code=lost["code"]) if lost else answer


_API = "/api/{type:str}/{owner:str}/{name:str}"
_WITHIN = (
    ("/preupload/{rev:path}", preupload, "POST"),
    ("/commit/{rev:path}", commit, "POST"),
    ("/commits/{rev:path}", commits, "GET"),
    ("/paths-info/{rev:path}", paths_info, "POST"),
    ("/tag/{rev:path}", tag, "POST"),
    ("/branch/{branch:path}", branch, "POST"),
    ("/revision/{rev:path}", info, "GET"),
    ("/refs", refs, "GET"),
    ("/tree/{rev:str}/{path:path}", tree, "GET"),
    ("/tree/{rev:str}", tree, "GET"),
    ("", info, "GET"),
)


def application(root: Path) -> Starlette:
    """The server on what is under `root`."""
    routes = [
        Route("/api/whoami-v2", whoami),
        Route("/api/validate-yaml", validate_yaml, methods=["POST"]),
        Route("/api/repos/create", create, methods=["POST"]),
        *(Route(_API + path, endpoint, methods=[method]) for path, endpoint, method in _WITHIN),
        Route("/lfs-put/{type:str}/{owner:str}/{name:str}/{oid:str}", lfs_put, methods=["PUT"]),
        Route("/{type:str}/{owner:str}/{name:str}.git/info/lfs/objects/batch", lfs_batch, methods=["POST"]),
        Route("/{owner:str}/{name:str}.git/info/lfs/objects/batch", lfs_batch, methods=["POST"]),
        Route("/datasets/{owner:str}/{name:str}/resolve/{rev:str}/{path:path}", datasets_resolve),
        Route("/{owner:str}/{name:str}/resolve/{rev:str}/{path:path}", resolve),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(Faults)
    app.state.hub = Hub(root)
    return app


async def datasets_resolve(request: Request) -> Response:
    request.path_params["type"] = "datasets"
    return await resolve(request)


if __name__ == "__main__":
    uvicorn.run(application(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="critical")
