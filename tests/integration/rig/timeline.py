"""When a VM ran in which QEMU, from the events of both monitors."""

import time


class Timeline:
    """Of one Vm, from its start on. `killed` must be called when its QEMU is."""

    def __init__(self, vm, running):
        self._vm = vm
        self._qmp = vm.qmp
        self._began_s = time.time() if running else None
        self._killed_s = None

    def killed(self):
        """Its QEMU is dead by now: it runs nothing from here on."""
        if self._killed_s is None:
            self._killed_s = time.time()

    def intervals(self):
        """[(from, to)] in seconds of the host's clock, as QEMU stamps its events; to is None for a
        VM that runs still."""
        found, began_s = [], self._began_s
        for event in list(self._qmp.events):
            stamp = event["timestamp"]
            at_s = stamp["seconds"] + stamp["microseconds"] / 1e6
            if event["event"] == "RESUME" and began_s is None:
                began_s = at_s
            elif event["event"] in ("STOP", "SHUTDOWN") and began_s is not None:
                found.append((began_s, at_s))
                began_s = None
        if began_s is not None:
            found.append((began_s, self._killed_s))
        return found


def overlaps(one, other):
    """The pairs of intervals of two timelines in which the VM ran twice."""
    end_of_time_s = float("inf")
    return [(a, b) for a in one.intervals() for b in other.intervals()
            if a[0] < (b[1] or end_of_time_s) and b[0] < (a[1] or end_of_time_s)]
