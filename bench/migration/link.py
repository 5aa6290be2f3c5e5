"""The wire: the destination in a network namespace of its own, one veth pair between the two."""

import json
import os

from rig.process import Process, run, wait_until

SOURCE = "10.78.0.1"
DESTINATION = "10.78.0.2"
_BURSTS = {"100mbit": "64kb", "1gbit": "256kb", "10gbit": "1mb"}


class Link:
    """rate: what each direction is limited to by a token bucket, as tc says it; None: nothing."""

    def __init__(self, rate=None):
        self.rate = rate
        self._holder = Process(["unshare", "--net", "sleep", "infinity"], "/dev/null")
        wait_until(lambda: os.readlink(self.netns) != os.readlink("/proc/self/ns/net"), 5,
                   "a network namespace for the destination")
        run("ip", "link", "add", "fl-src", "type", "veth", "peer", "name", "fl-dst", "netns",
            self._holder.pid)
        for device, address, netns in (("fl-src", SOURCE, None),
                                       ("fl-dst", DESTINATION, self.netns)):
            run("ip", "addr", "add", f"{address}/24", "dev", device, netns=netns)
            run("ip", "link", "set", device, "up", netns=netns)
            run("ip", "link", "set", "lo", "up", netns=netns)
            if rate:
                run("tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", rate, "burst",
                    _BURSTS.get(rate, "256kb"), "latency", "20ms", netns=netns)

    @property
    def netns(self):
        """The destination's namespace, as Vm and the commands take it."""
        return f"/proc/{self._holder.pid}/ns/net"

    @property
    def bytes_s(self):
        """The rate in bytes a second; None for an unshaped link."""
        if not self.rate:
            return None
        units = {"mbit": 10**6, "gbit": 10**9}
        return int(self.rate[:-4]) * units[self.rate[-4:]] / 8

    def sent_bytes(self):
        """Bytes that have left the source so far, (as the interface, as the shaper counts them).

        The interface counts a segment of up to 64 KiB with one header. The shaper charges a header
        for each frame of it, as a real line would; 0 where nothing is shaped.
        """
        with open("/proc/self/net/dev") as file:
            line = next(line for line in file if line.strip().startswith("fl-src:"))
        sent = int(line.split(":")[1].split()[8])
        if not self.rate:
            return sent, 0
        shaper = json.loads(run("tc", "-s", "-j", "qdisc", "show", "dev", "fl-src"))
        return sent, shaper[0]["bytes"]

    def close(self):
        self._holder.kill()
        run("ip", "link", "del", "fl-src", check=False)
