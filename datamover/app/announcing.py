"""Log what was read at the start, and one line that says where to call when the service is ready."""

from collections.abc import Awaitable, Callable, Iterator
from socket import gethostname
from urllib.parse import urlsplit

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from datamover.config.endpoints import endpoint_address
from datamover.config.layout import Layout
from datamover.config.load import LOCAL, has_built_in_local
from datamover.config.schema import Config
from datamover.errors import StartError, Unavailable

log = Logger()

PATH = "/data_mover"
EXAMPLE = "from xmlrpc.client import ServerProxy as S; print(S('{}').service.status())"
"""A first call; neither a login nor a Unix socket is so simple."""


class Announcing(Service):
    """Tells at the start what the service runs on, and when it is ready."""

    def __init__(self, settings: Config, opened: Callable[[], Awaitable[None]]) -> None:
        """``opened`` completes when the database is open."""
        self._settings = settings
        self._opened = opened
        self._waiting: Deferred[None] | None = None

    def startService(self) -> None:  # noqa: N802
        super().startService()
        for name, value in described(self._settings):
            log.info("{name}: {value}", name=name, value=value)
        tell_of_local(self._settings)
        self._waiting = Deferred.fromCoroutine(self._tell_when_ready())

    def stopService(self) -> None:  # noqa: N802
        super().stopService()
        if self._waiting is not None:
            self._waiting.cancel()

    async def _tell_when_ready(self) -> None:
        try:
            await self._opened()
        except (CancelledError, StartError, Unavailable):
            return
        settings = self._settings
        called = urls(settings)
        parts = [f"call {', '.join(called)}" if called else "without the role api, so this process takes no calls"]
        parts.append(f"configuration {settings.path or 'built in'}")
        if has_built_in_local(settings):
            parts.append(f"destination {LOCAL} is {Layout(settings.service.data_directory).files}")
        tried = next((url for url in called if not (url.startswith("unix:") or settings.clients)), None)
        log.info(
            "datamover is ready: {parts}"
            if tried is None
            else 'datamover is ready: {parts}; try: python3 -c "{example}"',
            parts="; ".join(parts),
            example=EXAMPLE.format(tried),
        )


def described(settings: Config) -> Iterator[tuple[str, str]]:
    """Yield what the service runs on, as (name, value), without passwords."""
    yield "configuration", str(settings.path or "built in")
    yield "data directory", str(settings.service.data_directory)
    yield (
        "database",
        f"embedded, in {settings.service.data_directory}"
        if settings.database.url is None
        else (settings.database.url.partition("?")[0]),
    )
    for url in urls(settings):
        yield "listener", url
    for name, destination in settings.destinations.items():
        if urlsplit(destination.url).scheme == "file":
            yield "destination", f"{name}: {urlsplit(destination.url).path}"


def tell_of_local(settings: Config, before: Config | None = None) -> None:
    """Log that ``local`` appeared or is gone; ``before`` is the configuration that was in force, None at the start."""
    there = has_built_in_local(settings)
    files = Layout(settings.service.data_directory).files
    was = files.is_dir() if before is None else has_built_in_local(before)
    if before is not None and there and not was:
        log.info("destination {name} is {files}, since no destination is configured", name=LOCAL, files=files)
    if was and not there and LOCAL not in settings.destinations:
        log.warn(
            "there is no destination {name} any more, since the configuration names destinations of its own: its files "
            "stay in {files}; to keep it, add [destinations.{name}] with url = {url}",
            name=LOCAL,
            files=files,
            url=f'"{files.as_uri()}"',
        )


def urls(settings: Config) -> list[str]:
    """Return the URLs to call; a Unix socket as ``unix:PATH``."""
    if "api" not in settings.service.roles:
        return []
    return [_url(listener, tls=settings.tls.covers(listener)) for listener in settings.service.listen]


def _url(listener: str, *, tls: bool) -> str:
    host, port = endpoint_address(listener)
    if host is None:
        return f"unix:{port}"
    shown = f"[{host}]" if ":" in host else gethostname() if host in ("", "0.0.0.0") else host  # noqa: S104
    return f"{'https' if tls else 'http'}://{shown}:{port}{PATH}"
