"""A small LAN out of namespaces: two hosts with a bridge each, a switch, and the test as a client.

    test (10.77.0.1) --- switch (bridge) --- uplink --- br0 in namespace h1 (10.77.0.11) --- tap0
                                        \\--- uplink --- br0 in namespace h2 (10.77.0.12) --- tap0

Everything lives in the test's own network namespace (the runner gives it one), so nothing is left.
A host's namespace is held by a sleeping process and not by a name of `ip netns`, because names need
mounts that a chroot forbids.
"""

import os
import socket
import threading
import time

from .process import Process, run, wait_until

CLIENT = "10.77.0.1"
GUEST = "10.77.0.100"
HOSTS = {"h1": "10.77.0.11", "h2": "10.77.0.12"}


class Lan:
    """Builds the LAN; `close` takes it down."""

    def __init__(self, rate=None):
        self._holders = {}
        run("ip", "link", "add", "switch", "type", "bridge", "mcast_snooping", "0")
        run("ip", "addr", "add", f"{CLIENT}/24", "dev", "switch")
        run("ip", "link", "set", "switch", "up")
        for name, address in HOSTS.items():
            self._add_host(name, address)
            if rate:
                self.shape(name, rate)

    def _add_host(self, name, address):
        holder = Process(["unshare", "--net", "sleep", "infinity"], "/dev/null")
        self._holders[name] = holder
        wait_until(lambda: os.readlink(self.netns(name)) != os.readlink("/proc/self/ns/net"), 5,
                   f"a network namespace for {name}")
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "uplink",
            "netns", holder.pid)
        run("ip", "link", "set", f"to-{name}", "master", "switch", "up")
        for words in (("link", "set", "lo", "up"),
                      ("link", "add", "br0", "type", "bridge", "mcast_snooping", "0"),
                      ("tuntap", "add", "tap0", "mode", "tap"),
                      ("link", "set", "uplink", "master", "br0", "up"),
                      ("link", "set", "tap0", "master", "br0", "up"),
                      ("addr", "add", f"{address}/24", "dev", "br0"),
                      ("link", "set", "br0", "up")):
            run("ip", *words, netns=self.netns(name))

    def netns(self, host):
        """The path of a host's network namespace, as Vm and the commands take it."""
        return f"/proc/{self._holders[host].pid}/ns/net"

    def shape(self, host, rate):
        """Limits what the host sends, and what is sent to it, to `rate` (as tc says it: 1gbit)."""
        limit = ("root", "tbf", "rate", rate, "burst", "256kb", "latency", "20ms")
        run("tc", "qdisc", "replace", "dev", "uplink", *limit, netns=self.netns(host))
        run("tc", "qdisc", "replace", "dev", f"to-{host}", *limit)

    def cut(self, host):
        """Takes the host's link away; `join` brings it back."""
        run("ip", "link", "set", f"to-{host}", "down")

    def join(self, host):
        run("ip", "link", "set", f"to-{host}", "up")

    def close(self):
        for holder in self._holders.values():
            holder.kill()
        run("ip", "link", "del", "switch", check=False)


def nic_words(mac="52:54:00:77:00:64"):
    """QEMU words for a virtio card on the host's tap0."""
    return ("-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=net0,mac={mac},romfile=")


class EchoClient:
    """Sends counted numbers over one TCP connection to the guest and checks that they come back.

    `longest_gap_s` is the longest time without an answer; `broken` says why it ended, None if it
    did not.
    """

    def __init__(self, address=GUEST, port=7, timeout_s=60):
        self.echoed = 0
        self.longest_gap_s = 0.0
        self.broken = None
        self._stop = False
        self._socket = socket.create_connection((address, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        last_s = time.monotonic()
        while not self._stop:
            try:
                wanted = self.echoed.to_bytes(8, "big")
                self._socket.sendall(wanted)
                got = b""
                while len(got) < 8:
                    data = self._socket.recv(8 - len(got))
                    if not data:
                        raise ConnectionError("the guest closed the connection")
                    got += data
                if got != wanted:
                    raise ValueError(f"number {self.echoed} came back as {got.hex()}")
            except (OSError, ValueError) as error:
                self.broken = str(error)
                return
            now_s = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now_s - last_s)
            last_s = now_s
            self.echoed += 1
            time.sleep(0.005)

    def stop(self):
        self._stop = True
        self._thread.join(5)
        self._socket.close()
