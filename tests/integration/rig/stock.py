"""QEMU's own post-copy, to test the rig and to compare with."""

import dataclasses
import os
import time

from .process import wait_until
from .qmp import QmpError


ENDS = ("completed", "failed", "cancelled", "postcopy-paused")  # as event MIGRATION names them


@dataclasses.dataclass
class Times:
    begin_s: float
    end_s: float
    downtime_ms: int
    info: dict


def _capabilities(qmp, names):
    qmp.execute("migrate-set-capabilities",
                capabilities=[{"capability": name, "state": True} for name in names])


def post_copy(source, destination, address=None, timeout_s=120):
    """postcopy-ram + postcopy-preempt, switched to post-copy at once, bandwidth unlimited."""
    uri = f"tcp:{address}:4444" if address else "unix:" + os.path.join(source.workdir, "stock")
    for vm in (source, destination):
        _capabilities(vm.qmp, ["postcopy-ram", "postcopy-preempt", "events"])
        vm.qmp.execute("migrate-set-parameters", max_bandwidth=1 << 40, max_postcopy_bandwidth=0)
    destination.qmp.execute("migrate-incoming", uri=uri)
    past = len(source.qmp.events)
    begin_s = time.monotonic()
    source.qmp.execute("migrate", uri=uri)

    def started():
        try:
            source.qmp.execute("migrate-start-postcopy")
            return True
        except QmpError:
            return False  # not set up yet
    wait_until(started, timeout_s, "migrate-start-postcopy", interval_s=0.002)
    ended = source.qmp.wait_event("MIGRATION", timeout_s, lambda data: data["status"] in ENDS, past)
    info = source.qmp.execute("query-migrate")
    if ended["data"]["status"] != "completed":
        raise AssertionError(f"stock migration: {info}")
    return Times(begin_s, ended["host_s"], info.get("downtime", 0), info)
