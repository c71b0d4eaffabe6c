"""A PostgreSQL server of Debian's package for tests: on a socket of its own, gone afterwards.

The server runs as an unprivileged user, since it refuses root.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

ADMINISTRATOR = "postgres"
PASSWORD = "Geh@im/7"


@dataclass(frozen=True)
class Server:
    """A server that runs; every role of it has the same password."""

    folder: Path
    programs: Path

    def dsn(self, database: str, role: str = ADMINISTRATOR) -> str:
        return f"postgresql://{role}:{quote(PASSWORD, safe='')}@/{database}?host={self.folder}"

    def run(self, database: str, *statements: str, file: Path | None = None) -> str:
        """Run statements, or a file, with psql as the administrator; what it prints."""
        commands = [f"--file={file}"] if file else [f"--command={one}" for one in statements]
        return subprocess.run(
            [
                self.programs / "psql",
                *("--no-psqlrc", "--quiet", "--tuples-only", "--no-align"),
                *("--set=ON_ERROR_STOP=1", f"--dbname={self.dsn(database)}", *commands),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout


@contextmanager
def started() -> Iterator[Server]:
    """A server for as long as it is needed."""
    [*_, programs] = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [None]
    if programs is None or not (programs / "initdb").exists():
        pytest.fail(
            "PostgreSQL is not there: install it, on Debian by `apt-get install postgresql`"
        )
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    # Its path is short: that of a socket may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg"))

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            **user,
        )

    try:
        (folder / "password").write_text(PASSWORD)
        if user:
            shutil.chown(folder, **user)
        run(
            "initdb",
            *("--pgdata=data", "--auth=scram-sha-256", "--no-sync"),
            *(f"--username={ADMINISTRATOR}", "--pwfile=password"),
        )
        options = f"-c listen_addresses='' -c fsync=off -c unix_socket_directories={folder}"
        run("pg_ctl", "--pgdata=data", "--wait", f"--options={options}", "--log=log", "start")
        yield Server(folder, programs)
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run("pg_ctl", "--pgdata=data", "--mode=immediate", "stop")
        shutil.rmtree(folder)
