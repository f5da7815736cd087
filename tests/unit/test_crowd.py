"""How much of a thing an address may have."""

from datamover.api.crowd import Share


def test_everybody_has_a_share() -> None:
    """One address takes no more than its share, all of them no more than there is; what is given back is there."""
    share = Share(lambda: (5, 3))
    assert [share.take("10.0.0.1") for _ in range(4)] == [True, True, True, False]
    assert [share.take("10.0.0.2") for _ in range(3)] == [True, True, False]
    share.give("10.0.0.1")
    assert share.take("10.0.0.3")
    assert not share.take("10.0.0.4")
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"):
        share.give(address)
    assert len(share) == 0
    assert share.take("10.0.0.4")


def test_this_machine_has_a_reserve() -> None:
    """Where others have taken everything, loopback and Unix sockets still get in."""
    share = Share(lambda: (2, 2), reserved=2)
    assert [share.take("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert not share.take("10.0.0.2")
    assert share.take("127.0.0.1")
    assert share.take("")
    assert not share.take("::1")


def test_a_network_is_one() -> None:
    """The addresses of one IPv6 network share what an address has."""
    share = Share(lambda: (9, 1))
    assert share.take("2001:db8::1")
    assert not share.take("2001:db8::2")
    assert share.take("2001:db8:0:1::1")


def test_bounds_that_change() -> None:
    """What there is now counts; what was taken before stays taken."""
    bounds = [(3, 3)]
    share = Share(lambda: bounds[0])
    assert [share.take("10.0.0.1") for _ in range(4)] == [True, True, True, False]
    bounds[0] = (5, 4)
    assert [share.take("10.0.0.1") for _ in range(2)] == [True, False]
    bounds[0] = (2, 2)
    assert not share.take("10.0.0.2")
    for _ in range(3):
        share.give("10.0.0.1")
    assert share.take("10.0.0.2")
