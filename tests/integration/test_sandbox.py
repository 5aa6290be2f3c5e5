"""What both commands can still do while the VM's memory follows it, as root and as a user without
rights, and what they leave on the host. All other tests run in the same sandbox: it is the default."""

import os
import signal
import stat
import sys

import rig
from rig import paths
from rig.faultline import Command
from rig.small import SmallVmCase
from rig.unprivileged import AS_NOBODY, NOBODY, UnprivilegedCase

KILL = 1 << 5
NET_ADMIN = 1 << 12
SYS_ADMIN = 1 << 21


def facts_of(path):
    """A /proc status file as {key: value}."""
    with open(path, encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def threads(pid):
    """{a thread's name and id: its status} of a process."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        facts = facts_of(f"/proc/{pid}/task/{task}/status")
        # ThreadSanitizer has a thread of its own, which is older than main() and named like it.
        if paths.SANITIZED and facts["Name"] == "faultline" and int(task) != pid:
            continue
        found[f"{facts['Name']} {task}"] = facts
    return found


class SandboxCase(SmallVmCase):
    every_qemu = False  # QEMU has no part in it

    def await_post_copy(self, *commands):
        for command in commands:
            self.wait_until(lambda: any(e.get("phase") == "post-copy" for e in command.events), 20,
                            "post-copy begins")

    def finish(self, destination, *commands):
        """The migration completes, and nothing was refused to it."""
        for command in commands:
            self.assertEqual(0, command.wait(60), command.describe())
            notices = [e["text"] for e in command.events if e.get("event") == "notice"]
            self.assertEqual([], notices)
        self.wait_rounds(destination)

    def assert_confined(self, command, may_bulk=0):
        for name, facts in threads(command.process.pid).items():
            with self.subTest(command=command.process.words, thread=name):
                self.assertEqual("2", facts["Seccomp"])
                self.assertEqual("1", facts["NoNewPrivs"])
                may = may_bulk if name.startswith("fl-bulk") else 0
                for kind, bits in (("CapEff", may), ("CapPrm", may), ("CapInh", 0), ("CapAmb", 0)):
                    self.assertEqual(bits, int(facts[kind], 16), kind)
        # Not dumpable: what describes its memory is root's, and there is no core. A sanitizer is one
        # that looks into its own process.
        if not paths.SANITIZED:
            self.assertEqual(0, os.stat(f"/proc/{command.process.pid}/mem").st_uid)


class Sandbox(SandboxCase):
    def slow(self, *extra):
        """A move in post-copy that takes some seconds."""
        source, destination = self.working(), self.waiting()
        receive = self.receive(destination, extra=extra)
        migrate = self.send(source, receive.port, extra=(*extra, "--bandwidth", "20M"))
        self.await_post_copy(receive, migrate)
        return destination, receive, migrate

    def test_nothing_is_left_in_post_copy(self):
        destination, receive, migrate = self.slow()
        self.assert_confined(receive)
        self.assert_confined(migrate, may_bulk=NET_ADMIN)
        self.finish(destination, receive, migrate)

    def test_off(self):
        destination, receive, migrate = self.slow("--sandbox", "off")
        for command in (receive, migrate):
            facts = facts_of(f"/proc/{command.process.pid}/status")
            self.assertEqual("0", facts["Seccomp"])
            self.assertNotEqual(0, int(facts["CapEff"], 16))
        self.finish(destination, receive, migrate)

    def test_a_host_that_refuses(self):
        """It moves the VM with more rights than it needs, and says so."""
        source, destination = self.working(), self.waiting()
        script = os.path.join(os.path.dirname(rig.__file__), "no_filters.py")
        wrap = (sys.executable, script)
        receive = self.receive(destination, wrap=wrap)
        migrate = Command(["migrate", "--to", f"tcp://127.0.0.1:{receive.port}", "--qmp",
                           f"unix:{source.engine_qmp}", "--json"], self._log("migrate"), wrap=wrap)
        self._own(migrate)
        for command in (receive, migrate):
            self.assertEqual(0, command.wait(60), command.describe())
            texts = [e["text"] for e in command.events if e.get("event") == "notice"]
            self.assertTrue(any("does not let the command give up all the rights" in text
                                for text in texts), texts)
        self.wait_rounds(destination)

    def test_the_destination_is_called_by_name(self):
        """The resolver loads what it needs after the door has closed."""
        source, destination = self.working(), self.waiting()
        receive = self.receive(destination)
        migrate = self.send(source, receive.port, address="localhost")
        self.finish(destination, receive, migrate)

    def test_a_waiting_destination_is_filtered_already(self):
        """Whoever comes to the port meets a process that starts no programs."""
        receive = self.receive(self.waiting())
        self.assertGreater(receive.port, 0)
        for facts in threads(receive.process.pid).values():
            self.assertEqual("2", facts["Seccomp"])

    def test_a_started_qemu_keeps_its_rights(self):
        destination = self.small("dst", incoming=False, hook=False)
        receive = Command(["receive", "--listen", "tcp://127.0.0.1:0", "--json", "--hook-library",
                           paths.HOOK, "--", destination.qemu, *destination.words],
                          self._log("receive"))
        self._own(receive)
        qemu = facts_of(f"/proc/{receive.wait_event('listening')['qemu_pid']}/status")
        own = facts_of("/proc/self/status")
        for key in ("Seccomp", "NoNewPrivs", "CapEff", "CapPrm", "CapBnd"):
            self.assertEqual(own[key], qemu[key], key)
        # The guardian has what ending that QEMU takes, and no more.
        [guardian] = self.guardians()
        facts = facts_of(f"/proc/{guardian}/status")
        self.assertEqual("1", facts["NoNewPrivs"])
        self.assertEqual(KILL, int(facts["CapEff"], 16) & KILL)
        self.assertEqual(0, int(facts["CapEff"], 16) & SYS_ADMIN)
        receive.signal(signal.SIGINT)
        self.assertEqual(1, receive.wait(20), receive.describe())

    def test_files_are_private_whatever_the_umask(self):
        os.mkdir(run_directory := os.path.join(self.workdir, "run"), 0o700)
        source, destination = self.working(), self.waiting()
        open_umask = ("sh", "-c", 'umask 0 && exec "$@"', "sh")
        options = ("--run-directory", run_directory)
        receive = self.receive(destination, extra=options, wrap=open_umask)
        migrate = Command(["migrate", "--to", f"tcp://127.0.0.1:{receive.port}", "--qmp",
                           f"unix:{source.engine_qmp}", "--json", "--bandwidth", "20M", *options],
                          self._log("migrate"), wrap=open_umask)
        self._own(migrate)
        self.await_post_copy(receive, migrate)
        during = {**self.modes(run_directory), **self.modes("/var/lib/faultline")}
        self.finish(destination, receive, migrate)
        found = {**during, **self.modes(run_directory)}
        migration = migrate.last["id"]
        kinds = {name.removeprefix(migration) for name in found if name.startswith(migration)}
        self.assertLessEqual({f".{role}.{kind}" for role in ("source", "destination")
                              for kind in ("sock", "journal", "command", "json")}, kinds)
        self.assertEqual({}, {name: oct(mode) for name, mode in found.items()
                              if name.startswith(migration) and mode != 0o600})

    def modes(self, directory):
        """{name: mode} of what lies there."""
        return {entry.name: stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                for entry in os.scandir(directory)}


class Unprivileged(UnprivilegedCase, SandboxCase):
    """Everything as a user without rights, but for the userfaultfd that the kernel asks root for."""

    def test_root_moves_another_users_vm(self):
        """What preparing needs is there: that user's sockets, RAM files and processes."""
        source = self.unprivileged("src", incoming=False)
        self.wait_rounds(source, 2)
        destination = self.unprivileged("dst", incoming=True)
        receive = self.receive(destination)
        migrate = self.send(source, receive.port, extra=("--bandwidth", "20M"))
        self.await_post_copy(receive, migrate)
        self.assert_confined(receive)
        self.assert_confined(migrate, may_bulk=NET_ADMIN)
        self.finish(destination, receive, migrate)

    def test_as_a_user_without_rights(self):
        device = os.stat("/dev/userfaultfd")
        self.addCleanup(os.chown, "/dev/userfaultfd", device.st_uid, device.st_gid)
        os.chown("/dev/userfaultfd", NOBODY, NOBODY)
        source = self.unprivileged("src", incoming=False)
        self.wait_rounds(source, 2)
        destination = self.unprivileged("dst", incoming=True)
        options = ("--run-directory", os.path.join(self.workdir, "run"))
        receive = self.receive(destination, extra=options, wrap=AS_NOBODY)
        migrate = Command(["migrate", "--to", f"tcp://127.0.0.1:{receive.port}", "--qmp",
                           f"unix:{source.engine_qmp}", "--json", "--bandwidth", "20M", *options],
                          self._log("migrate"), wrap=AS_NOBODY)
        self._own(migrate)
        self.await_post_copy(receive, migrate)
        for command in (receive, migrate):
            self.assert_confined(command)
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(60), command.describe())
        self.wait_rounds(destination)
