"""How many connections a file may be read over."""

from twisted.internet.task import Clock

from datamover.protocols.http.streams import FORGIVEN, REMEMBERED, Streams
from datamover.web.url import WebUrl

HERE, THERE = WebUrl.parse("http://here.example.org/f"), WebUrl.parse("https://there.example.org/f")


def room(streams: Streams, url: WebUrl) -> int:
    """Return the room that a further file would have."""
    share = streams.join(url, lambda: 0)
    try:
        return share.room()
    finally:
        share.leave()


def test_what_serves_others_counts() -> None:
    """A host gets no more connections than is configured, whatever they are for."""
    busy = {HERE: 3, THERE: 1}
    streams = Streams(Clock(), 4, lambda url: busy[url])
    assert (room(streams, HERE), room(streams, THERE)) == (1, 3)


def test_what_others_were_given_counts() -> None:
    """A connection that waits for its turn in a file is that file's, until the file is read."""
    streams = Streams(Clock(), 4, lambda url: 1)
    unused = [2, 0]
    first, second = (streams.join(HERE, lambda of=of: unused[of]) for of in range(2))  # type: ignore[misc]
    assert [first.room(), second.room(), room(streams, THERE)] == [1, 1, 3]
    unused[1] = 1
    assert [first.room(), second.room()] == [0, 0]
    first.leave()
    first.leave()
    assert second.room() == 2
    second.leave()
    assert room(streams, HERE) == 3


def test_who_refused_is_left_alone_for_a_while() -> None:
    """A host that was asked in vain is asked again after an hour; no other host is concerned."""
    clock = Clock()
    streams = Streams(clock, 4, lambda url: 1)
    streams.refused(HERE)
    assert (room(streams, HERE), room(streams, THERE)) == (0, 3)
    clock.advance(FORGIVEN)
    assert room(streams, HERE) == 3


def test_memory_is_bounded() -> None:
    """Who refused longest ago is forgotten first, where very many have."""
    clock = Clock()
    streams = Streams(clock, 4, lambda url: 1)
    urls = [WebUrl.parse(f"http://host-{number}.example.org/") for number in range(REMEMBERED + 1)]
    for url in urls:
        clock.advance(0.001)
        streams.refused(url)
    assert [room(streams, url) for url in urls].count(3) == 1
    assert room(streams, urls[0]) == 3
