"""Digest logins, against the examples of the RFCs, and the challenges that servers send."""

import pytest

from datamover.protocols.dav.login import Challenge, DigestLogin, best_of, challenges_of, parameters_of
from datamover.protocols.http.answers import Head
from datamover.web.url import WebUrl

URL = WebUrl.parse("http://www.example.org/")
TOLD = {
    "realm": "http-auth@example.org",
    "qop": "auth, auth-int",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
}
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


class Fixed:
    """The client's nonce of an example, in place of random bytes."""

    def __call__(self, size: int) -> "Fixed":
        return self

    def hex(self) -> str:
        return CNONCE


def head(*values: bytes) -> Head:
    return Head(401, {b"www-authenticate": list(values)}, 0, URL, URL)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc_7616(algorithm: str, response: str) -> None:
    """The example of RFC 7616 3.9.1 is answered as it is there."""
    login = DigestLogin(Challenge("digest", {**TOLD, "algorithm": algorithm}), "Mufasa", Fixed())  # type: ignore[arg-type]
    sent = parameters_of(login.authorization("GET", "/dir/index.html", "Circle of Life").removeprefix("Digest "))
    assert sent["response"] == response
    assert (sent["nc"], sent["qop"], sent["cnonce"], sent["username"]) == ("00000001", "auth", CNONCE, "Mufasa")
    assert (sent["uri"], sent["opaque"], sent["algorithm"]) == ("/dir/index.html", TOLD["opaque"], algorithm)
    assert "nc=00000002" in login.authorization("GET", "/dir/index.html", "Circle of Life")


def test_rfc_2069() -> None:
    """A challenge without qop is answered as before there was one."""
    told = {"realm": "testrealm@host.com", "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093"}
    login = DigestLogin(Challenge("digest", told), "Mufasa")
    sent = parameters_of(login.authorization("GET", "/dir/index.html", "CircleOfLife"))
    assert sent["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert not {"qop", "nc", "cnonce", "algorithm"} & sent.keys()


def test_names_that_are_not_ascii() -> None:
    """A name is hashed where the server asks for that, else sent in UTF-8 where it takes it."""
    plain = Challenge("digest", TOLD)
    assert 'username="Jäsøn"' in DigestLogin(plain, "Jäsøn").authorization("GET", "/", "p")
    utf8 = Challenge("digest", {**TOLD, "charset": "UTF-8"})
    assert "username*=UTF-8''J%C3%A4s%C3%B8n" in DigestLogin(utf8, "Jäsøn").authorization("GET", "/", "p")
    hashed = Challenge("digest", {**TOLD, "charset": "UTF-8", "userhash": "true", "algorithm": "SHA-256"})
    sent = DigestLogin(hashed, "Jäsøn").authorization("GET", "/", "p")
    assert "userhash=true" in sent
    assert "Jäsøn" not in sent


@pytest.mark.parametrize(
    ("values", "schemes"),
    [
        ([b'Basic realm="a, b"'], ["basic"]),
        ([b'Digest realm="a", nonce="x", Basic realm="b"'], ["digest", "basic"]),
        ([b'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'], ["newauth", "basic"]),
        ([b"Negotiate", b'BASIC realm="x"'], ["negotiate", "basic"]),
        ([b"Negotiate dG9rZW4=, Basic realm=x"], ["negotiate", "basic"]),
        ([b'  , Basic realm="x",'], ["basic"]),
        ([b"\xff\x00=", b""], []),
    ],
)
def test_challenges(values: list[bytes], schemes: list[str]) -> None:
    """Challenges are told apart in one header or in several, and what cannot be read is left out."""
    assert [each.scheme for each in challenges_of(head(*values))] == schemes


def test_the_best_challenge() -> None:
    """The best algorithm that is known is answered, and none that wants the body's digest or has no nonce."""
    md5, sha = b'Digest realm="a", nonce="1"', b'Digest realm="a", nonce="2", algorithm=SHA-256, qop="auth"'
    best = best_of(challenges_of(head(md5, sha)))
    assert best is not None
    assert best.parameters["nonce"] == "2"
    for useless in (b'Digest realm="a"', b'Digest nonce="1", qop="auth-int"', b'Digest nonce="1", algorithm=MD4'):
        assert best_of(challenges_of(head(useless, b'Basic realm="a"'))) is None


def test_the_next_nonce() -> None:
    """A nonce that the server wants next is counted from 1."""
    login = DigestLogin(Challenge("digest", TOLD), "Mufasa")
    login.authorization("GET", "/", "p")
    login.renew("next")
    assert 'nonce="next"' in (sent := login.authorization("GET", "/", "p"))
    assert "nc=00000001" in sent
