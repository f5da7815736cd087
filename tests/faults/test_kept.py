"""What is kept of a cluster when a test fails."""

import shutil
from pathlib import Path

import pytest

from tests.faults import cluster as clusters
from tests.faults.cluster import TABLES, Cluster


def test_logs_and_tables(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a block that fails names a directory with the whole logs and tables."""
    source = {"destination": "archive", "path": "none"}
    job = cluster.mover.jobs.submit({"source": source, "destination": "archive", "path": "kept"})["id"]
    cluster.mover.jobs.cancel(job)
    monkeypatch.setattr(clusters, "Cluster", lambda *_: cluster)
    monkeypatch.setattr(cluster, "start", lambda: None)
    monkeypatch.setattr(cluster, "stop", lambda: None)
    with pytest.raises(ZeroDivisionError) as failure, clusters.running(cluster.directory):
        1 // 0  # noqa: B018 - any error
    (told,) = failure.value.__notes__
    kept = Path(told.rpartition(" ")[2])
    try:
        assert {path.name for path in kept.iterdir()} == {"door.log", *(f"{table}.csv" for table in TABLES)}
        assert cluster.door.log.read_bytes().startswith((kept / "door.log").read_bytes())
        assert f"\n{job}," in (kept / "jobs.csv").read_text()
    finally:
        shutil.rmtree(kept)
