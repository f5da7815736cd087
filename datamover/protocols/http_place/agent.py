"""The agent of one destination: it asks the configured hosts and no others, at whatever addresses these are."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datamover.errors import ConfigError
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.place import PlaceSettings
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy


def agent_for(settings: PlaceSettings, urls: Iterable[str], reactor: Any, *, ca_file: Path | None) -> PolicyAgent:
    """Return an agent that asks the origins of ``urls`` alone, and follows no redirect; nothing is connected yet.

    Raises ConfigError for a ``ca_file`` that cannot be used.
    """
    try:
        return PolicyAgent(
            reactor,
            SourcePolicy(rules=()).trusting(urls),
            SourceCredentials(()),
            connect_timeout=settings.connect_timeout,
            idle_timeout=settings.idle_timeout,
            ca_file=ca_file,
        )
    except ConfigError:
        raise ConfigError(
            f"destinations.{settings.name}.ca_file = {str(ca_file)!r}: expected a readable file of PEM certificates"
        ) from None
