"""Make callers of the configured clients: which methods each may call, and which sources it may name.

They are made when the interface is made, so that an invalid rule or method name stops the start.
"""

from collections.abc import Collection
from typing import Any

from datamover.api.context import Caller
from datamover.config.schema import Client, Config
from datamover.errors import ConfigError
from datamover.requests.datasets import KINDS
from datamover.web.policy import prefixes

ALWAYS = "system."
"""Every client may call these. Each call within a multicall is checked by itself."""


def callers(config: Config, methods: Collection[str]) -> dict[str, Caller]:
    """Return the callers by client name; raises ConfigError for an unknown method or an invalid rule."""
    file = str(config.path or "the built-in configuration")
    return {name: _caller(name, client, methods, file) for name, client in config.clients.items()}


def _caller(name: str, client: Client, methods: Collection[str], file: str) -> Caller:
    allowed: dict[str, Any] = {}
    if client.methods is not None:
        always = {method for method in methods if method.startswith(ALWAYS)}
        named = (_methods(pattern, methods, f"{file}: clients.{name}.methods") for pattern in client.methods)
        allowed["methods"] = frozenset(always.union(*named))
    if client.sources is not None:
        here = f"{file}: clients.{name}.sources"
        allowed["sources"] = prefixes((rule for rule in client.sources if rule not in KINDS), here)
        allowed["datasets"] = frozenset(KINDS[rule] for rule in client.sources if rule in KINDS)
    return Caller(name, client.admin, client.destinations, **allowed)


def _methods(pattern: str, methods: Collection[str], here: str) -> set[str]:
    """Return the methods that a pattern names, such as "jobs.status" or "jobs.*"; raises ConfigError for none."""
    prefix = pattern.removesuffix("*") if pattern.endswith(".*") else None
    found = {each for each in methods if each == pattern or (prefix and each.startswith(prefix))}
    if not found:
        raise ConfigError(f"{here} = {pattern!r}: expected a method's name, or such as 'jobs.*' for all that begin so")
    return found
