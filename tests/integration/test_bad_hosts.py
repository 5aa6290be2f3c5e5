"""Hook, monitor, devices, rights and command lines that are wrong: each with cause and mend.

What cannot exist on a test machine (VFIO, vDPA, SEV/TDX, a kernel without a feature) is tested on
facts, in tests/vmm/qemu, tests/memory and tests/hook.
"""

import os
import socket
import threading

from rig import faultline, memory
from rig.refusal import RefusalCase
from rig.small import MIB, SmallVmCase
from rig.unprivileged import AS_NOBODY, UnprivilegedCase
from rig.vhost_user import VhostUserBackEnd
from rig.vm import Backend


class HookSocket(RefusalCase):
    every_qemu = False  # QEMU has no part in it

    def serve(self, path, kind, answer):
        """A socket that takes everybody and says only `answer`."""
        listener = socket.socket(socket.AF_UNIX, kind)
        listener.bind(path)
        listener.listen(4)
        self.addCleanup(listener.close)
        kept = []

        def loop():
            while True:
                try:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    if answer:
                        connection.sendall(answer)
                except OSError:
                    return
        threading.Thread(target=loop, daemon=True).start()

    def test_hook_absent(self):
        self.refused_by_destination(self.waiting(hook=False), "hook", "not loaded", "-plugin")

    def test_stream_socket(self):
        destination = self.waiting(hook=False)
        self.serve(destination.hook_socket, socket.SOCK_STREAM, b"220 mail.example ESMTP\r\n")
        self.refused_by_destination(destination, destination.hook_socket, "not a Faultline hook")

    def test_silent_socket(self):
        destination = self.waiting(hook=False)
        self.serve(destination.hook_socket, socket.SOCK_SEQPACKET, b"")
        self.refused_by_destination(destination, destination.hook_socket, "not a Faultline hook",
                                    "no answer within")

    def test_socket_that_talks_rubbish(self):
        destination = self.waiting(hook=False)
        self.serve(destination.hook_socket, socket.SOCK_SEQPACKET, b"\xff" * 200)
        self.refused_by_destination(destination, destination.hook_socket, "not a Faultline hook")

    def test_hook_of_another_vm(self):
        other, destination = self.waiting(), self.waiting(hook=False)
        destination.hook_socket = other.hook_socket
        self.refused_by_destination(destination, "'ram0'", str(other.pid()), "same VM")
        self.assertEqual("inmigrate", other.status())


class Monitor(RefusalCase):
    def test_destination_does_not_wait(self):
        destination = self.small("dst", extra=("-S",)).start()
        self.refused_by_destination(destination, "-incoming defer")
        self.assertEqual("prelaunch", destination.status(), "it is somebody's VM: not touched")

    def test_running_vm_given_as_destination(self):
        other = self.working()
        self.refused_by_destination(other, "running", "-incoming defer", source=other)

    def test_waiting_vm_given_as_source(self):
        source, destination = self.waiting(), self.waiting()
        receive = self.receive(destination)
        migrate = self.send(source, receive.port)
        self.assert_failed(migrate, migrate.wait(20), 1, "source", "waits for a migration itself")
        self.assertEqual("inmigrate", source.status())

    def test_monitor_held_by_someone_else(self):
        source, destination = self.working(), self.waiting()
        holder = socket.socket(socket.AF_UNIX)
        self.addCleanup(holder.close)
        holder.connect(source.engine_qmp)
        self.refused_by_source(source, destination, "held by another client", "second monitor")

    def test_destination_monitor_held_by_someone_else(self):
        destination = self.waiting()
        holder = socket.socket(socket.AF_UNIX)
        self.addCleanup(holder.close)
        holder.connect(destination.engine_qmp)
        self.refused_by_destination(destination, "held by another client", "second monitor")

    def test_no_monitor_there(self):
        source, destination = self.working(), self.waiting()
        source.engine_qmp += ".not"
        self.refused_by_source(source, destination, source.engine_qmp, "-qmp unix:")

    def test_monitor_is_something_else(self):
        """The serial port's socket, for example, or a human monitor."""
        source = self.working(extra=("-chardev", f"socket,id=h,path={self.workdir}/human,server=on,"
                                     "wait=off", "-mon", "chardev=h,mode=readline"))
        source.engine_qmp = f"{self.workdir}/human"
        self.refused_by_source(source, self.waiting(), "no QMP monitor", "-qmp unix:")

    def test_postcopy_ram_is_set(self):
        source = self.working()
        self.set_capability(source, "postcopy-ram")
        self.refused_by_source(source, self.waiting(), "postcopy-ram", "switch it off")
        self.assertEqual({"postcopy-ram"}, self.capabilities(source), "as it was")

    def test_postcopy_ram_is_set_on_the_destination(self):
        destination = self.waiting()
        self.set_capability(destination, "postcopy-ram")
        self.refused_by_destination(destination, "postcopy-ram", "switch it off")

    def set_capability(self, vm, name):
        vm.qmp.execute("migrate-set-capabilities",
                       capabilities=[{"capability": name, "state": True}])

    def test_another_migration_under_way(self):
        source = self.working()
        self.set_capability(source, "pause-before-switchover")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self.workdir}/slow")
        listener.listen(1)
        self.addCleanup(listener.close)
        source.qmp.execute("migrate-set-parameters", max_bandwidth=65536)
        source.qmp.execute("migrate", uri=f"unix:{self.workdir}/slow")
        self.wait_until(
            lambda: source.qmp.execute("query-migrate").get("status") == "active", 10, "it migrates")
        self.refused_by_source(source, self.waiting(), "another migration", "migrate_cancel")
        self.assertEqual("active", source.qmp.execute("query-migrate")["status"], "not ours to end")


class Devices(RefusalCase):
    def test_vhost_user(self):
        back_end = VhostUserBackEnd(f"{self.workdir}/vu")
        self.addCleanup(back_end.close)
        source = self.working(extra=(
            "-chardev", f"socket,id=vu,path={self.workdir}/vu", "-netdev", "vhost-user,id=n,chardev=vu",
            "-device", "virtio-net-pci,netdev=n,romfile="))
        self.refused_by_source(source, self.waiting(), "vhost-user", "tap")

    def test_memory_locked(self):
        # All of QEMU is locked, so its buffer for translated code must be small.
        destination = self.waiting(accel="tcg,tb-size=8", extra=("-overcommit", "mem-lock=on"))
        self.refused_by_destination(destination, "mem-lock=on", "without")

    def test_balloon_on_huge_pages(self):
        huge = memory.HugePages(2 * MIB + 8, os.path.join(self.workdir, "huge"))
        self.addCleanup(huge.close)
        balloon = ("-device", "virtio-balloon-pci")
        backends = [[Backend(MIB, path=os.path.join(huge.directory, name))] for name in "ab"]
        source = self.working(backends=backends[0], extra=balloon)
        self.refused_by_source(source, self.waiting(), "balloon", "hugetlbfs")
        destination = self.waiting(backends=backends[1], extra=balloon)
        self.refused_by_destination(destination, "balloon", "hugetlbfs", source=source)

    def test_device_missing_on_the_destination(self):
        """Found out by QEMU itself while it loads: the VM goes back to work on the source."""
        source = self.working(extra=("-device", "virtio-rng-pci"))
        self.refused_together(source, self.waiting(), "load", "device", "command lines")

    def test_machine_differs(self):
        self.refused_together(self.working(), self.waiting(machine="q35", boot_sector=False),
                              "load", "command lines")


class Rights(UnprivilegedCase, RefusalCase):
    """QEMU, or everything, as a user without rights."""

    def setUp(self):
        super().setUp()
        with open("/proc/sys/vm/unprivileged_userfaultfd") as file:
            if file.read().strip() != "0":
                self.skipTest("vm.unprivileged_userfaultfd is 1 here: everybody may make one")

    def test_nobody_may_make_a_userfaultfd(self):
        source, destination = self.working(), self.unprivileged()
        self.assertFalse(os.stat("/dev/userfaultfd").st_mode & 0o006)
        receive = self.receive(destination, wrap=AS_NOBODY,
                               extra=("--run-directory", os.path.join(self.workdir, "run")))
        self.assertGreater(receive.port, 0)
        migrate = self.send(source, receive.port)
        words = ("may not make a userfaultfd", "/dev/userfaultfd", "as root",
                 "vm.unprivileged_userfaultfd=1")
        self.assert_failed(migrate, migrate.wait(30), 1, "source", *words)
        self.assert_failed(receive, receive.wait(30), 1, "source", *words)
        self.assert_works(source)

    def test_root_passes_the_right_on(self):
        """QEMU without rights is fine when `receive` has them."""
        self.completes(self.working(), self.unprivileged())

    def test_stranger_at_the_hook(self):
        """Only the hook's own user and root may talk to it."""
        destination = self.waiting()
        os.chmod(destination.hook_socket, 0o777)
        os.chmod(destination.engine_qmp, 0o777)
        receive = self.receive(destination, wrap=AS_NOBODY,
                               extra=("--run-directory", os.path.join(self.workdir, "run")))
        self.assert_failed(receive, receive.wait(20), 1, "source", "as root")
        self.assertEqual("inmigrate", destination.status())


class CommandLine(SmallVmCase):
    """Bad usage is 2, with a sentence on stderr, and nothing is touched."""

    every_qemu = False

    def assert_usage(self, words, *said):
        command = faultline.Command(words, self._log("usage"))
        self._own(command)
        self.assertEqual(2, command.wait(10), command.describe())
        for word in said:
            self.assertIn(word, command.stderr())
        return command

    def test_beyond_loopback_needs_secrets_or_insecure(self):
        source, destination = self.working(), self.waiting()
        for address in ("0.0.0.0", "192.0.2.1", "[::]"):
            self.assert_usage(["receive", "--listen", f"tcp://{address}:0", "--json",
                               "--qmp", f"unix:{destination.engine_qmp}",
                               "--hook", f"unix:{destination.hook_socket}"],
                              "TLS", "/etc/pki/faultline or /etc/pki/qemu", "--tls-dir",
                              "--tls-psk", "--insecure")
        self.assert_usage(["migrate", "--to", "tcp://192.0.2.1:7000", "--json",
                           "--qmp", f"unix:{source.engine_qmp}"], "TLS", "--tls-dir", "--insecure")
        self.assertEqual("inmigrate", destination.status())
        self.assert_works(source)

    def test_bad_usage(self):
        qmp = ["--qmp", "unix:/x"]
        for words, said in (
                ([], "subcommand"), (["frobnicate"], "frobnicate"),
                (["migrate"], "--to"), (["migrate", "--to", "tcp://127.0.0.1:1"], "--qmp"),
                (["migrate", "--to", "nonsense", *qmp], "tcp://HOST:PORT"),
                (["migrate", "--to", "rdma://127.0.0.1", *qmp], "rdma://HOST:PORT"),
                (["migrate", "--to", "rdma://127.0.0.1:1", *qmp, "--integrity", "on"], "rdma://"),
                (["migrate", "--to", "rdma://127.0.0.1:1", *qmp, "--mode", "hybrid",
                  "--hook", "unix:/h"], "over rdma://"),
                (["migrate", "--to", "tcp://127.0.0.1:99999", *qmp], "65535"),
                (["migrate", "--to", "tcp://127.0.0.1:1", "--qmp", "tcp:x"], "unix:"),
                (["migrate", "--to", "tcp://127.0.0.1:1", "--bandwidth", "fast", *qmp], "--bandwidth"),
                (["migrate", "--to", "tcp://127.0.0.1:1", "--mode", "teleport", *qmp], "--mode"),
                (["migrate", "--to", "tcp://127.0.0.1:1", "--sandbox", "maybe", *qmp], "--sandbox"),
                (["migrate", "--to", "tcp://127.0.0.1:1", "--push-order", "fastest", *qmp],
                 "fault-around"),
                (["migrate", "--to", "tcp://127.0.0.1:1", "--mode", "hybrid", *qmp], "postcopy"),
                (["receive", "--listen", "tcp://127.0.0.1:0"], "--qmp"),
                (["receive", "--listen", "tcp://127.0.0.1:0", *qmp, "--hook", "unix:/h", "--", "q"],
                 "leave"),
                (["migrate", "--to", "tcp://192.0.2.1:1", "--tls-dir", "/d", "--tls-psk", "/f", *qmp],
                 "exclude"),
                (["migrate", "--to", "tcp://192.0.2.1:1", "--tls-dir", "/d", "--insecure", *qmp],
                 "--insecure"),
                (["migrate", "--to", "tcp://127.0.0.1:1", "--tls-hostname", "h", *qmp], "--tls-dir"),
                (["cancel"], "id")):
            with self.subTest(words=words):
                self.assert_usage(words, said)

    def test_port_taken(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        destination = self.waiting()
        receive = self.receive(destination, listen=f"tcp://127.0.0.1:{port}")
        self.assert_failed(receive, receive.wait(20), 1, "source", f":{port}", "taken",
                           "another port")

    def test_address_of_another_host(self):
        receive = self.receive(self.waiting(), listen="tcp://192.0.2.1:0", extra=("--insecure",))
        self.assert_failed(receive, receive.wait(20), 1, "source", "192.0.2.1", "address")
