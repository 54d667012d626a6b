"""States that take time: what moto has at once is pending first, for as long as the test says."""

import time

# Seconds from a call to the state that it leads to.
TIMES = {
    "running": 0.0,
    "status": 0.0,
    "stopped": 0.0,
    "terminated": 0.0,
    "snapshot": 0.0,
    "image": 0.0,
    "copy": 0.0,
}

# Whether instances have bodies: then what they come to is told, not computed.
BODIES = {"on": False}


class Clock:
    """The time of the cloud: the machine's, or one that goes a step further with each call."""

    def __init__(self):
        self.step = None
        self.virtual = 0.0

    def now(self):
        return time.monotonic() if self.step is None else self.virtual

    def called(self):
        if self.step is not None:
            self.virtual += self.step


CLOCK = Clock()

# Of each resource the states that it has, or will have, each with its time; the earliest first.
_states = {}

# Of resources that were told to fail, the state that they come to instead.
_fates = {}


def begin(resource, first, delay, then):
    """From now on it is in one state, and after a delay in another; for good in the first without one."""
    now = CLOCK.now()
    states = [(now, first)]
    if delay is not None:
        states.append((now + delay, _fates.get(resource, then)))
    _states[resource] = states


def settle(resource, state):
    """It is in a state, from now on, and has been for longer than anything takes."""
    _states[resource] = [(float("-inf"), state)]


def end(resource, state):
    """It is what it was until now, and from now on in another state; later if that was to come later."""
    states = _states.setdefault(resource, [])
    states[:] = [entry for entry in states if entry[0] <= CLOCK.now()]
    states.append((CLOCK.now(), state))


def doom(resource, state):
    """It will come to this instead of what it was to become."""
    _fates[resource] = state
    states = _states.get(resource, [])
    if len(states) > 1:
        states[-1] = (states[-1][0], state)
    elif states:
        states[-1] = (CLOCK.now(), state)


def state(resource, default):
    """The state that it is in."""
    now = CLOCK.now()
    return next((name for at, name in reversed(_states.get(resource, [])) if at <= now), default)


def since(resource):
    """How long it has been in its state."""
    now = CLOCK.now()
    return next((now - at for at, _ in reversed(_states.get(resource, [])) if at <= now), float("inf"))


def progress(resource):
    """How much of the way to its last state is done, in percent."""
    states = _states.get(resource, [])
    if len(states) < 2 or states[-1][0] <= CLOCK.now():
        return 100
    (start, _), (finish, _) = states[-2:]
    return int(100 * (CLOCK.now() - start) / (finish - start))


def forget():
    _states.clear()
    _fates.clear()
