"""A host is lost for good after the handover, and the operator decides."""

import json
import os
import pathlib
import re
import signal
import time

from rig import faultline, memory
from rig.monitor_proxy import MonitorProxy
from rig.process import run
from rig.recovery import SLOW, RecoveryCase
from rig.small import MIB
from rig.vm import Backend

SURE = "--i-know-the-destination-is-dead"


class Reclaim(RecoveryCase):
    def begin(self, **options):
        source, destination, receive, migrate, _ = self.post_copy(extra=self.run_directory,
                                                                  **options)
        time.sleep(0.5)
        return source, destination, receive, migrate

    def assert_ended(self, command, exit_status, *words):
        self.assertEqual(exit_status, command.process.child.returncode, command.describe())
        for word in words:
            self.assertIn(word, command.stderr())

    def test_destination_lost(self):
        source, destination, receive, migrate = self.begin()
        self.kill_command(receive)
        destination.process.kill()
        # `migrate` would serve a destination that comes back: it is in the way.
        self.assert_ended(self.operator("reclaim", SURE), 2, f"process {migrate.process.pid}")
        self.kill_command(migrate)
        explained = self.operator("reclaim")
        self.assert_ended(explained, 2, "two VMs run", SURE)
        self.assertEqual("confirmation-needed", explained.last["event"])
        self.assertEqual("postmigrate", source.status())

        reclaimed = self.operator("reclaim", SURE)
        self.assert_ended(reclaimed, 0)
        self.assertEqual(("reclaimed", "source", True),
                         tuple(reclaimed.last[key] for key in ("event", "vm_owner", "vm_runs")))
        self.assert_works(source)
        self.assertEqual(set(), self.capabilities(source))
        again = self.operator("migrate", "--resume")
        self.assert_ended(again, 2, "nothing to take up")
        # It can move once more, to a host that lives.
        other = self.waiting()
        receive = self.receive(other, extra=self.run_directory)
        migrate = self.send(source, receive.port, extra=self.run_directory)
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(60), command.describe())
        self.assert_works(other)

    def test_a_destination_that_comes_back_gets_nothing(self):
        source, destination, receive, migrate = self.begin()
        self.kill_command(receive)
        self.kill_command(migrate)
        self.assert_ended(self.operator("reclaim", SURE), 0)
        self.assert_works(source)
        late = self.resume("receive")

        # Not what its RAM file holds: a guest that goes on touches pages that are known to be zeros.
        def missing():
            return [event["pages_missing"] for event in late.events
                    if event["event"] == "progress" and event["phase"] == "reconnecting"][-1:]
        before = self.wait_until(missing, 20, "it waits for its source")
        self.assert_ended(self.operator("migrate", "--resume", migrate.events[0]["id"]), 2,
                          "took the VM back with 'faultline reclaim'")
        time.sleep(1)
        self.assertEqual(before, missing())
        self.assertTrue(late.process.alive(), late.describe())
        self.assert_works(source)

    def test_destination_lives_and_holds_the_disk(self):
        """QEMU's image lock tells it: nothing is taken back, and the migration goes on."""
        disk = os.path.join(self.workdir, "disk.qcow2")
        run("qemu-img", "create", "-f", "qcow2", disk, "64M")
        words = ("-drive", f"file={disk},format=qcow2,if=none,id=disk0,cache=none",
                 "-device", "virtio-blk-pci,drive=disk0")
        source = self.working(extra=words)
        destination = self.waiting(extra=words)
        receive = self.receive(destination, extra=self.run_directory)
        migrate = self.send(source, receive.port, extra=(*SLOW, *self.run_directory))
        destination.wait_status("running")
        time.sleep(0.5)
        self.kill_command(migrate)
        refused = self.operator("reclaim", SURE)
        self.assert_ended(refused, 3, "lock", "the destination's QEMU lives")
        self.assertEqual("destination", refused.last["vm_owner"])
        self.assertEqual("postmigrate", source.status())
        again = self.resume("migrate")
        for command in (again, receive):
            self.assertEqual(0, command.wait(90), command.describe())
        self.assert_works(destination)

    def test_paused_vm_stays_paused(self):
        source = self.working()
        source.qmp.execute("stop")
        destination = self.waiting()
        receive = self.receive(destination, extra=self.run_directory)
        migrate = self.send(source, receive.port, extra=(*SLOW, *self.run_directory))
        self.wait_until(lambda: any(event.get("phase") == "post-copy" for event in migrate.events),
                        20, "post-copy begins")
        destination.process.kill()
        self.kill_command(receive)
        self.kill_command(migrate)
        reclaimed = self.operator("reclaim", SURE)
        self.assert_ended(reclaimed, 0)
        self.assertEqual((True, False),
                         (reclaimed.last["vm_owner"] == "source", reclaimed.last["vm_runs"]))
        self.assert_not_running(source)
        source.qmp.execute("cont")
        self.assert_works(source)

    def test_killed_between_its_record_and_cont(self):
        """The VM is this host's then, and paused: nobody serves the destination, `cont` mends it."""
        source, destination, receive, migrate = self.begin()
        destination.process.kill()
        self.kill_command(receive)
        self.kill_command(migrate)
        path = os.path.join(self.workdir, "proxy.qmp")
        proxy = MonitorProxy(path, source.engine_qmp, hold="cont")
        self.addCleanup(proxy.close)
        command = faultline.Command(["reclaim", SURE, "--qmp", f"unix:{path}", *self.run_directory],
                                    self._log("reclaim"))
        self._own(command)
        proxy.wait_held()
        self.kill_command(command)
        proxy.close()
        self.assertEqual("postmigrate", source.status())
        self.assert_ended(self.operator("migrate", "--resume", migrate.events[0]["id"]), 2,
                          "took the VM back with 'faultline reclaim'")
        source.qmp.execute("cont")
        self.assert_works(source)

    def test_source_qemu_gone_too(self):
        source, destination, receive, migrate = self.begin()
        destination.process.kill()
        source.process.kill()
        self.kill_command(receive)
        self.kill_command(migrate)
        self.assert_ended(self.operator("reclaim", SURE), 3, "nothing to take back")


class Restart(RecoveryCase):
    """A host was started again in the middle of a migration: what is on its disk is left."""

    STATE = "/var/lib/faultline"  # of this test alone, where it has a mount namespace

    every_qemu = False

    def copies(self):
        return {path.name.split(".")[1]: path for path in pathlib.Path(self.STATE).iterdir()}

    def test_status_names_what_was_under_way(self):
        os.makedirs(self.STATE, mode=0o700, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=700", "none", self.STATE)
        self.addCleanup(run, "umount", "-l", self.STATE)
        _, destination, receive, migrate, _ = self.post_copy(extra=self.run_directory)
        self.wait_until(lambda: len(self.copies()) == 2, 10, "both sides have put theirs on disk")
        self.kill_command(receive)
        self.kill_command(migrate)
        self.assertNotIn("lost", self.operator("status").process.log())
        for path in self.copies().values():
            path.write_text(re.sub("(?m)^boot .*$", "boot of another time", path.read_text()))
        run_directory = self.run_directory[1]
        os.rename(run_directory, run_directory + ".kept")
        lost = {line["role"]: line for line in self.operator("status").events}
        self.assertEqual({"source", "destination"}, set(lost))
        for role, line in lost.items():
            self.assertEqual(("lost", "destination", str(self.copies()[role])),
                             (line["phase"], line["vm_owner"], line["state_file"]))
        # As if nothing had been: the migration goes on, and what is on disk goes with its end.
        os.rename(run_directory, run_directory + ".other")
        os.rename(run_directory + ".kept", run_directory)
        commands = [self.resume(side) for side in ("receive", "migrate")]
        for command in commands:
            self.assertEqual(0, command.wait(60), command.describe())
        self.assertEqual({}, self.copies())
        self.assert_works(destination)


class Dump(RecoveryCase):
    """`faultline abandon --dump`: what is there is saved, and nothing missing passes for zeros."""

    def dump(self):
        path = os.path.join(self.workdir, "vm.ram")
        command = self.operator("abandon", "--dump", path)
        self.assertEqual(0, command.process.child.returncode, command.describe())
        with open(path + ".json") as file:
            region, = json.load(file)["regions"]
        missing = {page for first, count in region["missing"]
                   for page in range(first, first + count)}
        self.assertEqual(len(missing), command.last["pages_missing"])
        self.assertGreater(len(missing), 0)
        self.assertLess(len(missing), command.last["pages_total"])
        return path, missing

    def test_compared_with_the_source(self):
        """A VM that was paused has not changed since: each page that is there is the source's."""
        source = self.working()
        source.qmp.execute("stop")
        destination = self.waiting()
        receive = self.receive(destination, extra=self.run_directory)
        migrate = self.send(source, receive.port, extra=(*SLOW, *self.run_directory))
        self.wait_until(lambda: any(event.get("pages_pushed", 0) > 500
                                    for event in receive.events), 20, "some memory has arrived")
        self.kill_command(receive)
        self.kill_command(migrate)
        path, missing = self.dump()
        different = set(memory.differing_pages(path, source.backends[0].path))
        self.assertEqual(set(), different - missing)
        # What is missing is a hole, and by far not all of it is zeros at the source.
        self.assertGreater(len(different), 500)

    def test_of_a_vm_that_stands_still(self):
        """Its monitor is never asked; when the source's memory is found after all, it goes on."""
        source, destination, receive, migrate, _ = self.post_copy(extra=self.run_directory)
        time.sleep(0.5)
        self.kill_command(migrate)
        in_the_way = self.operator("abandon", "--dump", os.path.join(self.workdir, "no"))
        self.assertEqual(2, in_the_way.process.child.returncode, in_the_way.describe())
        self.assertIn(f"process {receive.process.pid}", in_the_way.stderr())
        self.kill_command(receive)
        source.process.kill()
        time.sleep(1)
        self.dump()
        self.go_on(destination)

    def go_on(self, destination):
        """The source comes back after all."""
        for command in [self.resume("receive"), self.resume("migrate")]:
            self.assertEqual(0, command.wait(90), command.describe())
        self.assert_works(destination)

    def test_of_a_vm_under_kvm(self):
        """Its virtual processor waits for a page, and a SIGSTOP does not reach it there."""
        source = self.working(mib=64, accel="kvm")
        destination = self.waiting(mib=64, accel="kvm")
        receive = self.receive(destination, extra=self.run_directory)
        migrate = self.send(source, receive.port, extra=(*SLOW, *self.run_directory))
        destination.wait_status("running")
        time.sleep(0.5)
        self.kill_command(migrate)
        self.kill_command(receive)
        time.sleep(1)
        self.dump()
        self.go_on(destination)


class Poison(RecoveryCase):
    """`faultline abandon --poison`: a page that can never come is an error, not zeros."""

    SURE = "--i-know-the-source-is-dead"

    def lost_source(self, destination_backends=None, **options):
        source = self.working(**options)
        destination = self.waiting(backends=destination_backends, **options)
        receive = self.receive(destination, extra=self.run_directory)
        migrate = self.send(source, receive.port, extra=(*SLOW, *self.run_directory))
        destination.wait_status("running")
        time.sleep(0.5)
        self.kill_command(migrate)
        self.kill_command(receive)
        source.process.kill()
        return destination

    def test_without_kvm_qemu_dies_as_said(self):
        destination = self.lost_source()
        explained = self.operator("abandon", "--poison")
        self.assertEqual(2, explained.process.child.returncode, explained.describe())
        self.assertIn("QEMU dies of a SIGBUS", explained.stderr())
        self.assertFalse(explained.last["kvm"])
        self.assertTrue(destination.process.alive())
        poisoned = self.operator("abandon", "--poison", self.SURE)
        self.assertEqual(0, poisoned.process.child.returncode, poisoned.describe())
        self.assertGreater(poisoned.last["pages_poisoned"], 1000)
        # The guest walks through all of its memory.
        self.assertEqual(128 + signal.SIGBUS, destination.process.wait(20))
        again = self.operator("receive", "--resume", poisoned.last["id"])
        self.assertEqual(2, again.process.child.returncode, again.describe())

    def test_under_kvm_nobody_reads_zeros(self):
        destination = self.lost_source(mib=64, accel="kvm")
        poisoned = self.operator("abandon", "--poison", self.SURE)
        self.assertEqual(0, poisoned.process.child.returncode, poisoned.describe())
        self.assertTrue(poisoned.last["kvm"])
        # A machine check, for which this guest has no handler: the machine resets, which ends QEMU
        # (-no-reboot). Where the host cannot deliver one, QEMU dies of the SIGBUS.
        self.assertIn(destination.process.wait(60), (0, 128 + signal.SIGBUS))

    def test_refused_where_a_huge_page_could_cover_the_poison(self):
        folder = self.tmpfs("size=200m,huge=advise")
        destination = self.lost_source([Backend(MIB, path=os.path.join(folder, "ram"))])
        refused = self.operator("abandon", "--poison", self.SURE)
        self.assertEqual(1, refused.process.child.returncode, refused.describe())
        self.assertIn("remount,huge=never", refused.stderr())
        run("mount", "-o", "remount,huge=never", folder)
        poisoned = self.operator("abandon", "--poison", self.SURE)
        self.assertEqual(0, poisoned.process.child.returncode, poisoned.describe())
        self.assertEqual(128 + signal.SIGBUS, destination.process.wait(20))
