"""A door that dies before it has answered: who asks again with the same request_id has asked once."""

import http.client

import pytest

from tests.faults.cluster import Cluster
from tests.faults.process import command
from tests.faults.work import Asked, Work


def test_answer_lost(cluster: Cluster) -> None:
    """A request whose answer was lost with its door is known to another, as the same job, and is done once."""
    source = cluster.web.directory / "asked"
    source.write_bytes(b"once")
    request = {"source": f"{cluster.web.url}/asked", "destination": "archive", "path": "asked", "request_id": "asked"}
    door = cluster.another_door(command("asked"))
    try:
        with pytest.raises((OSError, http.client.HTTPException)):
            door.proxy.jobs.submit(request)
    finally:
        door.kill()

    answers = [cluster.mover.jobs.submit(request) for _ in range(2)]
    assert cluster.sql("SELECT id FROM jobs WHERE request_id = 'asked'") == [(answers[0]["id"],)]
    assert answers[0]["id"] == answers[1]["id"]
    cluster.engine()
    work = Work(cluster, [Asked(answers[0]["id"], (cluster.archive / "asked",), (source,), 4)])
    work.check()
