"""What the processes of one run say to each other: they meet, stop and end together.

JAX connects devices; this connects the programs. Every process holds one connection to the first.
A process that dies is noticed by its connection at once, and by its silence where a machine went
down; the others then end with one line that names it. A wait has no limit: whoever waits is told
when there is nobody left to wait for. A run of one process has none of this, and nothing waits.
"""

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ganavatar_jax.runs import lines

EXIT_ALONE = 75  # another process died: the same command goes on (EX_TEMPFAIL of sysexits.h)
_GRACE_S = 5.0  # for a process to end by its own words after another has
_PATIENCE_S = 0.5  # between looks at signals while waiting
_LOG = logging.getLogger(__name__)


class _Team:
    """This process's part in a run of several."""

    def __init__(self, index: int, names: list[str]) -> None:
        self.index, self.names = index, names
        self.leaving = False
        self.last_words: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._answers: dict[str, Any] = {}
        self._meetings = 0
        self._done = self._until = 0
        self._holding = self._announced = self._over = False
        self.send: Callable[[dict[str, Any]], None] = lambda message: None
        self._parted = False
        self.may_go: Callable[[], bool] = lambda: self._parted

    def hear(self, message: dict[str, Any]) -> None:
        """Takes what the first process says; runs in a thread."""
        kind = message["kind"]
        with self._changed:
            if kind == "go":
                self._answers[message["name"]] = message["value"]
            elif kind == "hold" and not self._holding:
                self._holding, self._until = True, 0
                self.send({"kind": "held", "done": self._done})
            elif kind == "until":
                self._until = message["done"]
            elif kind == "parted":
                self._parted = True
            self._changed.notify_all()
        if kind == "stop":
            if not self._announced and _stop_heard is not None:
                self._announced = True
                _stop_heard(message["number"])
        elif kind == "over" and not self._over:
            self._over = True
            threading.Thread(target=self._end, args=(message,), daemon=True).start()

    def meet(self, name: str, value: Any) -> Any:
        """Waits for all; returns the value of the first process."""
        self._meetings += 1
        name = f"{self._meetings}: {name}"
        self.send({"kind": "at", "name": name, "value": value})
        with self._changed:
            while name not in self._answers:
                self._changed.wait(_PATIENCE_S)
            return self._answers.pop(name)

    def stop_after(self, done: int) -> bool:
        """Whether this is the iteration all have agreed to stop after."""
        with self._changed:
            self._done = done
            while self._holding and not self._until:
                self._changed.wait(_PATIENCE_S)
            return self._holding and done >= self._until

    def announce(self, number: int) -> None:
        """Passes a signal on, once."""
        if not self._announced:
            self._announced = True
            self.send({"kind": "stop", "number": number})

    def part(self, code: int, line: str) -> None:
        """Says good-bye and waits until it was heard; the first process, until all have said it."""
        self.leaving = True
        self.send({"kind": "bye", "code": code, "line": line})
        self.wait_to_go()

    def wait_to_go(self) -> None:
        """Waits until this process is no longer needed, but not for long."""
        deadline = time.monotonic() + _GRACE_S + 1.0
        while time.monotonic() < deadline and not self.may_go():
            time.sleep(_PATIENCE_S / 10)

    def _end(self, message: dict[str, Any]) -> None:
        """Ends this process because another one has; runs in a thread."""
        if not message["died"]:
            time.sleep(_GRACE_S)  # it may have the same reason, and words of its own
        if self.leaving:
            return
        for last in list(self.last_words):
            last()
        print(message["line"], file=sys.stderr, flush=True)
        if self.index == 0:  # all others are to hear it from here, not from this one's own end
            self.wait_to_go()
        os._exit(message["code"])


class _Hub:
    """What the first process knows of all."""

    def __init__(self, team: _Team) -> None:
        self._team = team
        self._lock = threading.RLock()
        self._tell: dict[int, Callable[[dict[str, Any]], None]] = {team.index: team.hear}
        self._at: dict[str, dict[int, Any]] = {}
        self._held: dict[int, int] = {}
        self._gone: set[int] = set()  # have said so
        self._lost: set[int] = set()
        self._stopping = self._over = False

    def is_empty(self) -> bool:
        """Whether all others have said good-bye, or are gone."""
        return len(self._gone | self._lost | {0}) == len(self._team.names)

    def add(self, index: int, tell: Callable[[dict[str, Any]], None]) -> None:
        with self._lock:
            self._tell[index] = tell

    def hear(self, index: int, message: dict[str, Any]) -> None:
        """Takes what one of the processes says."""
        kind = message["kind"]
        with self._lock:
            if kind == "at":
                here = self._at.setdefault(message["name"], {})
                here[index] = message["value"]
                if len(here) == len(self._team.names):
                    del self._at[message["name"]]
                    self._say({"kind": "go", "name": message["name"], "value": here[0]})
            elif kind == "stop" and not self._stopping:
                self._stopping = True
                self._say({"kind": "stop", "number": message["number"]})
                self._say({"kind": "hold"})
            elif kind == "held":
                self._held[index] = message["done"]
                if len(self._held) == len(self._team.names):
                    self._say({"kind": "until", "done": max(self._held.values()) + 1})
            elif kind == "bye":
                self._gone.add(index)
                self._tell[index]({"kind": "parted"})
                if message["code"]:
                    line = f"{self._team.names[index]} ended ({message['line']}): this one, too"
                    self._end(line, message["code"], died=False)
            elif kind == "lost":
                self._lost.add(index)
                if index not in self._gone:
                    self._end(describe_death(self._team.names[index]), EXIT_ALONE, died=True)

    def _say(self, message: dict[str, Any]) -> None:
        for tell in self._tell.values():
            tell(message)

    def _end(self, line: str, code: int, *, died: bool) -> None:
        if not self._over:
            self._over = True
            self._say({"kind": "over", "line": line, "code": code, "died": died})


def _pass_on(said: "queue.SimpleQueue[dict[str, Any]]", hub: _Hub) -> None:
    while True:
        hub.hear(0, said.get())


_team: _Team | None = None
_stop_heard: Callable[[int], None] | None = None


def describe_death(name: str) -> str:
    """Words that a process died.

    Args:
      name: The process.

    Returns:
      One line.
    """
    return (
        f"{name} has died: all processes end; what was saved is whole, and the same command goes on"
    )


def join(index: int, count: int, share: Callable[[bytes], bytes], *, host: str = "") -> None:
    """Connects this process with the others of its run.

    Args:
      index: Which process this is.
      count: How many there are.
      share: Gives all processes what the first one passes in, e.g. through JAX.
      host: Where the first process can be reached, if that is known.

    Raises:
      RunError: the first process cannot be reached.
    """
    global _team
    if count < 2:
        return
    if index == 0:
        server = lines.Server(count)
        share(json.dumps(server.address).encode())
        names = server.accept()
        team = _Team(0, names)
        hub = _Hub(team)
        team.may_go = hub.is_empty
        # In a thread, as what comes from elsewhere: a signal's handler may be the one that speaks.
        said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        team.send = said.put
        threading.Thread(target=_pass_on, args=(said, hub), daemon=True, name="together").start()
        for other, line in server.lines.items():
            hub.add(other, line.send)
        for other, line in server.lines.items():
            line.listen(
                lambda message, other=other: hub.hear(other, message),
                lambda other=other: hub.hear(other, {"kind": "lost"}),
            )
    else:
        address = json.loads(share(b""))
        line, names = lines.connect(address, index, host=host)
        team = _Team(index, names)
        team.send = line.send
        death = {"kind": "over", "code": EXIT_ALONE, "died": True}
        line.listen(team.hear, lambda: team.hear({**death, "line": describe_death(names[0])}))
    _team = team


def is_first() -> bool:
    """Tells whether this is the process that prepares, writes and decides.

    Returns:
      Whether; a process alone is.
    """
    return _team is None or _team.index == 0


def is_alone() -> bool:
    """Tells whether the run has no other processes.

    Returns:
      Whether.
    """
    return _team is None


def meet(name: str) -> None:
    """Waits until all processes are here.

    Args:
      name: What for; the same in all.
    """
    if _team is not None:
        _team.meet(name, None)


def tell(value: Any) -> Any:
    """Gives all processes what the first one has.

    Args:
      value: JSON values; that of the others does not matter.

    Returns:
      The first one's.
    """
    return value if _team is None else _team.meet("tell", value)


def announce_stop(number: int) -> None:
    """Passes a signal on to the others, which then behave as if they had got it.

    Args:
      number: The signal.
    """
    if _team is not None:
        _team.announce(number)


def hear_stops(heard: Callable[[int], None] | None) -> Callable[[int], None] | None:
    """Says what to do with a signal that another process got.

    Args:
      heard: Called in a thread with the signal's number; None does nothing.

    Returns:
      What was done before.
    """
    global _stop_heard
    before, _stop_heard = _stop_heard, heard
    return before


def stop_after(done: int, *, requested: bool) -> bool:
    """Tells whether a loop that all processes run in step is to stop now.

    All stop after the same iteration, though a signal may have reached one of them only: after a
    signal everybody says how far it is, and waits at the next iteration's end to hear which is the
    last. Without a signal nothing waits.

    Args:
      done: Iterations done.
      requested: Whether this process was asked to stop.

    Returns:
      Whether to stop.
    """
    return requested if _team is None else _team.stop_after(done)


def before_end(last: Callable[[], None]) -> None:
    """Says what must not be cut off where this process ends because another one did.

    Args:
      last: Called in a thread, at once before the end.
    """
    if _team is not None:
        _team.last_words.append(last)


def leave(code: int, line: str = "") -> None:
    """Tells the others that this process ends, before it does.

    Args:
      code: Its exit code; the others end too where it is not 0.
      line: Its last line.
    """
    if _team is None:
        return
    _team.part(code, line)
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        # JAX would wait minutes for those that are gone, and abort then.
        os._exit(code)
