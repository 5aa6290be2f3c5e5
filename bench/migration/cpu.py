"""CPU seconds of a QEMU, its vCPUs apart: under TCG they burn all they get, whoever migrates."""

import os
import time


def process_s(pid):
    """CPU seconds of a whole process, ended threads included, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # the kernel's number for another process's clock


def thread_s(pid, thread):
    with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


class QemuCpu:
    """Counts from its making on."""

    def __init__(self, vm):
        self._pid = vm.pid()
        self._vcpus = [cpu["thread-id"] for cpu in vm.qmp.execute("query-cpus-fast")]
        self._begin = self._now()

    def _now(self):
        vcpu = sum(thread_s(self._pid, thread) for thread in self._vcpus)
        return {"qemu": process_s(self._pid) - vcpu, "vcpu": vcpu}

    def used(self):
        """{"qemu": seconds of all but the vCPUs, "vcpu": seconds of those} since the making."""
        now = self._now()
        return {name: now[name] - self._begin[name] for name in now}


class Elsewhere:
    """CPU seconds that the rest of the machine used, kernel threads included.

    A round with much of it was disturbed. Counts from its making on; pids are ours.
    """

    def __init__(self, pids):
        self._pids = pids
        self._begin = self._now()

    def _now(self):
        with open("/proc/stat") as file:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (
                int(word) for word in file.readline().split()[1:9])
        busy_s = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy_s - time.process_time() - sum(process_s(pid) for pid in self._pids)

    def used(self, more_s):
        """more_s: CPU seconds of our processes that have come and gone since."""
        return max(0.0, self._now() - self._begin - more_s)
