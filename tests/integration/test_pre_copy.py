"""Memory is sent while the VM runs on the source: hybrid and pure pre-copy on stock QEMUs."""

import os
import signal
import subprocess

from rig import faultline, memory, paths
from rig.case import MigrationCase, plain
from rig.guest import experience

# The limit lets a round last long enough for the guest to write behind it.
SLOW = ("--bandwidth", "60M")


def mode_of(source, mode, *extra):
    return ("--mode", mode, "--hook", f"unix:{source.hook_socket}", *extra)


class PreCopyChecks(MigrationCase):
    def move(self, source, destination, mode, *extra, **options):
        return self.migrate(source, destination,
                            migrate_extra=mode_of(source, mode, *extra), **options)

    def assert_sent_ahead(self, move, mode):
        last, received = move.migrate.last, move.receive.last
        self.assertEqual(mode, last["mode"])
        self.assertIn("switch_reason", last["pre_copy"])
        self.assertGreater(last["pre_copy"]["pages_sent"], 0)
        self.assertGreaterEqual(len(last["pre_copy"]["rounds"]), 1)
        self.assertEqual("uffd-wp", last["pre_copy"]["tracker"])
        self.assertEqual(last["pages_precopied"], received["pages_precopied"])

    def check_every_byte(self, mode, pages_begun=256, **options):
        """The guest writes until its operator stops it in the middle of a round."""
        source, destination = self.pair(**options)
        source.wait_ready()
        move = self.begin(source, destination, migrate_extra=mode_of(source, mode, *SLOW))
        self.wait_until(lambda: any(event.get("pages_precopied", 0) > pages_begun
                                    for event in list(move.migrate.events)), 30, "a round begun")
        source.serial.wait_reports(3)
        source.qmp.execute("stop")
        self.assert_completed(move.wait())
        self.assert_sent_ahead(move, mode)
        self.assertEqual("paused", destination.status())
        for before, after in zip(source.backends, destination.backends):
            self.assert_same_ram(before.path, after.path)
        destination.qmp.execute("cont")
        self.assert_guest_right(destination)


class PreCopy(PreCopyChecks):
    def check_linux_guest(self, mode, pattern, *extra):
        source, destination = self.pair(
            mib=384, kernel=f"fl.mib=160 fl.pattern={pattern}")
        source.wait_ready()
        source.serial.wait_reports(5)
        move = self.move(source, destination, mode, *SLOW, *extra)
        self.assert_sent_ahead(move, mode)
        self.assertEqual("postmigrate", source.status())
        self.assertEqual("running", destination.status())
        destination.serial.wait_reports(10)
        seen = experience(source.serial, destination.serial, move.begin_s, move.end_s)
        self.assertEqual(0, seen.wrong)
        self.assert_guest_right(destination)
        return move

    def test_hybrid_linux_guest_checks_its_own_memory(self):
        move = self.check_linux_guest("hybrid", "zipf")
        self.assertLess(move.receive.last["pages_pushed"] + move.receive.last["pages_demand"],
                        move.receive.last["pages_precopied"])

    def test_hybrid_under_a_write_heavy_guest(self):
        self.check_linux_guest("hybrid", "writeheavy")

    def test_precopy_linux_guest_checks_its_own_memory(self):
        self.check_linux_guest("precopy", "zipf")

    def test_precopy_that_cannot_converge_falls_over_to_post_copy(self):
        move = self.check_linux_guest("precopy", "writeheavy", "--downtime-limit", "1ms")
        self.assertIn(move.migrate.last["pre_copy"]["switch_reason"], ("not-converging", "rounds"))
        notices = [event["text"] for event in move.migrate.events if event["event"] == "notice"]
        self.assertTrue(any("without having converged" in text for text in notices), notices)

    def test_hybrid_keeps_every_byte(self):
        self.check_every_byte("hybrid", mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")

    def test_precopy_keeps_every_byte(self):
        self.check_every_byte("precopy", mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")

    def test_two_backends_keep_every_byte(self):
        self.check_every_byte("hybrid",
                              source_backends=[self.backend(256), self.backend(128)],
                              destination_backends=[self.backend(256), self.backend(128)],
                              kernel="fl.mib=200 fl.pattern=zipf")

    def test_boot_sector_under_kvm(self):
        for mode in ("hybrid", "precopy"):
            with self.subTest(mode):
                source, destination = self.pair(mib=64, boot_sector=True, accel="kvm")
                source.serial.wait_line("R 00000003 00000000")
                move = self.move(source, destination, mode, "--bandwidth", "20M")
                self.assert_sent_ahead(move, mode)
                self.assert_boot_sector_right(destination)

    def test_postcopy_now_ends_the_rounds(self):
        source, destination = self.pair(mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")
        source.wait_ready()
        move = self.begin(source, destination,
                          migrate_extra=mode_of(source, "precopy", "--bandwidth", "12M"))
        self.wait_until(lambda: any(event.get("pages_precopied", 0) > 256
                                    for event in list(move.migrate.events)), 30, "a round begun")
        migration = move.migrate.wait_event("started")["id"]
        subprocess.run([paths.FAULTLINE, "postcopy-now", migration[:8]], check=True, timeout=20)
        move.migrate.wait_event("completed", 60)
        self.assert_completed(move.wait())
        self.assertEqual("asked", move.migrate.last["pre_copy"]["switch_reason"])
        self.assertEqual(1, len(move.migrate.last["pre_copy"]["rounds"]))
        self.assert_guest_right(destination)

    def test_cancelled_in_a_round_the_vm_runs_on_untracked(self):
        source, destination = self.pair(mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")
        source.wait_ready()
        move = self.begin(source, destination,
                          migrate_extra=mode_of(source, "precopy", "--bandwidth", "12M"))
        self.wait_until(lambda: any(event.get("pages_precopied", 0) > 256
                                    for event in list(move.migrate.events)), 30, "a round begun")
        self.assertTrue(self.write_protected(source))
        migration = move.migrate.wait_event("started")["id"]
        subprocess.run([paths.FAULTLINE, "cancel", migration[:8]], check=True, timeout=20)
        move.wait()
        self.assert_failed(move.migrate, move.migrate_status, 1, "source")
        self.assertEqual("running", source.status())
        self.assertFalse(self.write_protected(source))
        self.assert_guest_right(source)

    def test_killed_in_a_round_the_vm_runs_on_untracked(self):
        source, destination = self.pair(mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")
        source.wait_ready()
        move = self.begin(source, destination,
                          migrate_extra=mode_of(source, "precopy", "--bandwidth", "12M"))
        self.wait_until(lambda: any(event.get("pages_precopied", 0) > 256
                                    for event in list(move.migrate.events)), 30, "a round begun")
        move.migrate.kill()
        self.assertEqual(1, move.receive.wait(30), move.receive.describe())
        self.wait_until(lambda: not self.write_protected(source), 10, "the tracking gone")
        self.assertEqual("running", source.status())
        self.assert_guest_right(source)
        # And it may be moved again.
        again = self.vm("again", mib=384, incoming=True, kernel="fl.mib=160").start()
        self.move(source, again, "hybrid")
        self.assert_guest_right(again)

    @plain  # the guest has to write faster than the link
    def test_throttled_it_converges(self):
        move = self.check_linux_guest("precopy", "zipf", "--throttle")
        ahead = move.migrate.last["pre_copy"]
        self.assertEqual("converged", ahead["switch_reason"])
        self.assertGreaterEqual(ahead["throttle_percent"], 20)
        self.assertGreater(ahead["throttled_us"], 0)
        self.assertTrue(any(event.get("throttle_percent", 0) >= 20
                            for event in move.migrate.events))

    def throttled(self):
        """A move that will never end, and slows its VM."""
        source, destination = self.pair(mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")
        source.wait_ready()
        move = self.begin(source, destination, migrate_extra=mode_of(
            source, "precopy", "--bandwidth", "60M", "--downtime-limit", "1ms", "--throttle"))
        self.wait_until(lambda: any(event.get("throttle_percent", 0) >= 20
                                    for event in list(move.migrate.events)), 60, "a throttle")
        return source, move

    def assert_unslowed(self, source):
        self.wait_until(lambda: not self.write_protected(source), 10, "the tracking gone")
        self.wait_until(lambda: source.status() == "running", 10, "the VM at work")
        seen = len(source.qmp.events)
        self.assert_guest_right(source)
        self.assertEqual([], [event["event"] for event in source.qmp.events[seen:]
                              if event["event"] in ("STOP", "RESUME")])

    def test_cancelled_while_throttled_the_vm_runs_on_unslowed(self):
        source, move = self.throttled()
        move.migrate.signal(signal.SIGINT)
        move.wait()
        self.assert_failed(move.migrate, move.migrate_status, 1, "source")
        self.assert_unslowed(source)

    def test_killed_while_throttled_the_vm_runs_on_unslowed(self):
        source, move = self.throttled()
        move.migrate.kill()
        self.assertEqual(1, move.receive.wait(30), move.receive.describe())
        self.assert_unslowed(source)

    def test_either_command_killed_after_the_switch_goes_on(self):
        run = ("--run-directory", os.path.join(self.workdir, "run"))
        for name in ("migrate", "receive"):
            with self.subTest(name):
                source, destination = self.pair(mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")
                source.wait_ready()
                move = self.begin(source, destination, receive_extra=run, migrate_extra=mode_of(
                    source, "hybrid", "--bandwidth", "24M", *run))
                destination.wait_status("running")
                commands = {"migrate": move.migrate, "receive": move.receive}
                commands[name].signal(signal.SIGKILL)
                commands[name].process.wait(10)
                again = faultline.resume(name, os.path.join(self.workdir, f"{name}-again.log"),
                                         extra=run)
                self._own(again)
                commands[name] = again
                for command in commands.values():
                    self.assertEqual(0, command.wait(90), command.describe())
                self.assertGreater(commands["receive"].last["pages_pushed"], 0)
                self.assert_guest_right(destination)
                source.kill()
                destination.kill()

    @plain
    def test_the_limit_holds_in_rounds(self):
        """Within 5% of what goes over the wire, over rounds that take seconds."""
        source, destination = self.pair(mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")
        source.wait_ready()
        move = self.move(source, destination, "precopy", "--bandwidth", "40M", "--compress", "off",
                         "--precopy-rounds", "2")
        self.assertEqual(2, len(move.migrate.last["pre_copy"]["rounds"]))
        for number in (1, 2):
            seen = [event for event in move.migrate.events if event["event"] == "progress" and
                    event["phase"] == "pre-copy" and event.get("rounds") == number]
            first, last = seen[1], seen[-1]  # the second: a round begins with a burst
            took_us = last["elapsed_us"] - first["elapsed_us"]
            self.assertGreater(took_us, 2_000_000)
            rate = (last["bytes_wire"] - first["bytes_wire"]) / took_us  # MB a second
            self.assertLess(abs(rate - 40) / 40, 0.05, f"round {number}: {rate} MB/s")

    def test_without_a_hook_it_says_what_is_missing(self):
        source, destination = self.pair(mib=256, kernel="fl.mib=64",
                                        source_options={"hook": False})
        source.wait_ready()
        move = self.begin(source, destination,
                          migrate_extra=("--mode", "hybrid", "--hook", "unix:/nowhere"))
        status = move.migrate.wait(20)
        self.assert_failed(move.migrate, status, 1, "source", "postcopy")
        self.assertEqual("running", source.status())

    @staticmethod
    def write_protected(vm):
        """Some of the VM's memory is registered for write protection."""
        with open(f"/proc/{vm.pid()}/smaps", encoding="ascii") as smaps:
            return any(line.startswith("VmFlags:") and " uw" in line for line in smaps)


class HugePages(PreCopyChecks):
    alone = True

    def setUp(self):
        super().setUp()
        try:
            self.huge = memory.HugePages(520, os.path.join(self.ramdir, "huge"))
        except OSError as error:
            self.skipTest(f"no huge pages: {error}")
        self.addCleanup(self.huge.close)

    def huge_backend(self, number):
        backend = self.backend(256)
        backend.path = os.path.join(self.huge.directory, f"ram{number}")
        return backend

    def test_hugetlbfs_keeps_every_byte(self):
        self.check_every_byte("hybrid", pages_begun=8,
                              source_backends=[self.huge_backend(0)],
                              destination_backends=[self.huge_backend(1)],
                              kernel="fl.mib=120 fl.pattern=zipf")


class DirectIo(PreCopyChecks):
    """A disk that bypasses the page cache: the VM stands still around each scan."""

    def pair_with_disk(self, words):
        disk = f"{self.workdir}/disk.raw"
        with open(disk, "wb") as file:
            file.truncate(64 << 20)
        extra = ["-blockdev",
                 f"driver=file,node-name=d,filename={disk},cache.direct=on,locking=off",
                 "-device", "virtio-blk-pci,drive=d"]
        source, destination = self.pair(mib=384, kernel=f"{words} fl.disk", extra=extra)
        source.wait_ready()
        self.wait_until(lambda: source.serial.wait_reports(1)[-1].disk_ops > 50, 60,
                        "a disk under load")
        return source, destination

    def test_a_disk_under_load_loses_nothing(self):
        source, destination = self.pair_with_disk("fl.mib=160 fl.pattern=zipf")
        before = source.serial.reports[-1].disk_ops
        move = self.move(source, destination, "hybrid", *SLOW)
        self.assertGreaterEqual(move.migrate.last["pre_copy"]["pauses"], 2)
        self.assertLess(move.migrate.last["pre_copy"]["pause_us_max"], 1_000_000)
        self.assert_guest_right(destination, reports=20)
        after = destination.serial.reports[-1]
        self.assertEqual(0, after.disk_wrong)
        self.assertGreater(after.disk_ops, before)

    def test_a_disk_under_load_keeps_every_byte(self):
        """But for the ring through which the loaded disk speaks to the guest."""
        source, destination = self.pair_with_disk("fl.mib=160 fl.pattern=writeheavy")
        move = self.begin(source, destination, migrate_extra=mode_of(source, "hybrid", *SLOW))
        self.wait_until(lambda: any(event.get("pages_precopied", 0) > 10000
                                    for event in list(move.migrate.events)), 30, "a round begun")
        source.qmp.execute("stop")
        rings = memory.used_ring_pages(source)
        self.assertGreater(len(rings), 0, "the guest drives its disk")
        self.assert_completed(move.wait())
        self.assert_sent_ahead(move, "hybrid")
        pages = memory.differing_pages(source.backends[0].path, destination.backends[0].path)
        self.assertEqual([], [page for page in pages if page not in rings],
                         f"of {pages}; the used rings are in {sorted(rings)}")
        destination.qmp.execute("cont")
        self.assert_guest_right(destination)
