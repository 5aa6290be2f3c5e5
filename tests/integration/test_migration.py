"""A live guest moves by post-copy between two stock QEMUs and finds its memory right."""

import os

from rig import faultline, memory, paths
from rig.case import MigrationCase
from rig.guest import experience

KERNEL = "fl.mib=160"


class Migration(MigrationCase):
    def test_linux_guest_checks_its_own_memory(self):
        source, destination = self.pair(mib=384, kernel=KERNEL)
        source.wait_ready()
        source.serial.wait_reports(10)
        move = self.migrate(source, destination)
        self.assertEqual("postmigrate", source.status())
        self.assertEqual("running", destination.status())
        destination.serial.wait_reports(20)
        seen = experience(source.serial, destination.serial, move.begin_s, move.end_s)
        self.assertEqual(0, seen.wrong)
        self.assertGreater(seen.reads, 0)
        self.assert_guest_right(destination)

    def test_summaries_agree(self):
        source, destination = self.pair(mib=384, kernel=KERNEL)
        source.wait_ready()
        move = self.migrate(source, destination)
        sent, received = move.migrate.last, move.receive.last
        for summary in (sent, received):
            self.assertEqual("postcopy", summary["mode"])
            self.assertEqual("tcp", summary["transport"])
            self.assertGreater(summary["downtime_us"], 0)
            self.assertLess(summary["downtime_us"], 2_000_000)
        self.assertEqual(384 * 256, received["pages_total"])
        self.assertEqual(sent["pages_total"], received["pages_total"])
        self.assertEqual(received["pages_total"],
                         received["pages_demand"] + received["pages_pushed"]
                         + received["pages_absent"])
        # The guest filled 160 MiB; the rest of its 384 MiB was mostly never allocated.
        self.assertGreater(received["pages_absent"], 100 * 256)
        self.assertGreater(sent["bytes_wire"], 160 << 20)
        latency = received["fault_latency_us"]
        self.assertLessEqual(latency["p50"], latency["p99"])
        self.assertLessEqual(latency["p99"], latency["max"])

    def test_paused_vm_keeps_every_byte(self):
        source, destination = self.pair(mib=384, kernel=KERNEL)
        source.wait_ready()
        source.qmp.execute("stop")
        self.migrate(source, destination)
        self.assertEqual("paused", destination.status())
        self.assert_same_ram(source.backends[0].path, destination.backends[0].path)
        destination.qmp.execute("cont")
        self.assert_guest_right(destination)

    def test_memory_never_allocated_stays_a_hole(self):
        source, destination = self.pair(mib=384, kernel=KERNEL)
        source.wait_ready()
        source.qmp.execute("stop")
        self.migrate(source, destination)
        self.assertLess(memory.allocated_bytes(destination.backends[0].path),
                        memory.allocated_bytes(source.backends[0].path) + (8 << 20))

    def test_slow_bulk_does_not_slow_the_guest_down(self):
        source, destination = self.pair(mib=384, kernel="fl.mib=32 fl.idle=128")
        source.wait_ready()
        move = self.begin(source, destination, migrate_extra=("--bandwidth", "24M"))
        destination.wait_status("running")
        destination.serial.wait_reports(10)
        self.assertTrue(move.migrate.process.alive(), "128 MiB at 24 MB/s take over 5 s")
        self.assert_completed(move.wait())
        self.assertGreater(move.receive.last["pages_demand"], 100)
        self.assert_guest_right(destination)

    def test_boot_sector_under_kvm(self):
        source, destination = self.pair(mib=64, boot_sector=True, accel="kvm")
        source.serial.wait_line("R 00000003 00000000")
        self.migrate(source, destination)
        self.assert_boot_sector_right(destination)

    def test_two_backends(self):
        source, destination = self.pair(
            source_backends=[self.backend(256), self.backend(128)],
            destination_backends=[self.backend(256), self.backend(128)],
            kernel="fl.mib=250")
        source.wait_ready()
        self.migrate(source, destination)
        self.assert_guest_right(destination)

    def test_two_backends_paused_keep_every_byte(self):
        source, destination = self.pair(
            source_backends=[self.backend(256), self.backend(128)],
            destination_backends=[self.backend(256), self.backend(128)],
            kernel="fl.mib=250")
        source.wait_ready()
        source.qmp.execute("stop")
        self.migrate(source, destination)
        for before, after in zip(source.backends, destination.backends):
            self.assert_same_ram(before.path, after.path)

    def test_several_vcpus(self):
        source, destination = self.pair(mib=384, kernel="fl.mib=160 fl.threads=2 fl.pattern=zipf",
                                        cpus=2)
        source.wait_ready()
        self.migrate(source, destination)
        self.assert_guest_right(destination)

    def test_write_heavy_guest(self):
        source, destination = self.pair(mib=384, kernel="fl.mib=160 fl.pattern=writeheavy")
        source.wait_ready()
        self.migrate(source, destination)
        self.assert_guest_right(destination)

    def test_quit_source(self):
        source, destination = self.pair(mib=256, kernel="fl.mib=64")
        source.wait_ready()
        self.migrate(source, destination, migrate_extra=("--quit-source",))
        self.assertEqual(0, source.process.wait(10))
        self.assert_guest_right(destination)


class StartedQemu(MigrationCase):
    """faultline receive ... -- qemu-system-x86_64 ARGS: the destination started by the command."""

    def test_receive_starts_the_destination(self):
        self.require_engine()
        source = self.vm("src", mib=256, kernel="fl.mib=96").start()
        source.wait_ready()
        source.serial.wait_reports(3)
        destination = self.vm("dst", mib=256, kernel="fl.mib=96", hook=False)
        receive = faultline.Command(
            ["receive", "--listen", "tcp://127.0.0.1:0", "--json", "--hook-library", paths.HOOK,
             "--", destination.qemu, *destination.words], os.path.join(self.workdir, "receive.log"))
        self._own(receive)
        port = receive.port
        destination.attach()
        migrate = faultline.migrate(source, f"tcp://127.0.0.1:{port}",
                                    os.path.join(self.workdir, "migrate.log"))
        self._own(migrate)
        self.assertEqual(0, migrate.wait(90), migrate.describe())
        self.assertEqual(0, receive.wait(90), receive.describe())
        self.assertEqual("running", destination.status())
        self.assert_guest_right(destination)  # its QEMU outlived the command
        destination.qmp.execute("quit")


class HugePages(MigrationCase):
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

    def test_hugetlbfs_guest(self):
        source, destination = self.pair(
            source_backends=[self.huge_backend(0)], destination_backends=[self.huge_backend(1)],
            kernel="fl.mib=120")
        source.wait_ready()
        move = self.migrate(source, destination)
        self.assertEqual(128, move.receive.last["pages_total"], "pages are of 2 MiB here")
        self.assert_guest_right(destination)

    def test_hugetlbfs_paused_keeps_every_byte(self):
        source, destination = self.pair(
            source_backends=[self.huge_backend(0)], destination_backends=[self.huge_backend(1)],
            kernel="fl.mib=120")
        source.wait_ready()
        source.qmp.execute("stop")
        self.migrate(source, destination)
        self.assert_same_ram(source.backends[0].path, destination.backends[0].path)


class BackAndForth(MigrationCase):
    timeout_s = 400

    def bounce(self, times):
        vm = self.vm("hop", mib=256, kernel="fl.mib=96").start()
        vm.wait_ready()
        for _ in range(times):
            vm.serial.wait_reports(1)
            nearby = self.vm("hop", mib=256, kernel="fl.mib=96", incoming=True).start()
            self.migrate(vm, nearby)
            vm.kill()
            os.unlink(vm.backends[0].path)
            vm = nearby
        self.assert_guest_right(vm)

    def test_twenty_moves(self):
        self.bounce(20)
