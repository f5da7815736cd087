"""The HTTP agent of one destination: it sends requests to the configured hosts only, whatever their addresses."""

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
    """Return an agent that sends requests to the origins of ``urls`` only, and follows no redirect.

    With ``any_port`` it accepts all ports of these hosts, and https for http; with ``below`` their subdomains, too.
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
