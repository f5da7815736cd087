"""Check what the services will need before any of them starts, so that an error reaches the terminal."""

from twisted.application.service import Service

from datamover.config.layout import Layout
from datamover.config.schema import Config
from datamover.postgres.embedded.server import EmbeddedPostgres
from datamover.postgres.external import ExternalPostgres
from datamover.sealing.keyring import KeyFile
from datamover.security.accounts import Account
from datamover.security.directories import PASSABLE, make_data, make_staging


class Preflight(Service):
    """The first service in the tree; its start blocks for a moment."""

    def __init__(
        self, settings: Config, account: Account, database: EmbeddedPostgres | ExternalPostgres, key: KeyFile
    ) -> None:
        """``account`` is what the process will run as; the checks run with its rights."""
        self._settings = settings
        self._layout = Layout(settings.service.data_directory)
        self._account = account
        self._database = database
        self._key = key

    def privilegedStartService(self) -> None:  # noqa: N802
        """Run every check; raises StartError at the first that fails."""
        super().privilegedStartService()
        if self._account.is_another:
            # Below /var/lib only root can make it.
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
            from datamover.console.keys import host_key

            host_key(self._layout.console_host_key)
