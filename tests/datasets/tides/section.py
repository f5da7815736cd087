"""``[tides]``: where the tides are told."""

from datamover.config.schema import Config, DeclaredSection
from datamover.config.types import Count
from datamover.datasets.declaration import WebBase
from datamover.errors import ConfigError
from datamover.security.secret_files import SecretPath


class TidesSection(DeclaredSection):
    """``[tides]``: the tides at a station."""

    live = frozenset({"url", "ticket_file"})

    url: WebBase
    ticket_file: SecretPath
    at_once: Count = 2
    """Downloads at once, of this process."""

    def check_with(self, config: Config, here: str) -> None:
        """Raise ConfigError for more downloads than there may be transfers."""
        if self.at_once > config.service.max_active:
            raise ConfigError(
                f"{here}.at_once = {self.at_once}: expected at most service.max_active, {config.service.max_active}"
            )
