"""The XML that WebDAV servers answer with."""

import pytest

from datamover.protocols.dav.documents import Member, MultistatusParser
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.slices import result

PROPS = "<D:propstat><D:prop><D:getcontentlength>3</D:getcontentlength></D:prop><D:status>HTTP/1.1 200</D:status>"
DOCUMENT = (
    f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:"><D:response><D:href>/d/f</D:href>{PROPS}</D:propstat>'
    "</D:response></D:multistatus>"
)


def parsed(document: bytes) -> list[Member]:
    """Parse a document that arrives in small pieces."""
    found: list[Member] = []
    parser = MultistatusParser(found.append)
    for start in range(0, len(document), 7):
        result(parser.feed(document[start : start + 7]))
    parser.finish()
    return found


@pytest.mark.parametrize(
    "document",
    [
        DOCUMENT.encode(),
        b"\xef\xbb\xbf" + DOCUMENT.encode(),
        DOCUMENT.replace("?>", ' encoding="utf-16"?>').encode("utf-16"),
        b"\n\r\n  \t" + b" " * 50 + DOCUMENT.encode() + b"\n",
        DOCUMENT.replace("/d/f", "<![CDATA[/d/f]]>").encode(),
        DOCUMENT.replace("/d/f", "/d/<!-- nothing -->f").encode(),
        DOCUMENT.replace("D:", "").replace('xmlns:D="', 'xmlns="').replace('"DAV"', '"DAV:"').encode(),
        DOCUMENT.replace(
            "</D:response>",
            "<D:propstat><D:prop><D:getetag/></D:prop><D:status>HTTP/1.1 404 Not Found"
            "</D:status></D:propstat></D:response>",
        ).encode(),
    ],
)
def test_forms_of_a_document(document: bytes) -> None:
    """A multistatus is read in any encoding, with any prefixes, and with white space before it, as PHP files leave."""
    [member] = parsed(document)
    assert (member.hrefs, member.props, member.collection) == (["/d/f"], {"getcontentlength": "3"}, False)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\n\n",
        DOCUMENT.encode()[:-3],
        DOCUMENT.encode() + b"<html>",
        DOCUMENT.replace("<D:m", "<!DOCTYPE m [<!ENTITY a 'b'>]><D:m", 1).encode(),
        DOCUMENT.replace("multistatus", "html").encode(),
        DOCUMENT.replace("/d/f", "/" * 70_000).encode(),
    ],
)
def test_no_documents(document: bytes) -> None:
    """What is cut off, is something else, or is more than one can be, is told as unreadable."""
    with pytest.raises(Unreadable):
        parsed(document)
