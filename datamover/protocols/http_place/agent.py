"""The agent of one destination: it asks the configured hosts and no others, at whatever addresses these are."""

from collections.abc import Iterable
from typing import Any

from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.place import PlaceSettings
from datamover.protocols.tls.verified import VerifiedTLS
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy


def agent_for(settings: PlaceSettings, urls: Iterable[str], tls: VerifiedTLS, reactor: Any) -> PolicyAgent:
    """Return an agent that asks the origins of ``urls`` alone, and follows no redirect; nothing is connected yet."""
    return PolicyAgent(
        reactor,
        SourcePolicy(rules=()).trusting(urls),
        SourceCredentials(()),
        connect_timeout=settings.connect_timeout,
        idle_timeout=settings.idle_timeout,
        tls=tls,
    )
