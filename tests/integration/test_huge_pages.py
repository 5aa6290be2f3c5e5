"""`receive --huge-pages`: once a guest's memory is whole, small pages of it become huge again."""

import os
import re
import signal
import time

from rig import memory
from rig.case import MigrationCase

MIB = 1 << 20
SETTING = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"


def why_not():
    """Why this kernel makes no memory on tmpfs huge, or None."""
    release = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
    if release < (6, 1):
        return f"Linux {os.uname().release} has no MADV_COLLAPSE"
    if not os.path.exists(SETTING):
        return "a kernel without huge pages for tmpfs"
    with open(SETTING, encoding="ascii") as file:
        return "shmem_enabled is 'deny'" if "[deny]" in file.read() else None


def huge_bytes(pid):
    """What the process has of shared memory in mappings of huge pages."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return int(re.search(r"ShmemPmdMapped:\s+(\d+) kB", file.read()).group(1)) << 10


def mapped_at(pid, path):
    """The address of a file's first byte in the process."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if words[-1] == path and int(words[2], 16) == 0:
                return int(words[0].split("-")[0], 16)
    raise AssertionError(f"{path} is not mapped by process {pid}")


class MadeHugeAgain(MigrationCase):
    def setUp(self):
        super().setUp()
        if reason := why_not():
            self.skipTest(reason)

    def aligned_pair(self, mib, kernel):
        backends = [self.backend(mib, extra=",align=2M") for _ in range(2)]
        return self.pair(source_backends=backends[:1], destination_backends=backends[1:],
                         kernel=kernel)

    def test_most_of_the_memory_becomes_huge_under_a_running_guest(self):
        source, destination = self.aligned_pair(384, "fl.mib=160")
        source.wait_ready()
        move = self.migrate(source, destination, receive_extra=("--huge-pages",))
        made = move.receive.last["huge_pages"]
        self.assertGreater(made["bytes"], 120 * MIB, move.receive.describe())
        self.assertGreater(made["elapsed_us"], 0)
        self.assertFalse(made["cut_short"])
        self.assertGreater(huge_bytes(destination.pid()), 120 * MIB)
        self.assertLess(memory.allocated_bytes(destination.backends[0].path),
                        memory.allocated_bytes(source.backends[0].path) + 8 * MIB)
        self.assert_guest_right(destination)

    def test_every_byte_is_kept(self):
        source, destination = self.aligned_pair(256, "fl.mib=96")
        source.wait_ready()
        source.qmp.execute("stop")
        move = self.migrate(source, destination, receive_extra=("--huge-pages",))
        self.assertGreater(move.receive.last["huge_pages"]["bytes"], 64 * MIB)
        self.assert_same_ram(source.backends[0].path, destination.backends[0].path)

    def test_ctrl_c_ends_it_and_the_migration_is_complete(self):
        source, destination = self.aligned_pair(640, "fl.mib=448")
        source.wait_ready()
        move = self.begin(source, destination, receive_extra=("--huge-pages",))
        self.assertEqual(0, move.migrate.wait(90), move.migrate.describe())
        while move.receive.process.alive():
            move.receive.signal(signal.SIGINT)
            time.sleep(0.02)
        self.assert_completed(move.wait())
        self.assertTrue(move.receive.last["huge_pages"]["cut_short"])
        self.assertLess(move.receive.last["huge_pages"]["bytes"], 448 * MIB)
        self.assert_guest_right(destination)

    def test_a_mapping_that_does_not_fit_is_named_with_the_mend(self):
        source, destination = self.pair(mib=256, kernel="fl.mib=32")
        if mapped_at(destination.pid(), destination.backends[0].path) % (2 * MIB) == 0:
            self.skipTest("QEMU's mapping happens to lie at a multiple of 2 MiB")
        source.wait_ready()
        move = self.migrate(source, destination, receive_extra=("--huge-pages",))
        notices = [event["text"] for event in move.receive.events if event["event"] == "notice"]
        self.assertTrue(any("align=2M" in text for text in notices), move.receive.describe())
        self.assertEqual(0, move.receive.last["huge_pages"]["bytes"])
        self.assertEqual(0, huge_bytes(destination.pid()))
        self.assert_guest_right(destination)

    def test_unasked_nothing_becomes_huge(self):
        source, destination = self.aligned_pair(256, "fl.mib=96")
        source.wait_ready()
        move = self.migrate(source, destination)
        self.assertNotIn("huge_pages", move.receive.last)
        self.assertEqual(0, huge_bytes(destination.pid()))
