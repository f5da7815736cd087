"""S3 services that are asked at a wrong address, or for a wrong region: what is told, and where the key goes."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.http.answers import Head
from datamover.protocols.s3.address import BucketAddress
from datamover.protocols.s3.refusals import S3Refusals
from datamover.protocols.s3.service import S3Refused
from datamover.web.url import WebUrl
from tests.protocols.conformance import read
from tests.protocols.test_http_connections import names
from tests.protocols.test_s3_service import KEY, MIB, Rehearsal, bucket, error, gives
from tests.servers.web import Exchange, Web

__all__ = ["bucket"]


@pytest.mark.parametrize("by_head", [False, True])
@pytest_twisted.ensureDeferred
async def test_region_told_by_the_host(bucket: Rehearsal, by_head: bool) -> None:
    """A region that the configured host tells is signed for from then on, whichever request hears of it first."""
    told = error("AuthorizationHeaderMalformed", more="<Region>eu-north-1</Region>")

    def serve(exchange: Exchange) -> None:
        right = "/eu-north-1/" in exchange.request.headers["authorization"]
        ranged = "range" in exchange.request.headers
        exchange.answer((416 if ranged else 200) if right else 400, [("ETag", '"1"')], b"" if right else told)

    bucket.answer("f", serve)
    for _ in range(2):
        if by_head:
            found = await bucket.reading.inspect("f")
            assert found is not None
            assert found.size == 0
        else:
            assert await read(bucket.reading.origin("f")) == (0, b"")
    regions = [request.headers["authorization"].split("/")[2] for request in bucket.asked()]
    # The answer to a HEAD tells nothing: it is asked for what refused it, and sent again. An empty object has no range.
    assert regions == [*["us-east-1"] * (2 if by_head else 1), *["eu-north-1"] * (3 if by_head else 4)]


@pytest.mark.parametrize("side", [Scope.SOURCE, Scope.DESTINATION])
@pytest.mark.parametrize("status", [301, 307, 400])
@pytest_twisted.ensureDeferred
async def test_another_region(bucket: Rehearsal, status: int, side: Scope) -> None:
    """A bucket of another region is told as such only where the service says which; that of the table is no other."""
    place = bucket.pool.at(side)
    code = {301: "PermanentRedirect", 307: "TemporaryRedirect", 400: "AuthorizationHeaderMalformed"}[status]
    for region in ("eu-west-3", "us-east-1", "Not/a region"):
        bucket.answer("f", gives(status, error(code, more=f"<Region>{region}</Region>"), x_amz_bucket_region=region))
        with pytest.raises(DataMoverError) as caught:
            await place.origin("f").open()
        assert caught.value.scope is side
        if region == "eu-west-3" and status != 400:  # It is signed for then, and refused all the same.
            assert "in another region" in caught.value.message
            assert 'set region = "eu-west-3"' in caught.value.message
        else:
            assert "another region" not in caught.value.message
        assert not caught.value.retryable


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("s3.us-east-1.amazonaws.com", 'set region = "eu-west-3", and leave endpoint out'),
        ("s3.amazonaws.com", 'set region = "eu-west-3", and leave endpoint out'),
        ("s3.cn-north-1.amazonaws.com.cn", 'set region = "eu-west-3", and leave endpoint out'),
        ("notamazonaws.com", 'set region = "eu-west-3", and set endpoint to that region\'s'),
    ],
)
def test_what_to_set(host: str, words: str) -> None:
    """What is to be written in the destination's table is told, as it is written there."""
    url = WebUrl.parse(f"https://{host}/bucket/f")
    refusal = S3Refused(Head(307, {}, 0, url, url), "TemporaryRedirect", region="eu-west-3")
    address = BucketAddress(WebUrl.parse(f"https://{host}"), "bucket", path_style=True)
    assert S3Refusals("place", Scope.SOURCE, address).of(refusal, "f").message.endswith(words)


@pytest_twisted.ensureDeferred
async def test_no_such_host(tmp_path: Path) -> None:
    """Where nothing is known of a host that the bucket stands before, administrators are told of the other way."""
    web = Web(reactor)
    bucket = Rehearsal(web, tmp_path, endpoint="http://s3.test", path_style=False)
    try:
        with names({"bucket.s3.test": []}), pytest.raises(errors.ConnectFailed) as caught:
            await bucket.reading.inspect("f")
    finally:
        await bucket.pool.close()
    assert caught.value.message == "destination 'place': it cannot be connected to"
    assert caught.value.full.endswith("bucket.s3.test; path_style = true has s3.test asked instead")


REDIRECTS = [
    ("http://eu.s3.test:{port}/bucket/in/f?rk=1&x", True),
    ("http://bucket.s3.test:{port}/in/f", True),
    ("http://bucket.eu.s3.test:{port}/in/f", True),
    ("http://s3.elsewhere.test:{port}/bucket/in/f", False),
    ("http://not-s3.test:{port}/bucket/in/f", False),
    ("http://eu.s3.test:{port}/other/in/f", False),
    ("http://other.s3.test:{port}/in/f", False),
    ("http://eu.s3.test:{port}/bucket/in/g", False),
    ("https://eu.s3.test:{port}/bucket/in/f", False),
    ("http://eu.s3.test:1/bucket/in/f", False),
    ("http://me:secret@[/", False),
    ("", False),
]


@pytest.mark.parametrize(("location", "followed"), REDIRECTS)
@pytest_twisted.ensureDeferred
async def test_redirected(tmp_path: Path, location: str, followed: bool) -> None:
    """A temporary redirect is followed to the same key below the endpoint's host, signed anew, and to no other."""
    web = Web(reactor)
    await web.start()
    bucket = Rehearsal(web, tmp_path, endpoint=f"http://s3.test:{web.port}")
    target = location.format(port=web.port)
    there: dict[str, bytes] = {"f": b"old"}

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.headers["host"] == f"s3.test:{web.port}":
            sent = [("Location", target), ("x-amz-bucket-region", "eu-west-3")]
            exchange.answer(307, sent, error("TemporaryRedirect", more="<Endpoint>eu.s3.test</Endpoint>"))
        else:
            there["f"] = request.body if request.method == "PUT" else there["f"]
            exchange.answer(200, [("ETag", '"e"')], b"" if request.method == "PUT" else there["f"])

    web.otherwise = serve
    hosts = ["s3.test", "eu.s3.test", "bucket.s3.test", "bucket.eu.s3.test", "other.s3.test", "not-s3.test"]
    try:
        with names({host: ["127.0.0.1"] for host in [*hosts, "s3.elsewhere.test"]}):
            for _ in range(2):  # Where it led is not kept.
                if followed:
                    assert await read(bucket.reading.origin("f")) == (0, there["f"])
                    await bucket.writing.begin("f", KEY).store(bytes(MIB), replace=True, commit=lambda: None)
                else:
                    with pytest.raises(errors.SourceForbidden, match='set region = "eu-west-3"'):
                        await bucket.reading.origin("f").open()
                    with pytest.raises(errors.DestinationInvalid, match="in another region"):
                        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
    finally:
        await bucket.pool.close()
        await web.stop()
    requests = [request for request in web.requests if "list-type" not in request.target]
    asked = [request.headers["host"] for request in requests]
    if not followed:
        assert set(asked) == {f"s3.test:{web.port}"}
        assert there["f"] == b"old"
        return
    assert there["f"] == bytes(MIB)
    assert asked == [f"s3.test:{web.port}", urlsplit(target).netloc] * 6
    for request in requests[1::2]:
        assert "/eu-west-3/s3/aws4_request" in request.headers["authorization"]
        assert request.target.partition("?")[2] == ("rk=1&x=" if "rk" in target else "")


@pytest_twisted.ensureDeferred
async def test_redirected_in_a_circle(bucket: Rehearsal) -> None:
    """A service that redirects to itself for ever is told as such."""
    bucket.answer("f", lambda exchange: exchange.answer(307, [("Location", exchange.request.target)]))
    with pytest.raises(errors.ServerError, match="in a circle") as caught:
        await bucket.reading.origin("f").open()
    assert caught.value.retryable
    assert len(bucket.asked()) == 4
