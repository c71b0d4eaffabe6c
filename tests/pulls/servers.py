"""Local servers that answer as sources do, and books that are to pull them."""

import io
import ssl
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import trustme
import yaml

from pipelines.book import Book
from pipelines.pulls.desk import Limits

QUICK = Limits(
    attempts=3,
    silence_s=0.5,
    answer_s=2,
    answer_bytes=10_000,
    longest_pause_s=3,
    first_pause_s=0.01,
)


@dataclass
class Asked:
    """One request as a server saw it."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class Answer:
    """What a server sends; `promised` bytes where it says more than it sends."""

    content: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None
    wait: threading.Event | None = None


@dataclass
class Server:
    """A server that runs, and what it was asked for."""

    url: str
    asked: list[Asked]
    scripted: list[Answer]


def _plain(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


@contextmanager
def serving(
    answer: Callable[[Asked], Answer] | None = None, *, tls: trustme.LeafCert | None = None
) -> Iterator[Server]:
    """A server that gives the scripted answers, then what `answer` says."""
    asked: list[Asked] = []
    scripted: list[Answer] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", 0))
            form = _plain(self.rfile.read(length).decode())
            one = Asked(parts.path, _plain(parts.query), dict(self.headers), form)
            asked.append(one)
            told = scripted.pop(0) if scripted else (answer(one) if answer else Answer())
            if told.wait is not None:
                told.wait.wait(10)
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(told.promised or len(told.content)))
            self.end_headers()
            self.wfile.write(told.content)
            if told.promised:
                self.close_connection = True

        do_GET = do_POST = _answer  # noqa: N815 - names that the library looks for

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is what some tests are about."""

    server = Quiet(("127.0.0.1", 0), Handler)
    scheme = "http"
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield Server(f"{scheme}://localhost:{server.server_port}", asked, scripted)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def archive(name: str, text: str) -> bytes:
    """A zip archive of one file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


def declare(book: Book, *sources: dict[str, object]) -> None:
    """Write the `sources.yml` of a book."""
    folder = book.data_dir / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sources.yml").write_text(yaml.safe_dump({"sources": [*sources]}))


def landed(book: Book) -> dict[str, bytes]:
    """Files of landing by their names below it."""
    return {
        file.relative_to(book.landing).as_posix(): file.read_bytes()
        for file in sorted(book.landing.rglob("*"))
        if file.is_file()
    }
