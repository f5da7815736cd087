"""A soak test: many small jobs, an engine killed every few seconds; none is lost or done twice, memory is flat.

    python -m benchmarks.soak [--jobs 50000] [--every 7]

One process answers calls and two move files, all on one PostgreSQL; every few seconds one of the two is killed with
SIGKILL and started again. At the end every job's status and history and every file are checked. Memory is each
process's VmRSS, by quarters of the run.
"""

import argparse
import hashlib
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.servers import postgres
from tests.servers.service import Service

SUBMITTED_AT_ONCE = 1000
CONTENT = b"0123456789abcdef" * 256


def service(directory: Path, name: str, roles: str, url: str) -> Service:
    own = directory / name
    own.mkdir()
    tables = f"""roles = {roles}
key_file = "{directory}/key"
lease = "3s"
[database]
url = "{url}"
[destinations.archive]
url = "file://{directory}/archive"
max_active = 64
[transfers]
retry_base = "100ms"
retry_cap = "1s"
"""
    return Service(own, tables)


def main() -> None:
    """Run, and print the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=50_000)
    options.add_argument("--every", type=float, default=7.0, help="seconds between two kills")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="datamover-soak-") as name, postgres.running() as server:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "archive").mkdir()
        (directory / "archive/source").write_bytes(CONTENT)
        url = postgres.TestDatabases(server).fresh()
        api = service(directory, "api", '["api"]', url)
        api.start()
        engines = [service(directory, f"engine{number}", '["api", "engine"]', url) for number in range(2)]
        for engine in engines:
            engine.start()
        try:
            run(api, engines, directory, asked.jobs, asked.every)
        finally:
            for each in (*engines, api):
                each.stop()


def run(api: Service, engines: list[Service], directory: Path, jobs: int, every: float) -> None:
    mover: Any = api.proxy
    start = time.monotonic()
    for first in range(0, jobs, SUBMITTED_AT_ONCE):
        numbers = range(first, min(jobs, first + SUBMITTED_AT_ONCE))
        mover.jobs.submit_many([request(number) for number in numbers])
    print(f"{jobs} jobs submitted in {time.monotonic() - start:.1f} s", flush=True)
    memory = Memory({"answering": api, "moving, first": engines[0], "moving, second": engines[1]})
    kills, killed_at = 0, time.monotonic()
    while waiting := sum(line["pending"] + line["active"] for line in mover.service.status()["queue"]):
        time.sleep(0.5)
        memory.sample()
        if time.monotonic() - killed_at >= every and waiting > 200:
            victim = engines[kills % len(engines)]
            victim.kill()
            victim.start()
            kills, killed_at = kills + 1, time.monotonic()
            print(f"{time.monotonic() - start:6.1f} s  {waiting:.0f} wait, {kills} kills", flush=True)
    seconds = time.monotonic() - start
    states: dict[str, int] = {}
    attempts: dict[int, int] = {}
    before = 2**31 - 1
    while page := mover.jobs.list({"before": before, "limit": 1000}):
        before = page[-1]["id"]
        for job in page:
            states[job["status"]] = states.get(job["status"], 0) + 1
            attempts[job["attempt"]] = attempts.get(job["attempt"], 0) + 1
    right = sum(digest(path) == digest(directory / "archive/source") for path in (directory / "archive/out").iterdir())
    parts = len(list((directory / "archive").rglob(".datamover-*")))
    print(f"{jobs / seconds:.0f} jobs/s, {kills} kills; states {states}; attempts {attempts}")
    print(f"{right} files right, {parts} part files left")
    ends = completions(mover)
    once = sum(ends[job] == {None: 1, 0: 1} for job in ends)
    print(f"{once} of {jobs} jobs have exactly one end of the job and one of its file in their history")
    memory.show()


class Memory:
    """The memory of processes over time."""

    def __init__(self, processes: dict[str, Service]) -> None:
        self._processes = processes
        self._samples: dict[str, list[float]] = {name: [] for name in processes}

    def sample(self) -> None:
        for name, process in self._processes.items():
            self._samples[name].append(process.resident() / 1e6)

    def show(self) -> None:
        """Print the peak of each quarter of the run."""
        print("MB, the highest of each quarter")
        for name, samples in self._samples.items():
            size = max(1, -(-len(samples) // 4))
            quarters = [max(samples[start : start + size]) for start in range(0, len(samples), size)]
            print(f"  {name:<15}" + "".join(f"{quarter:7.0f}" for quarter in quarters))


def completions(mover: Any) -> dict[int, Counter[int | None]]:
    """Return how often each job's history has "completed", for the job (None) and for each file."""
    found: dict[int, Counter[int | None]] = {}
    after: dict[str, str] = {}
    while True:
        answer = mover.jobs.events({"limit": 1000, **after})
        for event in answer["events"]:
            if event["kind"] == "completed":
                found.setdefault(event["job"], Counter())[event.get("file")] += 1
        if not answer["events"]:
            return found
        after = {"after": answer["cursor"]}


def request(number: int) -> dict[str, Any]:
    source = {"destination": "archive", "path": "source"}
    return {"source": source, "destination": "archive", "path": f"out/{number}", "request_id": str(number)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
