"""The kind of login that a destination's options name."""

from collections.abc import Awaitable, Callable
from typing import Any

from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.swift.login.access import SwiftLogin
from datamover.protocols.swift.login.keystone import ApplicationCredential, Endpoint, Keystone, Password
from datamover.protocols.swift.login.tempauth import TempAuth
from datamover.web.url import WebUrl


def login_of(options: Any, treq: TreqClient, secret: Callable[[], Awaitable[str]]) -> SwiftLogin:
    """Return the login for ``options``, which are ``swift.protocol.SwiftOptions``; ``secret`` reads its secret."""
    url = WebUrl.parse(options.auth_url)
    if not options.is_keystone:
        user = options.username if options.project is None else f"{options.project}:{options.username}"
        return TempAuth(treq, url, user, secret)
    base = WebUrl(url.scheme, url.host, url.port, url.path.rstrip("/"), None)
    told = options.storage_url is not None and WebUrl.parse(options.storage_url).path.strip("/") != ""
    endpoint = None if told else Endpoint(options.region, options.interface)
    return Keystone(treq, base, _identity(options), secret, endpoint)


def _identity(options: Any) -> Password | ApplicationCredential:
    if options.application_credential_id is not None:
        return ApplicationCredential(options.application_credential_id)
    user_domain, project_domain = options.user_domain or options.domain, options.project_domain or options.domain
    return Password(options.username, user_domain, options.project, project_domain)
