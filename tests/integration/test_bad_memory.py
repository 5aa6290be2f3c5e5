"""RAM that cannot be moved, or has no place to move to: each with its cause and its mend."""

import mmap
import os
import re
import subprocess

from rig import memory
from rig.process import run
from rig.refusal import RefusalCase
from rig.small import MIB
from rig.vm import Backend


def qemu_version(path):
    text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    return tuple(int(part) for part in re.search(r"version (\d+)\.(\d+)", text).groups())


class Kinds(RefusalCase):
    """What backs the guest's RAM."""

    def test_ram_not_shared(self):
        source = self.working(backends=[self.backend(MIB, share=False)])
        self.refused_by_source(source, self.waiting(), "'ram0'", "not shared", "add share=on")

    def test_ram_not_shared_on_the_destination(self):
        destination = self.waiting(backends=[self.backend(MIB, share=False)])
        self.refused_by_destination(destination, "'ram0'", "not shared", "add share=on")

    def test_ram_not_in_a_file(self):
        source = self.working(backends=[Backend(MIB, kind="ram", share=False)])
        self.refused_by_source(source, self.waiting(), "memory-backend-ram", "no file",
                               "memory-backend-file", "share=on")

    def test_ram_without_a_backend(self):
        source = self.working(backends=[Backend(MIB, kind="none")])
        self.refused_by_source(source, self.waiting(), "memory-backend-file", "share=on")

    def test_ram_in_a_memfd(self):
        source = self.working(backends=[Backend(MIB, kind="memfd")])
        cause = "8.1" if qemu_version(source.qemu) >= (8, 1) else "no file"
        self.refused_by_source(source, self.waiting(), "memory-backend-memfd", cause,
                               "memory-backend-file")

    def test_ram_in_a_memfd_on_the_destination(self):
        destination = self.waiting(backends=[Backend(MIB, kind="memfd")])
        self.refused_by_destination(destination, "memory-backend-memfd", "memory-backend-file")

    def test_more_memory_in_a_shared_backend_without_a_file(self):
        """A block that a QEMU before 8.1 leaves out of its stream, and that is no region of ours."""
        source = self.working(
            memory="slots=2,maxmem=256M",
            extra=("-object", "memory-backend-ram,id=more,size=128M,share=on",
                   "-device", "pc-dimm,memdev=more"))
        self.refused_by_source(source, self.waiting(), "'more'", "memory-backend-ram",
                               "memory-backend-file")

    def test_ivshmem(self):
        source = self.working(extra=("-object", "memory-backend-ram,id=shared,size=1M,share=on",
                                     "-device", "ivshmem-plain,memdev=shared"))
        self.refused_by_source(source, self.waiting(), "ivshmem", "unplug it")

    def test_ram_file_on_a_disk(self):
        path = os.path.join(self.workdir, "ram")
        if run("stat", "-f", "-c", "%T", self.workdir).strip() == "tmpfs":
            self.skipTest("/tmp is a tmpfs here: no disk to put a RAM file on")
        destination = self.waiting(backends=[Backend(MIB, path=path)])
        self.refused_by_destination(destination, path, "disk", "/dev/shm")

    def test_tmpfs_with_huge_pages(self):
        for option in ("always", "within_size"):
            with self.subTest(option):
                folder = self.tmpfs(f"huge={option}")
                destination = self.waiting(backends=[Backend(MIB, path=folder + "/ram")])
                self.refused_by_destination(destination, f"huge={option}", "huge=never")


class Layouts(RefusalCase):
    def test_sizes_differ(self):
        self.refused_together(self.working(), self.waiting(mib=2 * MIB), "'ram0'",
                              str(MIB << 20), str(MIB << 21), "same memory size")

    def test_counts_differ(self):
        destination = self.waiting(backends=[self.backend(MIB // 2), self.backend(MIB // 2)])
        self.refused_together(self.working(), destination, "1 RAM blocks", "the destination 2",
                              "same memory backends")

    def test_names_differ(self):
        destination = self.waiting(backends=[self.backend(MIB, id="other")])
        self.refused_together(self.working(), destination, "'ram0'", "'other'", "same id")

    def test_page_sizes_differ(self):
        huge = memory.HugePages(MIB + 4, os.path.join(self.workdir, "huge"))
        self.addCleanup(huge.close)
        backend = Backend(MIB, path=os.path.join(huge.directory, "ram"))
        self.refused_together(self.working(), self.waiting(backends=[backend]), "4096", "2097152",
                              "same page size")

    def plug(self, vm):
        """Plugs a DIMM into a running VM."""
        path = os.path.join(self.ramdir, f"{vm.name}.dimm")
        vm.qmp.execute("object-add", **{"qom-type": "memory-backend-file", "id": "dimm",
                                        "size": 128 << 20, "mem-path": path, "share": True})
        vm.qmp.execute("device_add", driver="pc-dimm", id="dimm0", memdev="dimm")

    def plugged_while_stopped_at(self, point, who, *words):
        """Both could take the DIMM; it comes after the layouts were compared."""
        options = {"memory": "slots=2,maxmem=256M"}
        source, destination = self.working(**options), self.waiting(**options)
        receive = self.receive(destination)
        relay = self.relay(receive.port)
        relay.hold_at(point)
        migrate = self.send(source, relay.port)
        relay.wait_held()
        self.plug({"source": source, "destination": destination}[who])
        relay.release()
        self.assert_failed(migrate, migrate.wait(30), 1, "source", *words)
        self.assert_failed(receive, receive.wait(30), 1, "source", *words)
        self.assert_gone(destination)
        self.assert_works(source)
        self.assertEqual(set(), self.capabilities(source))

    def test_source_plugged_before_the_freeze(self):
        self.plugged_while_stopped_at("Ready", "source", "plugged", "again")

    def test_destination_plugged_before_it_accepts(self):
        self.plugged_while_stopped_at("Offer", "destination", "destination's memory changed")


class DestinationFile(RefusalCase):
    """What is in the destination's RAM file, and who else has it."""

    def test_leftovers_are_emptied(self):
        """A used file that nobody else has: emptied, or old bytes would show up in the guest."""
        source = self.working()
        backend = self.backend(MIB)
        with open(backend.path, "wb") as file:
            file.write(b"\xee" * (MIB << 20))
        self.completes(source, self.waiting(backends=[backend]))

    def test_preallocated_ram_is_emptied(self):
        self.completes(self.working(), self.waiting(backends=[
            self.backend(MIB, extra=",prealloc=on")]))

    def test_leftovers_that_another_process_has_open(self):
        backend = self.backend(MIB)
        with open(backend.path, "wb") as file:
            file.write(b"\xee" * (MIB << 20))
            file.flush()
            self.refused_by_destination(self.waiting(backends=[backend]), "'ram0'", "holds data",
                                        str(os.getpid()), "new, empty file")
        with open(backend.path, "rb") as file:
            self.assertEqual(b"\xee" * 4096, file.read(4096), "somebody else's data is untouched")

    def test_mapped_by_another_process(self):
        backend = self.backend(MIB)
        with open(backend.path, "wb+") as file:
            file.truncate(MIB << 20)
            mapping = mmap.mmap(file.fileno(), MIB << 20)
        self.addCleanup(mapping.close)
        self.refused_by_destination(self.waiting(backends=[backend]), "'ram0'", "mapped",
                                    str(os.getpid()), "file of its own")

    def test_ram_file_is_the_sources_own(self):
        source = self.working()
        destination = self.waiting(backends=[Backend(MIB, path=source.backends[0].path)])
        self.refused_by_destination(destination, "'ram0'", "mapped", str(source.pid()),
                                    "file of its own", source=source)


class Room(RefusalCase):
    def test_tmpfs_too_small(self):
        folder = self.tmpfs(f"size={MIB // 2}M")
        destination = self.waiting(backends=[Backend(MIB, path=folder + "/ram")])
        self.refused_by_destination(destination, "no room", folder, "remount,size")

    def test_too_few_huge_pages(self):
        huge = memory.HugePages(4, os.path.join(self.workdir, "huge"))
        self.addCleanup(huge.close)
        # Without a reservation, or QEMU itself would not start.
        backend = Backend(MIB, path=os.path.join(huge.directory, "ram"), extra=",reserve=off")
        self.refused_by_destination(self.waiting(backends=[backend]), "no room", "huge pages",
                                    "nr_hugepages")

    def test_memory_limit_of_the_cgroup(self):
        destination = self.waiting(mib=512)
        limit = 300 << 20
        folder, file = self.limited_cgroup(limit)
        with open(os.path.join(folder, "cgroup.procs"), "w") as procs:
            procs.write(str(destination.pid()))
        self.refused_by_destination(destination, "no room", "cgroup", "raise", file)

    def limited_cgroup(self, limit_bytes):
        """A memory cgroup of its own, version 2 or 1; its folder and the name of its limit."""
        name = f"faultline-test-{os.getpid()}-{os.path.basename(self.workdir)}"
        for root, file in (("/sys/fs/cgroup", "memory.max"),
                           ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
            folder = os.path.join(root, name)
            try:
                os.mkdir(folder)
            except OSError:
                continue
            self.addCleanup(self._remove_cgroup, folder)
            if os.path.exists(os.path.join(folder, file)):
                with open(os.path.join(folder, file), "w") as limit:
                    limit.write(str(limit_bytes))
                return folder, file
            os.rmdir(folder)
        self.skipTest("no memory cgroup can be made here")

    def _remove_cgroup(self, folder):
        def removed():
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                return False  # QEMU is still ending
            return True
        for vm in self.vms:
            vm.kill()
        self.wait_until(removed, 5, f"{folder} is removed")
