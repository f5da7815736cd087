"""What the services will need, tried before any of them starts; what is wrong then is told on the terminal."""

from twisted.application.service import Service

from datamover.config.layout import Layout
from datamover.config.schema import Config
from datamover.console import host_key
from datamover.postgres.embedded.server import EmbeddedPostgres
from datamover.postgres.external import ExternalPostgres
from datamover.sealing.keyring import KeyFile
from datamover.security.accounts import Account
from datamover.security.directories import PASSABLE, make_data, make_staging


class Preflight(Service):
    """Belongs before all other services; blocks for a moment."""

    def __init__(
        self, settings: Config, account: Account, database: EmbeddedPostgres | ExternalPostgres, key: KeyFile
    ) -> None:
        """``account``: whose the process will be, who must be able to live with what is found and made."""
        self._settings = settings
        self._layout = Layout(settings.service.data_directory)
        self._account = account
        self._database = database
        self._key = key

    def privilegedStartService(self) -> None:  # noqa: N802
        """Try all of it; raises StartError for the first that cannot work."""
        super().privilegedStartService()
        if self._account.is_another:
            # Only root can make it where it usually is.
            make_data(self._layout.directory, PASSABLE, self._account)
        with self._account.assumed():
            self._try()

    def _try(self) -> None:
        self._database.check()
        if "engine" in self._settings.service.roles:
            make_data(self._layout.directory)
            make_staging(self._layout.staging)
        self._key.check()
        if self._settings.console.ssh is not None:
            host_key(self._layout.console_host_key)
