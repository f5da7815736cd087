"""The agent of one destination: it asks the configured hosts and no others, at whatever addresses these are."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.place import PlaceSettings
from datamover.protocols.tls.verified import VerifiedTLS
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import Prefix, SourcePolicy
from datamover.web.url import WebUrl

_ANY_ADDRESS = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def agent_for(
    settings: PlaceSettings,
    urls: Sequence[str],
    tls: VerifiedTLS,
    reactor: Any,
    *,
    any_port: bool = False,
    below: bool = False,
) -> PolicyAgent:
    """Return an agent that asks the origins of ``urls`` alone, and follows no redirect; nothing is connected yet.

    ``any_port``: it also asks other ports of their hosts, and by https what is to be asked by http. ``below``: it also
    asks hosts below theirs.
    """
    policy = SourcePolicy(rules=()).trusting(urls)
    if below:
        origins = [url.origin for url in map(WebUrl.parse, urls)]
        rules = tuple(Prefix(scheme, host, True, port, "/") for scheme, host, port in origins)
        policy = SourcePolicy(rules=rules, networks=_ANY_ADDRESS).trusting(urls)
    if any_port:
        hosts = {(scheme, url.host) for url in map(WebUrl.parse, urls) for scheme in (url.scheme, "https")}
        rules = tuple(Prefix(scheme, host, False, None, "/") for scheme, host in sorted(hosts))
        policy = SourcePolicy(rules=rules, networks=_ANY_ADDRESS)
    return PolicyAgent(
        reactor,
        policy,
        SourceCredentials(()),
        connect_timeout=settings.connect_timeout,
        idle_timeout=settings.idle_timeout,
        tls=tls,
    )
