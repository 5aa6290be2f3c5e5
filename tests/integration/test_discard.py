"""The guest gives memory back, or the host takes it, while pages are still missing."""

import os
import time

from rig import memory
from rig.case import MigrationCase

BALLOON = ("-device", "virtio-balloon-pci,id=balloon0,free-page-reporting=on")
# The workers fault their 32 MiB in at once; the idle and the freed memory wait for the slow pusher.
KERNEL = "fl.mib=32 fl.idle=96 fl.discard=64 fl.balloon"
SLOW = ("--bandwidth", "14M")  # 160 MiB take over 11 s
REPORT_S = 3.5  # the guest's kernel reports free pages after two seconds
MIB = 320


class Discards(MigrationCase):
    def start_slow_move(self):
        source, destination = self.pair(mib=MIB, kernel=KERNEL, extra=BALLOON)
        source.wait_ready()
        source.serial.wait_reports(3)
        move = self.begin(source, destination, migrate_extra=SLOW)
        destination.wait_status("running")
        return source, destination, move

    def test_free_page_reporting_while_pages_are_missing(self):
        source, destination, move = self.start_slow_move()
        destination.serial.ask("discard", "discarded")
        time.sleep(REPORT_S)
        self.assertTrue(move.migrate.process.alive(), "the discard must fall into the post-copy")
        answer = destination.serial.ask("refill", "refilled")
        self.assertEqual("0", answer["not_zero"])
        self.assertEqual("0", answer["wrong"])
        self.assert_completed(move.wait())
        self.assert_guest_right(destination)

    def test_discarded_memory_is_not_brought_back(self):
        source, destination, move = self.start_slow_move()
        destination.serial.ask("discard", "discarded")
        time.sleep(REPORT_S)
        self.assertTrue(move.migrate.process.alive(), "the discard must fall into the post-copy")
        self.assert_completed(move.wait())
        kept = memory.allocated_bytes(destination.backends[0].path)
        had = memory.allocated_bytes(source.backends[0].path)
        self.assertLess(kept, had - (48 << 20), "the pusher sent pages that the guest had freed")
        self.assert_guest_right(destination)

    def test_balloon_inflates_while_pages_are_missing(self):
        _, destination, move = self.start_slow_move()
        destination.serial.ask("discard", "discarded")
        destination.qmp.execute("balloon", value=MIB - 24 << 20)
        self.wait_until(
            lambda: destination.qmp.execute("query-balloon")["actual"] <= MIB - 24 << 20, 60,
            "the balloon is full")
        self.assertTrue(move.migrate.process.alive(), "the balloon must work during the post-copy")
        destination.qmp.execute("balloon", value=MIB << 20)
        self.wait_until(
            lambda: destination.qmp.execute("query-balloon")["actual"] == MIB << 20, 60,
            "the balloon is empty again")
        self.assertEqual("0", destination.serial.ask("refill", "refilled")["wrong"])
        self.assert_completed(move.wait())
        self.assert_guest_right(destination)

    def test_memory_freed_before_the_move_does_not_travel(self):
        source, destination = self.pair(mib=MIB, kernel=KERNEL, extra=BALLOON)
        source.wait_ready()
        full_bytes = memory.allocated_bytes(source.backends[0].path)
        source.serial.ask("discard", "discarded")
        self.wait_until(
            lambda: memory.allocated_bytes(source.backends[0].path) < full_bytes - (48 << 20), 20,
            "the source's QEMU punched what the guest freed")
        move = self.migrate(source, destination)
        self.assertLess(move.migrate.last["bytes_wire"], full_bytes - (48 << 20))
        answer = destination.serial.ask("refill", "refilled")
        self.assertEqual(("0", "0"), (answer["not_zero"], answer["wrong"]))
        self.assert_guest_right(destination)

    def test_guest_frees_and_refills_all_the_time(self):
        source, destination = self.pair(mib=MIB, kernel=KERNEL + " fl.churn", extra=BALLOON)
        source.wait_ready()
        source.serial.wait_line("FL discarded")
        move = self.begin(source, destination, migrate_extra=SLOW)
        destination.wait_status("running")
        self.assert_completed(move.wait())
        destination.serial.wait_line("FL refilled")
        self.assert_guest_right(destination)


class Reclaim(MigrationCase):
    alone = True  # the host's swap space

    def test_installed_pages_go_to_swap_and_come_back(self):
        swap = memory.SwapFile(os.path.join(self.workdir, "swap"), 512)
        self.addCleanup(swap.close)
        if swap.error:
            self.skipTest(f"the kernel refuses swap space in a file here: {swap.error}")
        source, destination = self.pair(mib=384, kernel="fl.mib=32 fl.idle=128")
        source.wait_ready()
        move = self.begin(source, destination, migrate_extra=("--bandwidth", "20M"))
        destination.wait_status("running")
        time.sleep(1.5)
        path = destination.backends[0].path
        self.assertTrue(memory.mappings(destination.pid(), path))
        for start, end in memory.mappings(destination.pid(), path):
            memory.page_out(destination.pid(), start, end)
        self.assertGreater(swap.used_kib(), 4096, "reclaim took no installed page")
        self.assertTrue(move.migrate.process.alive(), "the reclaim must fall into the post-copy")
        destination.serial.wait_reports(3)
        self.assert_completed(move.wait())
        self.assert_guest_right(destination)
