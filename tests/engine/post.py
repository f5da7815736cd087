"""Notifiers in this process, on a rig's database, and a receiver that checks what they send as docs/api.md has it."""

import re
import textwrap
import time
from collections.abc import Callable
from contextlib import nullcontext
from email.message import Message
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover.config import schema
from datamover.notices.notifier import NoticeContext, Notifier, NotifierLimits
from datamover.notices.queue import Notices
from datamover.notices.secrets import NoticeSecrets
from datamover.protocols.http import HttpClient
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy
from tests.engine.rig import Rig, file, place, url
from tests.servers.exchange import Exchange, Request
from tests.servers.web import Web

SECRET = "5b8f0e-s3cret-of-the-portal"
PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()
PACE = NotifierLimits(poll=0.05, timeout=5.0)


def _receiver() -> Callable[[Message, bytes, str], Any]:
    """Return the function that docs/api.md gives to those who receive notices."""
    found = re.search(r"^    import hashlib, hmac.*?(?=^\S|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(textwrap.dedent(found[0]), names)
    notice: Callable[[Message, bytes, str], Any] = names["notice"]
    return notice


verified = _receiver()


def headers(request: Request) -> Message:
    """Return a request's headers as a web framework hands them over: by name, whatever its case."""
    message = Message()
    for name, value in request.headers.items():
        message[name] = value
    return message


def read(request: Request, secret: str = SECRET) -> Any:
    """Return what a request tells, after the checks of docs/api.md."""
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    told = verified(headers(request), request.body, secret)
    assert told["id"] == request.headers["datamover-id"]
    return told


class Post:
    """A rig, a receiver, and as many notifiers as a test starts."""

    def __init__(self, rig: Rig, web: Web, directory: Path) -> None:
        self.rig = rig
        self.web = web
        self.secret = directory / "secret"
        self.secret.write_text(f"{SECRET}\n")
        self.secret.chmod(0o600)
        self._started: list[tuple[Notifier, HttpClient]] = []

    async def notifier(
        self,
        *,
        policy: SourcePolicy | None = None,
        limits: NotifierLimits = PACE,
        lease: float = 10.0,
        clients: dict[str, schema.Client] | None = None,
    ) -> Notifier:
        """Start a notifier, as one more engine has it."""
        settings = schema.Config(
            service=schema.Service(notify_secret_file=None if clients else self.secret), clients=clients or {}
        )
        http = HttpClient(
            reactor,
            self.rig.settings.http,
            self.rig.settings.transfers,
            policy or SourcePolicy.from_config(self.rig.settings.sources),
            SourceCredentials(),
        )
        context = NoticeContext(http, NoticeSecrets.from_config(settings), self.rig.settings.transfers)
        notifier = Notifier(
            Notices(self.rig.database, self.rig.seal, lease, refused=self.rig.loops.refused),
            lambda: nullcontext(context),
            clock=reactor,
            wall=time.time,
            random=lambda: 1.0,
            notifications=self.rig.news,
            limits=limits,
            loops=self.rig.loops,
        )
        notifier.start()
        self._started.append((notifier, http))
        return notifier

    async def ended(self, path: str = "/moved", **job: Any) -> int:
        """Submit a job that wants notices at ``path`` of the receiver, and cancel it; return its id."""
        return await self.ended_for(f"{self.web.url}{path}", **job)

    async def ended_for(self, text: str, **job: Any) -> int:
        number = await self.rig.ask(file(place("store", "a.csv"), "archive", "a.csv"), notify=url(text), **job)
        await self.rig.store.cancel(number)
        return number

    async def kinds(self, job: int) -> list[str]:
        """Return what the history tells of a job's notices."""
        return [kind for kind in await self.rig.kinds(job) if "notif" in kind]

    async def told(self, job: int, kind: str, count: int = 1, seconds: float = 15.0) -> list[Any]:
        """Wait for events of a kind, and return them."""
        ends = time.monotonic() + seconds
        while True:
            events = [event for event in await self.rig.store.events(job=job, limit=1000) if event.kind == kind]
            if len(events) >= count:
                return events
            assert time.monotonic() < ends, f"{kind} was told {len(events)} times"
            await deferLater(reactor, 0.02, lambda: None)

    async def close(self) -> None:
        for notifier, http in self._started:
            await notifier.stop(0.1)
            await http.close()
        await self.rig.close()
        await self.web.stop()


async def opened(tmp_path: Path, archive: str | None = None) -> Post:
    """Return a post whose receiver listens, with an ``archive`` of that URL or on a disk; no notifier runs yet."""
    rig = await Rig(reactor, tmp_path).open(
        {
            "archive": {"url": archive or (tmp_path / "archive").as_uri(), "max_active": 16},
            "store": {"url": (tmp_path / "store").as_uri(), "max_active": 16},
        }
    )
    web = Web(reactor)
    await web.start()
    return Post(rig, web, tmp_path)


def answering(*codes: int) -> Callable[[Exchange], None]:
    """Answer with these statuses in turn, and then with the last of them."""
    left = list(codes)

    def handler(exchange: Exchange) -> None:
        exchange.answer(left.pop(0) if len(left) > 1 else left[0])

    return handler
