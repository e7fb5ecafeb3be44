"""A server on loopback that answers like the model hub: metadata in headers, ranges, a checksum as the linked tag."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub(BaseHTTPRequestHandler):
    """Serves FOLDER/owner/name/file at /owner/name/resolve/REVISION/file, and the list of files where the hub has it."""

    folder: Path
    cut: int = 0  # bytes after which the next download breaks off, once
    requests_seen: list[str]
    lie: bool = False  # state a wrong checksum

    def file(self) -> Path | None:
        parts = self.path.lstrip("/").split("/")
        if len(parts) != 5 or parts[2] != "resolve":
            return None
        path = self.folder / parts[0] / parts[1] / parts[4]
        return path if path.is_file() else None

    def head(self, path: Path, start: int = 0) -> None:
        digest = "0" * 64 if self.lie else hashlib.sha256(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        self.send_response(206 if start else 200)
        for name, value in (("ETag", f'"{digest}"'), ("X-Linked-ETag", f'"{digest}"'), ("X-Linked-Size", str(size)), ("X-Repo-Commit", "c" * 40),
                            ("Accept-Ranges", "bytes"), ("Content-Length", str(size - start))):  # fmt: skip
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.requests_seen.append(f"HEAD {self.path}")
        path = self.file()
        if path is None:
            self.send_response(404 if self.path != "/" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.head(path)

    def listing(self) -> bytes | None:
        """What /api/models/owner/name/revision/REVISION says, or /tree/REVISION in the place of it."""
        parts = self.path.split("?")[0].split("/")
        if parts[1:3] != ["api", "models"] or not (folder := self.folder / parts[3] / parts[4]).is_dir():
            return None
        files = sorted(folder.iterdir())
        tree = [{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "c" * 40} for path in files]
        about = {"id": f"{parts[3]}/{parts[4]}", "sha": "c" * 40, "siblings": [{"rfilename": path.name} for path in files]}
        return json.dumps(tree if parts[5] == "tree" else about).encode()

    def do_GET(self) -> None:
        if (listed := self.listing()) is not None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(listed)))
            self.end_headers()
            self.wfile.write(listed)
            return
        path = self.file()
        wanted = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0]
        self.requests_seen.append(f"GET {self.path} from {wanted}")
        if path is None:
            self.send_error(404)
            return
        start = int(wanted or 0)
        data = path.read_bytes()[start:]
        self.head(path, start)
        if type(self).cut and len(data) > type(self).cut:
            data, type(self).cut = data[: type(self).cut], 0
            self.wfile.write(data)
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, type[Hub]]]:
    """Serve a folder; yields the address and the handler class, whose attributes change the behaviour."""
    handler = type("Handler", (Hub,), {"folder": folder, "requests_seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
