"""The base of every integration test."""

import os
import shutil
import tempfile
import time
import unittest

from . import faultline, memory, paths
from .process import wait_until
from .vm import Backend, Vm, ram_file


def full(test):
    """Marks a long test: it runs only with --full."""
    test.full = True
    return test


def plain(test):
    """Marks a test, or all of a class, that does not run with --sanitized: it measures, or builds."""
    test.plain = True
    return test


class Move:
    """One migration: both commands and when they ran (time.monotonic)."""

    def __init__(self, receive, migrate, begin_s):
        self.receive = receive
        self.migrate = migrate
        self.begin_s = begin_s
        self.end_s = None
        self.receive_status = None
        self.migrate_status = None

    def wait(self, timeout_s=90):
        """Waits until both commands have ended."""
        self.migrate_status = self.migrate.wait(timeout_s)
        self.receive_status = self.receive.wait(timeout_s)
        self.end_s = time.monotonic()
        return self


class MigrationCase(unittest.TestCase):
    """Gives each test a folder, a tmpfs folder for RAM files, and QEMUs that end with it."""

    timeout_s = 240    # per test; a class may set its own
    every_qemu = True  # False: one QEMU is enough (the system's)

    def setUp(self):
        self.workdir = tempfile.mkdtemp(prefix="fl", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.workdir, ignore_errors=True)
        self.ramdir = tempfile.mkdtemp(prefix="fl", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.ramdir, ignore_errors=True)
        self.vms = []
        self.commands = []

    # --- things to run

    def backend(self, mib, **options):
        """A RAM backend on the test's tmpfs."""
        return Backend(mib, path=ram_file(self.ramdir), **options)

    def vm(self, name, backends=None, mib=256, **options):
        """A Vm (not started); it is killed when the test ends."""
        vm = Vm(self.workdir, f"{name}{len(self.vms)}", backends or [self.backend(mib)], **options)
        self.vms.append(vm)
        self.addCleanup(vm.kill)
        return vm

    def pair(self, mib=256, source_backends=None, destination_backends=None, source_options=None,
             destination_options=None, **options):
        """Source and destination alike, both started."""
        source = self.vm("src", source_backends, mib, **{**options, **(source_options or {})})
        destination = self.vm("dst", destination_backends, mib, incoming=True,
                              **{**options, **(destination_options or {})})
        return source.start(), destination.start()

    wait_until = staticmethod(wait_until)

    def require_engine(self):
        """Fails when there is nothing to test."""
        for path in (paths.FAULTLINE, paths.HOOK):
            if not path.exists():
                self.fail(f"{path} is not there: run ./dev build")

    def begin(self, source, destination, migrate_extra=(), receive_extra=(), address="127.0.0.1",
              between=lambda port: port):
        """Starts receive, then migrate, and returns the Move without waiting. `migrate` is sent to
        the port that `between` makes of the one that `receive` has."""
        self.require_engine()
        number = len(self.commands)
        receive = faultline.receive(
            destination, os.path.join(self.workdir, f"receive{number}.log"),
            listen=f"tcp://{address}:0", extra=receive_extra, netns=destination.netns)
        self._own(receive)
        port = between(receive.port)
        begin_s = time.monotonic()
        migrate = faultline.migrate(
            source, f"tcp://{address}:{port}", os.path.join(self.workdir, f"migrate{number}.log"),
            extra=migrate_extra, netns=source.netns)
        self._own(migrate)
        return Move(receive, migrate, begin_s)

    def migrate(self, source, destination, timeout_s=90, **options):
        """A whole migration that must succeed."""
        move = self.begin(source, destination, **options).wait(timeout_s)
        self.assert_completed(move)
        return move

    def _own(self, command):
        """Kills the command when the test ends, and shows it when the test fails."""
        self.commands.append(command)
        self.addCleanup(command.kill)

    # --- what must hold

    def assert_completed(self, move):
        """Both commands ended well and said everything that they must say."""
        for command, status in ((move.migrate, move.migrate_status),
                                (move.receive, move.receive_status)):
            self.assertEqual(0, status, command.describe())
            self.assertEqual([], command.garbage, "stdout must hold JSON lines only")
            last = command.last
            self.assertEqual("completed", last.get("event"), command.describe())
            missing = [name for name in faultline.COMPLETED_FIELDS if name not in last]
            self.assertEqual([], missing, f"fields missing in {last}")
            self.assertGreaterEqual(last["elapsed_us"], last["total_us"])
        latency = move.receive.last.get("fault_latency_us", {})
        missing = [name for name in faultline.LATENCY_FIELDS if name not in latency]
        self.assertEqual([], missing, f"missing in fault_latency_us {latency}")
        self.assertEqual("listening", move.receive.events[0].get("event"))

    def assert_failed(self, command, status, exit_status, vm_owner, *words):
        """The command failed as said, and its error sentence holds all the words."""
        self.assertEqual(exit_status, status, command.describe())
        self.assertEqual("failed", command.last.get("event"), command.describe())
        self.assertEqual(vm_owner, command.last.get("vm_owner"), command.describe())
        for word in words:
            self.assertIn(word.lower(), command.last.get("error", "").lower())

    def assert_guest_right(self, vm, reports=5):
        """The guest goes on working there, and neither it nor a whole check found a wrong byte."""
        last = vm.serial.wait_reports(reports)[-1]
        self.assertEqual(0, last.wrong, vm.serial.tail())
        self.assertGreater(last.ops, 0)
        self.assertEqual(0, vm.serial.verify(), vm.serial.tail())

    def assert_boot_sector_right(self, vm):
        """The boot sector guest works there, and every byte it ever checked was right."""
        begin = len(vm.serial.lines)
        # The first line of a destination may have been cut in two by the switchover.
        self.wait_until(lambda: len(vm.serial.lines) >= begin + 3, 60,
                        "the boot sector guest finished three more rounds")
        for _, line in vm.serial.lines[1:]:
            self.assertRegex(line, "^R [0-9a-f]{8} 00000000$", "the guest counted wrong bytes")

    def assert_same_ram(self, path_a, path_b, page_bytes=4096):
        pages = memory.differing_pages(path_a, path_b, page_bytes)
        self.assertEqual([], pages[:20], f"{len(pages)} pages differ")

    def describe(self):
        """What the runner prints when the test failed."""
        parts = [command.describe() for command in self.commands]
        return "\n".join(parts + [vm.describe() for vm in self.vms])
