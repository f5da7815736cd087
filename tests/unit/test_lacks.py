"""What a destination was found not to do: learnt, told, and forgotten after a while."""

from datamover.protocols.base import Ability
from datamover.protocols.lacks import FORGOTTEN, PRIVATE, Lacks


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_learnt_and_seen() -> None:
    """What was refused is lacking until it is seen to work; what was seen once is known to work."""
    lacks = Lacks(Clock())
    assert Ability.FLUSH not in lacks
    lack = lacks.learn(Ability.FLUSH, "the server refuses it: Permission denied")
    assert lack.sentence == "not flushed to disk: the server refuses it: Permission denied"
    assert Ability.FLUSH in lacks
    assert not lacks.known(Ability.FLUSH)
    lacks.saw(Ability.FLUSH)
    assert Ability.FLUSH not in lacks
    assert lacks.known(Ability.FLUSH)


def test_tried_again_after_an_hour() -> None:
    """A server may have been mended: what was learnt is not believed for ever."""
    clock = Clock()
    lacks = Lacks(clock)
    lacks.learn(Ability.KEEP_OLD, "no links")
    clock.now = FORGOTTEN
    assert Ability.KEEP_OLD in lacks
    clock.now = FORGOTTEN + 1
    assert Ability.KEEP_OLD not in lacks
    assert list(lacks) == []


def test_told_in_one_order() -> None:
    """Lacks are told in the order of the abilities, each once, as it was refused last."""
    lacks = Lacks(Clock())
    lacks.learn(Ability.SET_MODIFIED, "first")
    lacks.learn(Ability.RESUME, "never")
    lacks.learn(Ability.SET_MODIFIED, "again")
    assert [(lack.ability, lack.why) for lack in lacks] == [
        (Ability.RESUME, "never"),
        (Ability.SET_MODIFIED, "again"),
    ]


def test_undeclared() -> None:
    """What the protocol itself does not do is lacking, but is no lack of the destination."""
    lacks = Lacks(Clock(), {Ability.FLUSH})
    lacks.saw(Ability.FLUSH)
    assert Ability.FLUSH in lacks
    assert Ability.REMOVE not in lacks
    assert not list(lacks)


def test_every_ability_has_words() -> None:
    """Whatever is lacking is said in words that name it."""
    lacks = Lacks(Clock())
    for ability in Ability:
        assert lacks.learn(ability, "so it is").sentence.endswith(": so it is")


def test_first_mode() -> None:
    """A part file is private, unless its mode can only be given when it is made."""
    lacks = Lacks(Clock())
    assert lacks.first_mode(0o644) == PRIVATE
    lacks.learn(Ability.SET_MODE, "refused")
    assert lacks.first_mode(0o644) == 0o644
    assert lacks.first_mode(0o444) == 0o644
