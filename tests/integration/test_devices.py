"""A guest with a disk and a network card keeps both across the move."""

import os
import socket

from rig.case import MigrationCase
from rig.memory import differing_pages, used_ring_pages
from rig.net import EchoClient, GUEST, HOSTS, Lan, nic_words
from rig.process import run
from rig.qmp import QmpError


class DiskAndNetwork(MigrationCase):
    def make_lan(self, rate=None):
        lan = Lan(rate)
        self.addCleanup(lan.close)
        self.source_options = {"netns": lan.netns("h1")}
        self.destination_options = {"netns": lan.netns("h2")}

    def disk_words(self):
        disk = os.path.join(self.workdir, "disk.qcow2")
        if not os.path.exists(disk):
            run("qemu-img", "create", "-f", "qcow2", disk, "64M")
        return ("-drive", f"file={disk},format=qcow2,if=none,id=disk0,cache=none",
                "-device", "virtio-blk-pci,drive=disk0")

    def hosts_pair(self, kernel, extra):
        return self.pair(mib=384, kernel=kernel, extra=extra, source_options=self.source_options,
                         destination_options=self.destination_options)

    def test_disk_and_tcp_connection_survive(self):
        self.make_lan()
        source, destination = self.hosts_pair(f"fl.mib=128 fl.disk fl.net={GUEST}",
                                              (*self.disk_words(), *nic_words()))
        source.wait_ready()
        client = EchoClient()
        self.addCleanup(client.stop)
        source.serial.wait_reports(10)
        self.migrate(source, destination, address=HOSTS["h2"],
                     migrate_extra=("--insecure",), receive_extra=("--insecure",))
        echoed = client.echoed
        self.wait_until(lambda: client.echoed > echoed + 100 or client.broken, 30,
                        "the connection goes on on the destination")
        self.assertIsNone(client.broken)
        self.assertLess(client.longest_gap_s, 5)
        before = source.serial.reports[-1]
        after = destination.serial.wait_reports(10)[-1]
        self.assertEqual(0, after.disk_wrong)
        self.assertGreater(after.disk_ops, before.disk_ops)
        self.assertGreater(after.net_bytes, before.net_bytes)
        self.assert_guest_right(destination)

    def test_announced_at_once(self):
        """Nobody sends to the guest's new place before it speaks: the switch must be told."""
        self.make_lan()
        source, destination = self.hosts_pair(f"fl.mib=64 fl.net={GUEST}", nic_words())
        source.wait_ready()
        socket.create_connection((GUEST, 7), 10).close()  # the switch learns where it is
        self.migrate(source, destination, address=HOSTS["h2"],
                     migrate_extra=("--insecure",), receive_extra=("--insecure",))
        port = self.wait_until(
            lambda: [line for line in run("bridge", "fdb", "show", "br", "switch").splitlines()
                     if line.startswith("52:54:00:77:00:64 dev to-h2")], 10,
            "the switch learnt that the guest's MAC is behind h2")
        self.assertTrue(port)

    def test_paused_guest_with_devices_keeps_its_bytes(self):
        """Loading virtio devices lets QEMU write into used rings; no other page may differ."""
        self.make_lan()
        source, destination = self.hosts_pair(f"fl.mib=64 fl.disk fl.net={GUEST}",
                                              (*self.disk_words(), *nic_words()))
        source.wait_ready()
        source.serial.wait_reports(3)
        source.qmp.execute("stop")
        rings = used_ring_pages(source)
        self.assertGreater(len(rings), 0, "the guest drives its virtio devices")
        self.migrate(source, destination, address=HOSTS["h2"],
                     migrate_extra=("--insecure",), receive_extra=("--insecure",))
        pages = differing_pages(source.backends[0].path, destination.backends[0].path)
        self.assertEqual([], [page for page in pages if page not in rings],
                         f"of {pages}; the used rings are in {sorted(rings)}")

    def test_source_cannot_be_started_by_hand_after_the_handover(self):
        """The disk's image lock is the destination's once it has run."""
        self.make_lan()
        source, destination = self.hosts_pair("fl.mib=32 fl.disk", self.disk_words())
        source.wait_ready()
        self.migrate(source, destination, address=HOSTS["h2"],
                     migrate_extra=("--insecure",), receive_extra=("--insecure",))
        with self.assertRaisesRegex(QmpError, "lock"):
            source.qmp.execute("cont")
        self.assertNotEqual("running", source.status())
        self.assert_guest_right(destination)

    def test_shaped_link(self):
        self.make_lan(rate="400mbit")
        source, destination = self.hosts_pair("fl.mib=96", ())
        source.wait_ready()
        self.migrate(source, destination, address=HOSTS["h2"],
                     migrate_extra=("--insecure",), receive_extra=("--insecure",))
        self.assert_guest_right(destination)
