"""A real Keystone, and a Swift that asks it about tokens, from a virtual environment of their own."""

import json
import os
import subprocess
import sys
from functools import cached_property
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port
from tests.servers.processes import Process
from tests.servers.swift import CONTAINER, SwiftServer

SCRIPTS = Path(sys.prefix) / "openstack" / "bin"
"""``make places-system`` installs them."""
_KEYSTONE = """
[DEFAULT]
log_file = {directory}/log
[database]
connection = sqlite:///{directory}/keystone.db
[fernet_tokens]
key_repository = {directory}/keys
[fernet_receipts]
key_repository = {directory}/keys
[cache]
enabled = false
"""
_SERVE = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

from keystone.server.wsgi import initialize_public_application

port, sys.argv = int(sys.argv[1]), sys.argv[:1]
make_server("127.0.0.1", port, initialize_public_application()).serve_forever()
"""
_MORE = """
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {url}
auth_url = {url}
auth_type = password
interface = public
user_domain_id = default
project_domain_id = default
username = portal
password = secret
project_name = data
delay_auth_decision = true
cache = swift.cache
service_token_roles_required = false
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin
"""


_SECRET = {"password": "secret"}


class Keystone:
    """Keystone with one user, "portal", who is the administrator of one project, "data"."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v3"

    def start(self, storage: str) -> None:
        """Start it with ``storage`` in its catalogue; returns when it answers."""
        (self._directory / "keystone.conf").write_text(_KEYSTONE.format(directory=self._directory))
        self._manage("db_sync")
        self._manage("fernet_setup", "--keystone-user", str(os.geteuid()), "--keystone-group", str(os.getegid()))
        self._manage(
            *("bootstrap", "--bootstrap-username", "portal", "--bootstrap-password", "secret"),
            *("--bootstrap-project-name", "data", "--bootstrap-role-name", "admin", "--bootstrap-region-id", "here"),
            *("--bootstrap-service-name", "keystone", "--bootstrap-public-url", self.url),
        )
        command = (str(SCRIPTS / "python"), "-W", "ignore", "-c", _SERVE, str(self.port))
        self._process = Process(command, self.port, self._directory / "served", self._environment)
        self._process.wait()
        asked = {"service": {"type": "object-store", "name": "swift"}}
        self._service = self._made("service", asked["service"])
        self.add_endpoint("public", "here", storage)

    def add_endpoint(self, interface: str, region: str, url: str) -> None:
        """Add a way to storage to the catalogue."""
        if region != "here":
            self._made("region", {"id": region})
        endpoint = {"interface": interface, "region_id": region, "service_id": self._service, "url": url}
        self._made("endpoint", endpoint)

    def add_user(self, domain: str, name: str) -> None:
        """Add a user of a new domain, who is an administrator of the project, too."""
        token, project = self.log_in()
        user = self._made("user", {"name": name, "domain_id": self._made("domain", {"name": domain}), **_SECRET})
        _, told = self._ask("/v3/roles?name=admin", None, {"X-Auth-Token": token}, "GET", 200)
        role = told["roles"][0]["id"]
        self._ask(f"/v3/projects/{project}/users/{user}/roles/{role}", None, {"X-Auth-Token": token}, "PUT", 204)

    def add_credential(self) -> str:
        """Add an application credential, whose secret is the password; return its id."""
        return self._made("application_credential", {"name": "datamover", "secret": "secret"}, f"users/{self._user}/")

    def remove_credential(self, credential: str) -> None:
        path = f"/v3/users/{self._user}/application_credentials/{credential}"
        self._ask(path, None, {"X-Auth-Token": self.log_in()[0]}, "DELETE", 204)

    def _made(self, kind: str, asked: dict[str, Any], below: str = "") -> str:
        """Have something made; return its id."""
        _, told = self._ask(f"/v3/{below}{kind}s", {kind: asked}, {"X-Auth-Token": self.log_in()[0]})
        return str(told[kind]["id"])

    @property
    def _user(self) -> str:
        return str(self._logged_in()[1]["token"]["user"]["id"])

    def log_in(self) -> tuple[str, str]:
        """Return a token, and the id of the project."""
        headers, told = self._logged_in()
        return headers["X-Subject-Token"], told["token"]["project"]["id"]

    def _logged_in(self) -> tuple[Any, Any]:
        domain = {"id": "default"}
        user = {"name": "portal", "domain": domain, **_SECRET}
        scope = {"project": {"name": "data", "domain": domain}}
        asked = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        return self._ask("/v3/auth/tokens", asked, {})

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "OS_KEYSTONE_CONFIG_FILES": str(self._directory / "keystone.conf")}

    def _manage(self, *command: str) -> None:
        options = ("--config-file", str(self._directory / "keystone.conf"))
        done = subprocess.run([str(SCRIPTS / "keystone-manage"), *options, *command], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    def _ask(
        self, path: str, body: Any, headers: dict[str, str], method: str = "POST", status: int = 201
    ) -> tuple[Any, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == status, told
            return answer.headers, json.loads(told or b"null")
        finally:
            connection.close()


class KeystoneSwift(SwiftServer):
    """Swift whose tokens are Keystone's."""

    pipeline = (
        "catch_errors gatekeeper cache listing_formats authtoken keystoneauth copy container_quotas account_quotas slo "
        "dlo proxy-server"
    )
    scripts = SCRIPTS
    secret_key = "secret"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.keystone = Keystone(directory)
        self.more += _MORE.format(url=self.keystone.url)

    @property
    def options(self) -> dict[str, Any]:
        """The keys of a destination's table."""
        login = {"username": "portal", "project": "data", "password_file": str(self.secret_key_file)}
        return {"auth_url": self.keystone.url, **login}

    def application_credential(self) -> dict[str, Any]:
        """Return the keys of a login by a new application credential."""
        told = {"application_credential_secret_file": str(self.secret_key_file)}
        return {"application_credential_id": self.keystone.add_credential(), **told}

    @cached_property
    def account(self) -> str:
        return f"/v1/AUTH_{self._granted[1]}"

    @cached_property
    def _granted(self) -> tuple[str, str]:
        return self.keystone.log_in()

    def start(self) -> None:
        self.keystone.start(f"{self.endpoint}/v1/AUTH_%(project_id)s")
        self.launch_cache()
        self.launch()
        self.ask("PUT", CONTAINER)

    def stop(self) -> None:
        super().stop()
        self.keystone.stop()

    def _log_in(self, user: str = "", key: str = "") -> dict[str, str]:
        return {"x-auth-token": self._granted[0]}
