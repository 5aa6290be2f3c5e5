"""A base for tests that need many VMs: the 512-byte guest under TCG is at work 0.4 s after QEMU's
start. It checks its memory all the time and writes a line a round."""

import itertools
import os
import re
import tempfile
import time

from . import faultline
from .case import MigrationCase
from .process import run
from .relay import Relay

# With less, the guest writes so many lines that it keeps QEMU's own loop from its monitor.
MIB = 96
_logs = itertools.count()
_ROUND = re.compile(r"^R ([0-9a-f]{8}) ([0-9a-f]{8})$")


class SmallVmCase(MigrationCase):
    # --- VMs

    def small(self, name, **options):
        """A Vm with the small guest (not started)."""
        return self.vm(name, **{"mib": MIB, "boot_sector": True, **options})

    def working(self, **options):
        """A source whose guest is at work."""
        vm = self.small("src", **options).start()
        self.wait_rounds(vm, 2)
        return vm

    def waiting(self, **options):
        """A destination that waits."""
        return self.small("dst", incoming=True, **options).start()

    def tmpfs(self, options):
        """The folder of a tmpfs mounted so, which goes with the test."""
        folder = tempfile.mkdtemp(prefix="tmpfs", dir=self.workdir)
        run("mount", "-t", "tmpfs", "-o", options, "none", folder)
        self.addCleanup(run, "umount", "-l", folder)
        return folder

    # --- commands

    def receive(self, destination, listen="tcp://127.0.0.1:0", extra=(), wrap=()):
        self.require_engine()
        command = faultline.receive(destination, self._log("receive"), listen=listen, extra=extra,
                                    netns=destination.netns, wrap=wrap)
        self._own(command)
        return command

    def send(self, source, port, extra=(), address="127.0.0.1", wrap=()):
        """Starts `migrate` to that port."""
        self.require_engine()
        command = faultline.migrate(source, f"tcp://{address}:{port}", self._log("migrate"),
                                    extra=extra, netns=source.netns, wrap=wrap)
        self._own(command)
        return command

    def relay(self, port, **options):
        relay = Relay(port, **options)
        self.addCleanup(relay.close)
        return relay

    def _log(self, name):
        return os.path.join(self.workdir, f"{name}{next(_logs)}.log")

    # --- what must hold

    def wait_rounds(self, vm, rounds=2, timeout_s=20):
        """Waits for whole rounds that the guest begins from now on; none may count a wrong byte."""
        begin = len(vm.serial.lines)

        def whole():
            # The first line may be the rest of a round from before.
            texts = [text for _, text in vm.serial.lines[begin + 1:]]
            return [match for match in map(_ROUND.match, texts) if match]
        self.wait_until(lambda: len(whole()) >= rounds, timeout_s,
                        f"{vm.name}: the guest does {rounds} rounds; status {vm.status()}")
        for match in whole():
            self.assertEqual("00000000", match.group(2), f"{vm.name}: wrong bytes: {match.string}")

    def assert_works(self, vm, timeout_s=3):
        """The VM runs there within timeout_s, and its guest finds its memory right."""
        begin_s = time.monotonic()
        vm.wait_status("running", timeout_s=timeout_s)
        lasted_s = time.monotonic() - begin_s
        self.wait_rounds(vm)
        return lasted_s

    def assert_not_running(self, vm):
        """That QEMU is gone, or at least does not run the VM."""
        if vm.process.alive():
            try:
                self.assertNotEqual("running", vm.status())
            except (ConnectionError, OSError):
                pass  # it went away meanwhile

    def assert_gone(self, vm, timeout_s=10):
        self.wait_until(lambda: not vm.process.alive(), timeout_s, f"{vm.name}: its QEMU has ended")

    def assert_runs_on_source_only(self, source, destination):
        """The source's guest works within about two seconds; the destination's does not."""
        self.assert_works(source)
        self.assert_not_running(destination)

    def capabilities(self, vm):
        """The migration capabilities that are on."""
        return {entry["capability"] for entry in vm.qmp.execute("query-migrate-capabilities")
                if entry["state"]}

    def guardians(self):
        """Process ids of all guardians in this test's namespace, as {pid: parent's pid}."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[:2] == [b"faultline", b"guardian"]:
                found[int(name)] = parent
        return found
