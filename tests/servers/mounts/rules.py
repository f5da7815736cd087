"""Apply a behaviour to the calls of a file system, and count the calls that its misbehaviours match."""

import threading
from collections.abc import Sequence

from tests.servers.mounts.misbehaviour import Behaviour, Misbehaviour


class Rules:
    """Decides on each call. There is one behaviour at a time; each misbehaviour counts the calls that it matches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.set(Behaviour())

    def set(self, behaviour: Behaviour) -> None:
        by_operation: dict[str, list[int]] = {}
        for number, misbehaviour in enumerate(behaviour.misbehaviours):
            by_operation.setdefault(misbehaviour.operation, []).append(number)
        with self._lock:
            self._behaviour = behaviour
            self._by_operation = by_operation
            self._concerned = [0] * len(behaviour.misbehaviours)
            self.met = [0] * len(behaviour.misbehaviours)

    def shown(self, time: int) -> int:
        return self._behaviour.times.shown(time)

    def find(self, operation: str, paths: Sequence[str]) -> Misbehaviour | None:
        """Return the misbehaviour that applies to this call, and count the call."""
        with self._lock:
            for number in self._by_operation.get(operation, ()):
                misbehaviour = self._behaviour.misbehaviours[number]
                if not misbehaviour.concerns(operation, paths):
                    continue
                turn = self._concerned[number] - misbehaviour.skip
                self._concerned[number] += 1
                if turn >= 0 and (not misbehaviour.times or turn < misbehaviour.times):
                    self.met[number] += 1
                    return misbehaviour
        return None
