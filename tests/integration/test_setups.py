"""Wrong set-ups: each ends with a sentence that names the cause, the VM running on the source."""

import os
import re
import socket
import subprocess
import threading

from rig import faultline, memory
from rig.case import MigrationCase
from rig.process import run
from rig.vm import Backend

MIB = 192


def qemu_version(path):
    text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    return tuple(int(part) for part in re.search(r"version (\d+)\.(\d+)", text).groups())


class Setups(MigrationCase):
    def attempt(self, source, destination, **options):
        """Runs receive and migrate and returns all they said.

        `receive` may refuse before it listens; it may also still wait, when `migrate` found the
        cause on its own side before it called.
        """
        self.require_engine()
        receive = faultline.receive(destination, self.workdir + "/receive.log",
                                    extra=options.get("receive_extra", ()))
        self._own(receive)
        said = ""
        try:
            port = receive.port
        except AssertionError:
            port = None  # it refused at once
        if port:
            migrate = faultline.migrate(source, f"tcp://127.0.0.1:{port}",
                                        self.workdir + "/migrate.log",
                                        extra=options.get("migrate_extra", ()))
            self._own(migrate)
            self.assert_failed(migrate, migrate.wait(60), 1, "source")
            said += migrate.last["error"]
        try:
            status = receive.wait(10)
        except AssertionError:
            self.assertEqual("", destination.log())
            self.assertEqual([], receive.events[1:], "it has heard of a peer and must end")
            receive.kill()
            return said
        self.assert_failed(receive, status, 1, "source")
        return said + " " + receive.last["error"]

    def assert_refused(self, source, destination, *words, **options):
        """Refused with a sentence that holds the words; the guest works on at the source."""
        said = self.attempt(source, destination, **options)
        for word in words:
            self.assertIn(word.lower(), said.lower())
        self.assertEqual("running", source.status())
        self.assert_boot_sector_right(source)

    def booted(self, **options):
        vm = self.vm("src", **{"mib": MIB, **options}, boot_sector=True).start()
        vm.serial.wait_line("R 00000002")
        return vm

    def waiting(self, **options):
        return self.vm("dst", **{"mib": MIB, "incoming": True, **options}, boot_sector=True).start()

    # --- memory that cannot be moved

    def test_ram_not_shared(self):
        source = self.booted(backends=[self.backend(MIB, share=False)])
        self.assert_refused(source, self.waiting(), "share")

    def test_ram_not_in_a_file(self):
        source = self.booted(backends=[Backend(MIB, kind="ram", share=False)])
        self.assert_refused(source, self.waiting(), "memory-backend-file")

    def test_memfd_backend(self):
        source = self.booted(backends=[Backend(MIB, kind="memfd")])
        if qemu_version(source.qemu) < (8, 1):
            self.skipTest("QEMU before 8.1 leaves out shared memfd blocks: not refused there")
        self.assert_refused(source, self.waiting(), "memfd", "memory-backend-file")

    def test_sizes_differ(self):
        self.assert_refused(self.booted(), self.waiting(mib=MIB * 2), "size")

    def test_number_of_backends_differs(self):
        destination = self.waiting(backends=[self.backend(MIB // 2), self.backend(MIB // 2)])
        self.assert_refused(self.booted(), destination, "region")

    def test_page_sizes_differ(self):
        huge = memory.HugePages(MIB + 8, os.path.join(self.ramdir, "huge"))
        self.addCleanup(huge.close)
        backend = Backend(MIB, path=os.path.join(huge.directory, "ram"))
        self.assert_refused(self.booted(), self.waiting(backends=[backend]), "page size")

    def test_balloon_on_huge_pages(self):
        huge = memory.HugePages(2 * MIB + 16, os.path.join(self.ramdir, "huge"))
        self.addCleanup(huge.close)
        backends = [[Backend(MIB, path=os.path.join(huge.directory, name))] for name in "ab"]
        balloon = ("-device", "virtio-balloon-pci")
        source = self.booted(backends=backends[0], extra=balloon)
        self.assert_refused(source, self.waiting(backends=backends[1], extra=balloon), "balloon")

    def test_memory_locked(self):
        destination = self.waiting(extra=("-overcommit", "mem-lock=on"))
        self.assert_refused(self.booted(), destination, "mem-lock")

    # --- the destination's RAM file

    def test_ram_file_is_the_sources_own(self):
        source = self.booted()
        destination = self.waiting(backends=[Backend(MIB, path=source.backends[0].path)])
        self.assert_refused(source, destination, source.backends[0].path)

    def test_ram_file_mapped_by_another_process(self):
        backend = self.backend(MIB)
        other = self.vm("other", backends=[backend], hook=False).start()
        other.qmp.execute("stop")
        self.assert_refused(self.booted(), self.waiting(backends=[backend]), backend.path)

    def test_no_room(self):
        small = os.path.join(self.ramdir, "small")
        os.mkdir(small)
        run("mount", "-t", "tmpfs", "-o", "size=96M", "none", small)
        self.addCleanup(run, "umount", "-l", small)
        backend = Backend(MIB, path=os.path.join(small, "ram"))
        self.assert_refused(self.booted(), self.waiting(backends=[backend]), "room")

    def test_tmpfs_with_huge_pages_always(self):
        huge = os.path.join(self.ramdir, "thp")
        os.mkdir(huge)
        run("mount", "-t", "tmpfs", "-o", "huge=always", "none", huge)
        self.addCleanup(run, "umount", "-l", huge)
        backend = Backend(MIB, path=os.path.join(huge, "ram"))
        self.assert_refused(self.booted(), self.waiting(backends=[backend]), "huge=")

    # --- hook, monitor, capabilities

    def test_hook_absent(self):
        self.assert_refused(self.booted(), self.waiting(hook=False), "hook", "-plugin")

    def test_hook_socket_is_not_ours(self):
        destination = self.waiting(hook=False)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(destination.hook_socket)
        listener.listen(4)
        self.addCleanup(listener.close)

        def chatter():
            while True:
                try:
                    connection, _ = listener.accept()
                    connection.sendall(b"220 mail.example ESMTP\r\n" * 20)
                except OSError:
                    return
        threading.Thread(target=chatter, daemon=True).start()
        self.assert_refused(self.booted(), destination, "hook")

    def test_destination_does_not_wait(self):
        destination = self.vm("dst", mib=MIB, boot_sector=True, extra=("-S",)).start()
        self.assert_refused(self.booted(), destination, "-incoming defer")

    def test_postcopy_ram_is_set(self):
        source = self.booted()
        source.qmp.execute("migrate-set-capabilities",
                           capabilities=[{"capability": "postcopy-ram", "state": True}])
        self.assert_refused(source, self.waiting(), "postcopy-ram")

    def test_monitor_held_by_someone_else(self):
        source = self.booted()
        holder = socket.socket(socket.AF_UNIX)
        self.addCleanup(holder.close)
        holder.connect(source.engine_qmp)
        self.assert_refused(source, self.waiting(), "monitor")

    def test_device_missing_on_the_destination(self):
        source = self.booted(extra=("-device", "virtio-rng-pci"))
        destination = self.waiting()
        self.assert_refused(source, destination)
        self.wait_until(lambda: not destination.process.alive(), 10, "the destination's QEMU ended")


class Peers(MigrationCase):
    """`migrate` against a peer that is no faultline, and `receive` against strangers."""

    every_qemu = False

    def serve(self, answer):
        """A TCP server that sends `answer` to everyone and then only listens; returns its port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        kept = []

        def loop():
            while True:
                try:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    connection.sendall(answer)
                except OSError:
                    return
        threading.Thread(target=loop, daemon=True).start()
        return listener.getsockname()[1]

    def migrate_to(self, port):
        self.require_engine()
        source = self.vm("src", mib=MIB, boot_sector=True).start()
        source.serial.wait_line("R 00000002")
        command = faultline.migrate(source, f"tcp://127.0.0.1:{port}", self.workdir + "/migrate.log")
        self._own(command)
        self.assert_failed(command, command.wait(60), 1, "source")
        self.assertEqual("running", source.status())
        self.assert_boot_sector_right(source)
        return command

    def test_peer_sends_garbage(self):
        self.migrate_to(self.serve(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40))

    def test_peer_sends_too_much(self):
        self.migrate_to(self.serve(b"\xff" * 4_000_000))

    def test_peer_sends_nothing(self):
        self.migrate_to(self.serve(b""))

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        command = self.migrate_to(port)
        self.assertIn(str(port), command.last["error"])

    def test_receive_outlives_or_refuses_garbage(self):
        """A stranger's bytes must neither crash `receive` nor start the VM."""
        self.require_engine()
        destination = self.vm("dst", mib=MIB, incoming=True).start()
        receive = faultline.receive(destination, self.workdir + "/receive.log")
        self._own(receive)
        with socket.create_connection(("127.0.0.1", receive.port)) as stranger:
            try:
                stranger.sendall(b"\xff" * 100_000)
            except OSError:
                pass  # thrown out already
        try:
            status = receive.wait(5)
            self.assert_failed(receive, status, 1, "source")
        except AssertionError:
            if not receive.process.alive():
                raise
            self.assertEqual("inmigrate", destination.status())

    def test_port_taken(self):
        self.require_engine()
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        destination = self.vm("dst", mib=MIB, incoming=True).start()
        receive = faultline.receive(destination, self.workdir + "/receive.log",
                                    listen=f"tcp://127.0.0.1:{port}")
        self._own(receive)
        self.assert_failed(receive, receive.wait(20), 1, "source", str(port), "in use")

    def test_beyond_loopback_needs_insecure(self):
        self.require_engine()
        destination = self.vm("dst", mib=MIB, incoming=True).start()
        receive = faultline.receive(destination, self.workdir + "/receive.log",
                                    listen="tcp://0.0.0.0:0")
        self._own(receive)
        self.assertIn(receive.wait(20), (1, 2), receive.describe())
        self.assertIn("--insecure", receive.stderr() + str(receive.last))

    def test_bad_usage(self):
        self.require_engine()
        for number, words in enumerate((["migrate"], ["receive", "--listen", "tcp://x"],
                                        ["migrate", "--to", "nonsense", "--qmp", "unix:/x"],
                                        ["frobnicate"])):
            command = faultline.Command(words, f"{self.workdir}/usage{number}.log")
            self._own(command)
            self.assertEqual(2, command.wait(10), command.describe())
            self.assertTrue(command.stderr(), "it must say what is wrong")
