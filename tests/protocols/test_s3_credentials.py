"""S3: the one file that holds a whole key, as AWS's tools write it."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.place import PlaceSettings
from datamover.protocols.s3 import S3
from datamover.protocols.s3.credentials import SharedFile
from tests.protocols.conformance import write
from tests.protocols.test_s3_service import KEY, error
from tests.servers.web import Exchange, Web

SHARED = """[other]
aws_access_key_id = OTHER
[default]
aws_access_key_id = {id}
aws_secret_access_key = s3cret%s
aws_session_token={token}
region = eu-west-1
"""


@pytest_twisted.ensureDeferred
async def test_credentials_of_one_file(tmp_path: Path) -> None:
    """A temporary key that ends amid an upload is replaced by that which its file holds by then, with another id."""
    file, web, sent = tmp_path / "credentials", Web(reactor), list[tuple[str, str]]()
    file.write_text(SHARED.replace("{id}", "FIRST").replace("{token}", "old"))
    file.chmod(0o600)
    await web.start()

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        name = request.headers["authorization"].partition("Credential=")[2].partition("/")[0]
        sent.append((name, request.headers["x-amz-security-token"]))
        if "partNumber=" in request.target and name == "FIRST":
            file.write_text(SHARED.replace("{id}", "SECOND").replace("{token}", "new"))
            exchange.answer(400, [], error("ExpiredToken", "expired"))
        else:
            exchange.answer(200, [("ETag", '"e"')], b"<R><UploadId>u</UploadId></R>")

    web.otherwise = serve
    table = {"endpoint": web.url, "credentials_file": file}
    settings = PlaceSettings("place", "s3://bucket/in", 0o644, 0o755, 5.0, 5.0)
    pool = S3.open(settings, S3.options.model_validate(table), reactor)
    try:
        upload = pool.at(Scope.DESTINATION).begin("f", KEY)
        await write(upload, b"data")
        assert set(sent[:-1]) == {("FIRST", "old")}
        assert sent[-1] == ("SECOND", "new")
    finally:
        await pool.close()
        await web.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"has no profile \[default\]"),
        ("aws_access_key_id = s3cret", "is not of the form of AWS's"),
        ("[default]\naws_access_key_id = A\n", "no aws_secret_access_key in"),
        ("[default]\naws_access_key_id = A\naws_secret_access_key = B\n  C\n", "of more than one line"),
    ],
)
def test_credentials_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    """What is wrong with the file is told, and nothing of what it holds."""
    file = tmp_path / "credentials"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(errors.AuthenticationFailed, match=words) as caught:
        SharedFile(file, "default").read()
    assert "s3cret" not in caught.value.full


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ((), "expected access_key_id and secret_key_file, or credentials_file"),
        (("access_key_id",), "expected access_key_id and secret_key_file, or credentials_file"),
        (("access_key_id", "secret_key_file", "profile"), "expected credentials_file beside profile"),
        (("credentials_file", "access_key_id"), "expected no access_key_id beside credentials_file"),
        (("credentials_file", "session_token_file"), "expected no session_token_file beside credentials_file"),
        (("credentials_file", "profile"), ""),
    ],
)
def test_ways_to_name_a_key(keys: tuple[str, ...], words: str) -> None:
    """A table names a key in one way."""
    table = {key: "/x" if key.endswith("file") else "x" for key in keys}
    with pytest.raises(ValueError, match=words) if words else nullcontext():
        assert isinstance(S3.options.model_validate(table), S3.options)
