"""A real PostgreSQL for the tests of SQL directories: a cluster of its own on a free loopback port, keeping nothing.

PostgreSQL refuses to run as root; where the tests do, it runs as the user that its package made, or else as nobody. Its
programs are looked for on PATH and where Debian puts them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

PASSWORD = "a-password-of-the-tests"
SETTINGS = ("fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=4MB", "max_connections=64")
PATIENT = 60.0


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name) or next((str(place / name) for place in places if (place / name).exists()), None)
    assert found, f"these tests need PostgreSQL's {name}: apt-get install postgresql"
    return found


def _owner() -> pwd.struct_passwd | None:
    """Whom the server runs as, where that is not us."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


class Server:
    """A PostgreSQL server that can be stopped, paused and started again on the same port."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-postgres-"))
        self._owner = _owner()
        self._as = {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []} if self._owner else {}
        self.process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []
        (self.folder / "password").write_text(PASSWORD)
        if self._owner:
            for path in (self.folder, self.folder / "password"):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        options = [
            "--username=sluice",
            "--auth=scram-sha-256",
            f"--pwfile={self.folder}/password",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
        ]
        subprocess.run(
            [program("initdb"), "-D", str(self.data), *options], check=True, capture_output=True, cwd=self.folder, **self._as
        )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://sluice:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and return once it answers."""
        command = [program("postgres"), "-D", str(self.data), "-p", str(self.port)]
        command += [word for setting in SETTINGS for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as)
        ready = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + PATIENT
        while subprocess.run(ready, check=False).returncode != 0:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not come up"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once, as a crash would, with every connection."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(PATIENT)
            self.process = None

    def pause(self) -> None:
        """Have it hang: connections stay, and nothing answers."""
        assert self.process is not None
        self.pause_connections()
        self.process.send_signal(signal.SIGSTOP)

    def pause_connections(self) -> int:
        """Have the connections hang that there are, and return how many; new ones work."""
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            others = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            self._paused = [pid for (pid,) in connection.execute(others)]
        for pid in self._paused:
            os.kill(pid, signal.SIGSTOP)
        return len(self._paused)

    def resume(self) -> None:
        assert self.process is not None
        for pid in self._paused:
            os.kill(pid, signal.SIGCONT)
        self._paused = []
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        if self.process is not None:
            self.resume()
        self.stop()
        shutil.rmtree(self.folder)
