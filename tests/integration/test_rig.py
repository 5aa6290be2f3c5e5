"""The rig against plain QEMU: what the other tests stand on holds."""

import struct

from rig import memory, stock
from rig.aftermath import Aftermath
from rig.case import MigrationCase
from rig.guest import experience
from rig.net import EchoClient, GUEST, Lan, nic_words
from rig.recovery import RecoveryCase


class Rig(MigrationCase):
    def test_stock_post_copy_moves_the_checking_guest(self):
        source, destination = self.pair(mib=256, kernel="fl.mib=96", hook=False)
        source.wait_ready()
        source.serial.wait_reports(20)
        times = stock.post_copy(source, destination)
        destination.serial.wait_reports(20)
        seen = experience(source.serial, destination.serial, times.begin_s, times.end_s)
        self.assertEqual(0, seen.wrong)
        self.assertGreater(seen.before_ops_s, 1000)
        self.assertGreater(seen.blackout_ms, 0)
        self.assertLess(seen.blackout_ms, 5000)
        self.assertEqual(0, destination.serial.verify())

    def test_a_wrong_byte_is_noticed(self):
        vm = self.vm("vm", mib=256, kernel="fl.mib=96", hook=False).start()
        vm.wait_ready()
        # Overwrites patterned pages behind the guest's back, and nothing of its kernel's.
        step, changed = 0x9E3779B97F4A7C15, 0
        with open(vm.backends[0].path, "r+b") as file:
            for page in range(256 * 256):
                file.seek(page * 4096)
                words = struct.unpack("<3Q", file.read(24))
                if all((after - before) % 2**64 == step for before, after in zip(words, words[1:])):
                    file.seek(page * 4096)
                    file.write(bytes(64))
                    changed += 1
        self.assertGreater(changed, 1000)
        vm.serial.wait_line("FL wrong", timeout_s=20)

    def test_boot_sector_under_kvm(self):
        vm = self.vm("vm", mib=64, boot_sector=True, accel="kvm", hook=False).start()
        vm.serial.wait_line("R 00000003 00000000")

    def test_free_page_reporting_shrinks_the_ram_file(self):
        vm = self.vm("vm", mib=384, kernel="fl.mib=32 fl.discard=128 fl.balloon", hook=False,
                     extra=("-device", "virtio-balloon-pci,free-page-reporting=on")).start()
        vm.wait_ready()
        before = memory.allocated_bytes(vm.backends[0].path)
        vm.serial.ask("discard", "discarded")
        self.wait_until(
            lambda: memory.allocated_bytes(vm.backends[0].path) < before - (100 << 20), 30,
            "QEMU punched the memory that the guest freed")
        self.assertEqual("0", vm.serial.ask("refill", "refilled")["not_zero"])

    def test_tcp_reaches_the_guest_over_the_lan(self):
        lan = Lan()
        self.addCleanup(lan.close)
        vm = self.vm("vm", mib=256, kernel=f"fl.mib=32 fl.net={GUEST}", hook=False, netns=lan.netns("h1"),
                     extra=nic_words()).start()
        vm.wait_ready()
        client = EchoClient()
        self.addCleanup(client.stop)
        self.wait_until(lambda: client.echoed > 100, 20, "100 numbers echoed")
        self.assertIsNone(client.broken)


class AftermathRig(RecoveryCase):
    """What is checked after each disturbed migration can fail."""

    every_qemu = False

    def setUp(self):
        super().setUp()
        self.source, self.destination = self.working(), self.waiting()
        receive = self.receive(self.destination, extra=self.run_directory)
        migrate = self.send(self.source, receive.port, extra=self.run_directory)
        self.after = Aftermath(self, self.source, self.destination, receive, migrate)

    def test_two_owners_no_owner_and_a_wrong_status_are_noticed(self):
        self.after.settle()
        self.after.check()
        self.assertEqual("destination", self.after.owner)

        self.destination.qmp.execute("stop")
        with self.assertRaisesRegex(AssertionError, "run state running"):
            self.after.check()
        self.destination.qmp.execute("cont")

        self.after.commands["receive"].process.child.returncode = 1
        with self.assertRaisesRegex(AssertionError, "receive: exit status 1"):
            self.after.check()
        self.after.commands["receive"].process.child.returncode = 0

        # For a moment only: it is paused again when it is looked at.
        self.source.qmp.execute("cont")
        self.source.qmp.execute("stop")
        with self.assertRaisesRegex(AssertionError, "ran on both sides"):
            self.after.check()
