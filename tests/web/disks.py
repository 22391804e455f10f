"""What may happen to files that a running gateway needs: the disk of its ledger, and a geo database.

The ledger's disk refuses by the system itself (RLIMIT_FSIZE). To have it hang or be slow nothing less than a file system of
its own would do; so the gateway is run by this module, `python -m tests.web.disks gateway.yaml`, in which writing and syncing
below the folder `audit` wait as the file `disk` beside gateway.yaml says.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.audit import trail
from tests.geo import damaged, write
from tests.web.wires import Fault

SLOWLY = 0.05
HANGS = 0.3  # seconds, in place of the gateway's own
FRENCH, KOREAN, CORNER = "203.0.113.9", "192.0.2.7", "198.51.100.5"
ROWS = {"203.0.113.0/24": {"country_code": "FR"}, "192.0.2.0/24": {"country_code": "KP"}}
PLACE = "198.51.100.4/30"


class Disk:
    """The disk below a gateway's ledger. pid: the gateway's."""

    def __init__(self, folder: Path, pid: int) -> None:
        self._folder, self._pid = folder, pid
        self._sizes = resource.prlimit(pid, resource.RLIMIT_FSIZE)

    def put(self, fault: Fault) -> None:
        """Refuse every byte, answer nothing, answer late, change a byte of what is written, or be well."""
        control = self._folder / "disk"
        control.with_suffix(".new").write_text(fault)
        control.with_suffix(".new").replace(control)
        most = 1 if fault is Fault.KILL else self._sizes[0]
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (most, self._sizes[1]))
        self._change(b"G" if fault is Fault.CORRUPT else b"g")

    def _change(self, byte: bytes) -> None:
        """Have the reference of the first record that was written begin with `s` and this."""
        for segment in sorted((self._folder / "audit/1").glob("0*.jsonl"))[:1]:
            with segment.open("r+b") as file:
                file.seek(file.read(65_536).lower().index(b'"sg-') + 2)
                file.write(byte)


class Geo:
    """A country database of three networks, the file of which something happens to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.put(Fault.NONE)

    def put(self, fault: Fault) -> None:
        """Remove it, put a pipe in its place from which nothing ever comes, damage one record of it, or make it well."""
        new, built = self._file.with_suffix(".new"), int(time.time()) - 86_400
        if fault is Fault.NONE:
            write(new, {**ROWS, PLACE: {"country_code": "KP"}}, built=built)
        elif fault is Fault.CORRUPT:
            damaged(new, ROWS, PLACE, built=built)
        elif fault is Fault.STALL:
            os.mkfifo(new)
        else:
            self._file.unlink()
            return
        new.replace(self._file)


def faulty(call: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """A call on a file descriptor that waits, for those of the ledger, as long as the control file says."""

    def called(file: int, *arguments: Any) -> Any:
        control = folder / "disk"
        if control.exists() and Path(f"/proc/self/fd/{file}").resolve().is_relative_to(folder / "audit"):
            if control.read_text() == Fault.SLOW:
                time.sleep(SLOWLY)
            while control.read_text() == Fault.STALL:
                time.sleep(0.01)
        return call(file, *arguments)

    return called


def main(file: str) -> None:
    from gateway.cli import main as sluice

    folder = Path(file).parent.resolve()
    trail.HANGS = HANGS  # type: ignore[misc]
    os.write, os.fsync = faulty(os.write, folder), faulty(os.fsync, folder)
    sluice(["serve", file])


if __name__ == "__main__":
    main(sys.argv[1])
