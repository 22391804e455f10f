"""`python -m tests.clusters.measure [scale]`: time, memory and accuracy of `sluice clusters` on generated records.

A scale of 13 makes about a million records. They are made in one process and read by the command in another, so that its time
and memory are its own; they are padded to about the size of the gateway's own records.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.clusters.traffic import HARD, HONEST, RINGS, kind, records

PADDING = {"rules": [], "measures": {f"count by account.id over {n}h": n for n in range(12)}, "timing": {"judged_ns": 40_000}}


def make(scale: float, source: Path) -> None:
    made = records(*RINGS.values(), *HONEST.values(), *HARD.values(), scale=scale)
    with source.open("w") as file:
        file.writelines(json.dumps(one | PADDING) + "\n" for one in made)
    truth = Counter(kind(org) for org in {str(one["signals"]["account.org"]) for one in made})
    print(
        f"{len(made):,} records of {source.stat().st_size / len(made):,.0f} bytes, {sum(truth.values()):,} orgs: {dict(truth)}"
    )


def main(scale: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "records.jsonl"), Path(folder, "clusters.json")
        subprocess.run([sys.executable, "-m", "tests.clusters.measure", scale, str(source)], check=True)
        begun = time.monotonic()
        command = [sys.executable, "-m", "gateway", "clusters", str(source), "--out", str(out)]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        cpu, wall = used.ru_utime + used.ru_stime, time.monotonic() - begun
        print(f"{wall:.0f} s, {cpu:.0f} s of processor, {used.ru_maxrss / 1024:,.0f} MiB, exit {child.returncode}")
        for cluster in json.loads(out.read_text())["clusters"]:
            print(cluster["id"], dict(Counter(kind(org) for org in cluster["org_names"])), cluster["families"])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        make(float(sys.argv[1]), Path(sys.argv[2]))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "13")
