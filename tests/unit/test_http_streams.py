"""How many connections a file may be read over."""

from twisted.internet.task import Clock

from datamover.protocols.http.streams import FORGIVEN, REMEMBERED, Streams
from datamover.registry.urls import WebUrl

HERE, THERE = WebUrl.parse("http://here.example.org/f"), WebUrl.parse("https://there.example.org/f")


def test_what_serves_others_counts() -> None:
    """A host gets no more connections than is configured, whatever they are for."""
    busy = {HERE: 3, THERE: 1}
    streams = Streams(Clock(), 4, lambda url: busy[url])
    assert (streams.room(HERE), streams.room(THERE)) == (1, 3)


def test_who_refused_is_left_alone_for_a_while() -> None:
    """A host that was asked in vain is asked again after an hour; no other host is concerned."""
    clock = Clock()
    streams = Streams(clock, 4, lambda url: 1)
    streams.refused(HERE)
    assert (streams.room(HERE), streams.room(THERE)) == (0, 3)
    clock.advance(FORGIVEN)
    assert streams.room(HERE) == 3


def test_memory_is_bounded() -> None:
    """Who refused longest ago is forgotten first, where very many have."""
    clock = Clock()
    streams = Streams(clock, 4, lambda url: 1)
    urls = [WebUrl.parse(f"http://host-{number}.example.org/") for number in range(REMEMBERED + 1)]
    for url in urls:
        clock.advance(0.001)
        streams.refused(url)
    assert [streams.room(url) for url in urls].count(3) == 1
    assert streams.room(urls[0]) == 3
