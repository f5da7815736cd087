"""Requests are signed as Amazon's own library signs them."""

import datetime
from collections.abc import Mapping
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from datamover.protocols.s3.signing import EMPTY, SigningKey, encoded, query_string, signed

NOW = 1_700_000_000.0
AUTHORITY = "bucket.example.org:8333"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


def by_boto(
    method: str, url: str, headers: Mapping[str, str], sha256: str, credentials: SigningKey, region: str
) -> str:
    """Return the Authorization that botocore sends."""
    request = AWSRequest(method, url, headers={**headers, "X-Amz-Content-SHA256": sha256})
    request.context["payload_signing_enabled"] = True
    known = BotoCredentials(credentials.access_key_id, credentials.secret_key, credentials.session_token)
    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC).replace(tzinfo=None)
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=moment),
        mock.patch.object(S3SigV4Auth, "payload", return_value=sha256),
    ):
        S3SigV4Auth(known, "s3", region).add_auth(request)
    return str(request.headers["Authorization"])


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    key=TEXT,
    query=st.dictionaries(TEXT, TEXT, max_size=4),
    value=st.text("abc  ;,", max_size=20),
    token=st.none() | st.just("token/+="),
    secret=st.text("abcXYZ/+", min_size=1, max_size=40),
)
def test_as_boto(method: str, key: str, query: dict[str, str], value: str, token: str | None, secret: str) -> None:
    """Any key, query and header, with and without a session token, has the signature that botocore gives it."""
    credentials = SigningKey("AKID:x", secret, token)
    path, text = f"/{encoded(key, '/')}", query_string(query.items())
    headers = {"x-amz-meta-some": value.strip(), "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    sent = signed(method, AUTHORITY, path, text, headers, EMPTY, credentials, "eu-north-1", NOW)
    url = f"https://{AUTHORITY}{path}" + (f"?{text}" if text else "")
    assert sent["Authorization"] == by_boto(method, url, headers, EMPTY, credentials, "eu-north-1")
    assert sent.get("x-amz-security-token") == token


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a b+c", "a%20b%2Bc"),
        ("ü/ä", "%C3%BC/%C3%A4"),
        ("%2F", "%252F"),
        ("~._-", "~._-"),
        ("a?b#c&d=e", "a%3Fb%23c%26d%3De"),
    ],
)
def test_encoded(key: str, expected: str) -> None:
    """All but unreserved characters and the slashes of a key are percent-encoded, in UTF-8."""
    assert encoded(key, "/") == expected


def test_secrets_are_not_shown() -> None:
    """Neither the secret nor the token stands in what is printed of the credentials."""
    shown = repr(SigningKey("AKID", "s3cret", "t0ken"))
    assert "s3cret" not in shown
    assert "t0ken" not in shown
