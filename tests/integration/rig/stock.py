"""QEMU's own migrations, to test the rig and to compare with: post-copy, pre-copy, and the switch."""

import dataclasses
import os
import time

from .process import wait_until
from .qmp import QmpError


ENDS = ("completed", "failed", "cancelled", "postcopy-paused")  # as event MIGRATION names them
POST_COPY = ("postcopy-ram", "postcopy-preempt")


class Failed(AssertionError):
    """The migration did not complete."""


@dataclasses.dataclass
class Times:
    begin_s: float
    end_s: float  # the last page is there and the VM runs there, or the migration was cancelled
    downtime_ms: int
    info: dict
    completed: bool = True

    @property
    def passes(self):
        """How often QEMU went through the dirty memory before the stop.

        It looks for dirty pages once before the first pass, after each, and once it has stopped.
        """
        looks = self.info.get("ram", {}).get("dirty-sync-count", 0)
        return max(0, looks - (2 if self.completed else 1))


def _set_up(vm, capabilities):
    vm.qmp.execute("migrate-set-capabilities",
                   capabilities=[{"capability": name, "state": True}
                                 for name in ("events", *capabilities)])
    parameters = {"max_bandwidth": 1 << 40}
    if capabilities:
        parameters["max_postcopy_bandwidth"] = 0
    vm.qmp.execute("migrate-set-parameters", **parameters)


class _Migration:
    """One under way on the source, bandwidth unlimited."""

    def __init__(self, source, destination, address, capabilities):
        self.source = source
        self.destination = destination
        uri = f"tcp:{address}:4444" if address else "unix:" + os.path.join(source.workdir, "stock")
        for vm in (source, destination):
            _set_up(vm, capabilities)
        destination.qmp.execute("migrate-incoming", uri=uri)
        self._past = len(source.qmp.events)
        self.begin_s = time.monotonic()
        source.qmp.execute("migrate", uri=uri)

    def _data(self, name):
        return [event["data"] for event in self.source.qmp.events[self._past:]
                if event["event"] == name]

    def ended(self):
        return any(data["status"] in ENDS for data in self._data("MIGRATION"))

    def passes(self):
        """Passes over the memory that are done."""
        return max((data["pass"] - 1 for data in self._data("MIGRATION_PASS")), default=0)

    def start_post_copy(self, timeout_s):
        """From now on by post-copy; nothing if it has ended before."""
        def started():
            try:
                self.source.qmp.execute("migrate-start-postcopy")
                return True
            except QmpError:
                return self.ended()  # or not set up yet
        wait_until(started, timeout_s, "migrate-start-postcopy", interval_s=0.002)

    def wait(self, timeout_s, may_be_cancelled=False):
        """Its Times; fails unless it has completed, or was cancelled where it may be."""
        ended = self.source.qmp.wait_event(
            "MIGRATION", timeout_s, lambda data: data["status"] in ENDS, self._past)
        info = self.source.qmp.execute("query-migrate")
        status = ended["data"]["status"]
        if status != "completed" and not (may_be_cancelled and status == "cancelled"):
            raise Failed(f"stock migration: {status}, {info}; the destination said: "
                         f"{self.destination.log()}")
        end_s = ended["host_s"]
        if status == "completed":
            end_s = max(end_s, self.destination.qmp.wait_event("RESUME", timeout_s)["host_s"])
        return Times(self.begin_s, end_s, info.get("downtime", 0), info, status == "completed")


def post_copy(source, destination, address=None, timeout_s=120):
    """postcopy-ram + postcopy-preempt, switched to post-copy at once."""
    migration = _Migration(source, destination, address, POST_COPY)
    migration.start_post_copy(timeout_s)
    return migration.wait(timeout_s)


def switched(source, destination, address=None, passes=1, seconds=None, timeout_s=120):
    """Pre-copy, and post-copy from when an operator asks for it: after so many passes, or seconds.

    One pass is what libvirt's --postcopy-after-precopy waits for. Where QEMU converges before that,
    it has been pre-copy alone.
    """
    migration = _Migration(source, destination, address, POST_COPY)

    def due():
        if seconds is not None:
            return time.monotonic() >= migration.begin_s + seconds
        return migration.passes() >= passes
    wait_until(lambda: due() or migration.ended(), timeout_s, "the moment to switch", 0.002)
    migration.start_post_copy(timeout_s)
    return migration.wait(timeout_s)


def pre_copy(source, destination, address=None, limit_s=None, timeout_s=120):
    """Pre-copy with QEMU's own limit of downtime (300 ms); cancelled if it lasts beyond limit_s."""
    migration = _Migration(source, destination, address, ())
    if limit_s is None:
        return migration.wait(timeout_s)
    while not migration.ended() and time.monotonic() < migration.begin_s + limit_s:
        time.sleep(0.01)
    if not migration.ended():
        source.qmp.execute("migrate_cancel")
    return migration.wait(timeout_s, may_be_cancelled=True)
