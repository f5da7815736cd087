"""The external PostgreSQL that the configuration names: its address and its password."""

import psycopg2
import psycopg2.extensions

from datamover.config import schema
from datamover.errors import ConfigError, StartError
from datamover.postgres.admission import LoginAttempt, by_host, refusal
from datamover.postgres.failures import one_line
from datamover.postgres.hosts import time_limit
from datamover.security import secret_files


class ExternalPostgres:
    """The PostgreSQL that ``[database]`` names. Its password file is read each time."""

    def __init__(self, settings: schema.Database) -> None:
        """Check the URL; raises ConfigError for one that libpq cannot parse or that holds a password."""
        self._settings = settings
        self._url = settings.url or ""
        try:
            parameters = psycopg2.extensions.parse_dsn(self._url)
        except psycopg2.ProgrammingError:
            raise ConfigError(
                'database.url: expected a URL such as "postgresql://datamover@db.example.org/datamover"'
            ) from None
        if "password" in parameters:
            raise ConfigError("database.url: holds a password: leave it out and name a file in database.password_file")

    def check(self) -> None:
        """Check that the password can be read; raises StartError."""
        self.password()

    async def dsn(self) -> str:
        """Return the connection string for libpq; raises StartError for a password that cannot be read."""
        return self._dsn()

    def look(self) -> str | None:
        """Log in once, and return why that fails for now; None if it succeeds. Blocks.

        Raises StartError for a password that cannot be read, AccessRefused for a server that refuses the login.
        """
        dsn = self._dsn()
        asked = psycopg2.extensions.parse_dsn(dsn)
        try:
            psycopg2.connect(dsn, connect_timeout=int(time_limit(asked))).close()
        except psycopg2.Error as error:
            for host, said in by_host(str(error)):
                if (refused := refusal(said, LoginAttempt.of({**asked, **host}))) is not None:
                    raise refused from None
            return one_line(error)
        return None

    def _dsn(self) -> str:
        if (password := self.password()) is None:
            return self._url
        return str(psycopg2.extensions.make_dsn(self._url, password=password))

    def password(self) -> str | None:
        """Return the password, None if no file is configured; raises StartError."""
        path = self._settings.password_file
        if path is None:
            return None
        try:
            return secret_files.read(path).decode("utf-8").rstrip("\r\n")
        except secret_files.Unusable as error:
            raise StartError(f"database.password_file: {error.reason}") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise StartError(f"database.password_file: {path}: {reason}") from None
