"""Errors that keep the process from starting, or from using a new configuration."""

from datamover.errors.base import DataMoverError, Scope


class ConfigError(DataMoverError):
    """The configuration cannot be used; the message names file, key, value and what was expected."""

    code = "INVALID_CONFIG"
    default_scope = Scope.SERVICE


class StartError(DataMoverError):
    """The service cannot run in this environment; the message says what to do."""

    code = "CANNOT_START"
    default_scope = Scope.SERVICE
