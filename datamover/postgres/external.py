"""Where the database is that the configuration names, and the password for it."""

import psycopg2
import psycopg2.extensions

from datamover.config import schema
from datamover.errors import ConfigError, StartError
from datamover.postgres.admission import LoginAttempt, by_host, refusal
from datamover.postgres.failures import one_line
from datamover.postgres.hosts import time_limit
from datamover.security import secret_files


class ExternalPostgres:
    """The address of the PostgreSQL that ``[database]`` names, its password read anew each time."""

    def __init__(self, settings: schema.Database) -> None:
        """Raises ConfigError for a URL that cannot be one, or that holds a password."""
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
        """Make sure that the password can be read; raises StartError."""
        self.password()

    async def dsn(self) -> str:
        """Return the address as libpq takes it; raises StartError for a password that cannot be read."""
        return self._dsn()

    def look(self) -> str | None:
        """Log in once; blocks. Returns why that cannot be now, None where it can.

        Raises StartError for a password that cannot be read, Refused for a server that does not let us in.
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
        """Return the password, None where none is named; raises StartError."""
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
