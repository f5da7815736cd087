"""How long failed logins make the next one wait, and how little is kept of them."""

import pytest
from twisted.internet.task import Clock

from datamover.bounds.door import FREE_LOGIN_FAILURES, LOGIN_FAILURES_FORGOTTEN, MOST_FAILURES_COUNTED
from datamover.security.login_throttle import Failures, client_network


def test_pauses_grow_to_a_bound() -> None:
    """A few failures cost nothing; then each doubles the pause, and after a while all is forgotten."""
    clock = Clock()
    failures = Failures(clock.seconds, first=0.25, longest=5.0)
    pauses = []
    for _ in range(FREE_LOGIN_FAILURES + 60):
        pauses.append(failures.pause("portal", "10.0.0.1"))
        failures.add("portal", "10.0.0.1")
    assert pauses[: FREE_LOGIN_FAILURES + 6] == [0.0] * FREE_LOGIN_FAILURES + [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    assert set(pauses[FREE_LOGIN_FAILURES + 6 :]) == {5.0}
    assert failures.pause("other", "10.0.0.1") == 5.0
    assert failures.pause("portal", "10.0.0.2") == 5.0
    assert failures.pause("other", "10.0.0.2") == 0.0
    clock.advance(LOGIN_FAILURES_FORGOTTEN)
    assert failures.pause("portal", "10.0.0.1") == 0.0


def test_memory_is_bounded() -> None:
    """However many names are tried, the newest are remembered and no more."""
    failures = Failures(Clock().seconds)
    for number in range(3 * MOST_FAILURES_COUNTED):
        failures.add(f"{number}" * 100, "10.0.0.1")
    assert len(failures) == MOST_FAILURES_COUNTED
    assert failures.pause("portal", "10.0.0.1") == 5.0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_who_is_behind_an_address(address: str, counted: str) -> None:
    """IPv6 addresses of one network are one; so are the two spellings of IPv4; a Unix socket has none."""
    assert client_network(address) == counted
