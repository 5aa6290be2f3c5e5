"""What follows when a migration was disturbed: the operator who does what docs/failures.md says, and
what must hold in the end."""

import os
import re
import signal
import time

from .timeline import Timeline, overlaps

_ROUND = re.compile(r"^R ([0-9a-f]{8}) ([0-9a-f]{8})$")
_RESUMES_MAX = 6


class Aftermath:
    """Both sides of one disturbed migration. The case is a RecoveryCase whose commands were started
    with its run_directory, or with run_words[side]."""

    def __init__(self, case, source, destination, receive, migrate, run_words=None):
        self.case = case
        self.vms = {"source": source, "destination": destination}
        self.commands = {"migrate": migrate, "receive": receive}
        self.ended = []    # (name, command) that were replaced by another
        self.killed = set()  # commands that somebody killed
        self.reclaimed = False
        self.abandoned = False
        self.steps = []    # what the operator did
        self._identity = None
        self._run_words = run_words or dict.fromkeys(self.vms, case.run_directory)
        self._lost_hosts = {}  # what their journals said
        self._timelines = {"source": Timeline(source, running=True),
                           "destination": Timeline(destination, running=False)}

    # --- what is so

    def phases(self, role):
        """The records in that side's journal, in order."""
        if role in self._lost_hosts:
            return self._lost_hosts[role]
        if self._identity is None:
            self._identity = next((event["id"] for event in self.commands["migrate"].events
                                   if event.get("id")), None)
        path = os.path.join(self._run_words[role][1], f"{self._identity}.{role}.journal")
        try:
            with open(path) as file:
                return [line.split()[1] for line in file
                        if line[:1].isdigit() and line[-1] == "\n"]
        except FileNotFoundError:
            return []

    @property
    def committed(self):
        return "committed" in self.phases("source")

    @property
    def completed(self):
        """The destination has everything, and has heard that the source knows."""
        return "completed" in self.phases("destination") and "destination" not in self._lost_hosts

    @property
    def whole(self):
        """The destination has everything, whether or not it could say so."""
        return "whole" in self.phases("destination")

    @property
    def told(self):
        """... and the source knows."""
        return "completed" in self.phases("source")

    def alive(self, side):
        return self.vms[side].process.alive()

    # --- what a test does

    def kill_command(self, name):
        command = self.commands[name]
        if command.process.alive():
            self.killed.add(command)
            command.signal(signal.SIGKILL)
            command.process.wait(10)

    def kill_qemu(self, side):
        self.vms[side].process.kill()
        self._timelines[side].killed()

    def forget_host(self, side):
        """That host's files will be gone: nobody there knows of the migration any more."""
        self._lost_hosts[side] = self.phases(side)

    # --- the operator

    def settle(self, timeout_s=60):
        """Does what the operator's guide says until nothing is left to do."""
        deadline_s = time.monotonic() + timeout_s
        while not (self._after_the_handover() if self.committed else self._before_the_handover()):
            if time.monotonic() > deadline_s:
                raise AssertionError(f"nothing settled in {timeout_s} s: {self.describe()}")
            time.sleep(0.05)

    def _before_the_handover(self):
        migrate, receive = self.commands["migrate"], self.commands["receive"]
        if migrate.process.alive() or self.committed:
            return False
        if receive.process.alive():
            if self._phase(receive) == "connecting":
                self._step("end receive")
                receive.signal(signal.SIGINT)
                receive.process.wait(10)
                return True
            # It gives up by itself, unless it cannot know whose the VM is and nobody tells it.
            told = migrate not in self.killed and "could not be told" not in self._notices(migrate)
            if "loaded" not in self.phases("destination") or told:
                return False
            self._step("end receive")
            self.killed.add(receive)
            receive.signal(signal.SIGINT)
            receive.process.wait(10)
        return True

    def _after_the_handover(self):
        if self.told:
            return self._after_the_last_page()
        if not self.alive("destination"):
            return self._reclaim()
        if self.completed:
            return self._after_the_last_page()
        if "source" in self._lost_hosts:
            return self._after_the_last_page() if self.whole else self._abandon()
        for name, command in self.commands.items():
            if not command.process.alive():
                self._resume(name)
        return False

    def _after_the_last_page(self):
        receive, migrate = self.commands["receive"], self.commands["migrate"]
        if not migrate.process.alive() and not self.told and "source" not in self._lost_hosts:
            if not receive.process.alive():
                return True  # nobody is left to tell it
            self._resume("migrate")
        if receive.process.alive():
            return False
        if migrate.process.alive():
            try:
                migrate.process.wait(2)
            except AssertionError:
                self._step("end migrate")
                self.kill_command("migrate")
        return True

    def _reclaim(self):
        """The destination's QEMU is dead. `receive` finds out, and tells `migrate`."""
        if self.commands["receive"] not in self.killed:
            self._wait_for_both(15)
        for name in self.commands:
            self.kill_command(name)
        if self.told:
            return True
        self._step("reclaim")
        command = self.case.operator("reclaim", "--i-know-the-destination-is-dead",
                                     run_words=self._run_words["source"])
        self.reclaimed = command.process.child.returncode == 0
        if self.alive("source") and not self.reclaimed:
            raise AssertionError(f"reclaim failed: {command.describe()}")
        return True

    def _wait_for_both(self, timeout_s):
        deadline_s = time.monotonic() + timeout_s
        while any(command.process.alive() for command in self.commands.values()):
            if time.monotonic() > deadline_s:
                return
            time.sleep(0.02)

    def _abandon(self):
        """The source's host is lost, with what had not arrived."""
        self.kill_command("receive")
        self._step("abandon")
        command = self.case.operator("abandon", "--dump", os.path.join(self.case.workdir, "dump"),
                                     run_words=self._run_words["destination"])
        if command.process.child.returncode != 0:
            raise AssertionError(f"abandon failed: {command.describe()}")
        os.unlink(os.path.join(self.case.workdir, "dump"))
        os.unlink(os.path.join(self.case.workdir, "dump.json"))
        self.abandoned = True
        return True

    def _resume(self, name):
        if len(self.steps) > _RESUMES_MAX:
            raise AssertionError(f"{name} ends again and again: {self.describe()}")
        self._step(f"{name} --resume")
        self.ended.append((name, self.commands[name]))
        side = "source" if name == "migrate" else "destination"
        self.commands[name] = self.case.resume(name, run_words=self._run_words[side])

    @staticmethod
    def _phase(command):
        return [event["phase"] for event in command.events if event["event"] == "phase"][-1]

    def _step(self, text):
        self.steps.append(text)

    @staticmethod
    def _notices(command):
        return " ".join(event["text"] for event in command.events if event["event"] == "notice")

    # --- what must hold in the end

    def check(self):
        """One owner, at work; exit statuses; no wrong byte; never two at a time."""
        # Also where the one could not say so, or has not heard that the other knows.
        here = self.whole and "destination" not in self._lost_hosts
        committed, completed = self.committed, here or self.told
        for name, command in (*self.ended, *self.commands.items()):
            if command not in self.killed:
                command.wait(10)  # its last words have been read then
                self._check_exit(name, command, committed, completed)
        if self.told and not self.whole:
            raise AssertionError(f"the source was told, and not all was there: {self.describe()}")
        self._check_owner()
        twice = overlaps(self._timelines["source"], self._timelines["destination"])
        if twice:
            raise AssertionError(f"the VM ran on both sides: {twice}")
        for vm in self.vms.values():
            self._check_bytes(vm)

    def _check_exit(self, name, command, committed, completed):
        status = command.process.child.returncode
        allowed = {1} if not committed else {0, 3} if completed else {3}
        if name == "receive" and not committed and "loaded" in self.phases("destination"):
            allowed = {1, 3}  # the source said that it stays there, or nobody could
        if status == 2 and completed:
            return  # started again when everything had arrived
        if status == -signal.SIGINT and not command.events:
            return  # interrupted before it had begun
        if status not in allowed:
            raise AssertionError(f"{name}: exit status {status}, not {allowed}: "
                                 f"{command.describe()}")
        if status == 0:
            return
        owner = command.last.get("vm_owner")
        wanted = "destination" if committed else "source"
        if command.last.get("vm_owner_known", True) and owner != wanted:
            raise AssertionError(f"{name} says that the VM is the {owner}'s, it is the {wanted}'s: "
                                 f"{command.describe()}")

    @property
    def owner(self):
        """source or destination; None: its memory died with a QEMU or a host."""
        side = "destination" if self.committed and not self.reclaimed else "source"
        return side if self.alive(side) and not self.abandoned else None

    def _check_owner(self):
        owner = self.owner
        for side, vm in self.vms.items():
            if side == owner:
                self.case.assert_works(vm, timeout_s=5)
            elif not self.abandoned:  # its monitor may not answer
                self.case.assert_not_running(vm)

    @staticmethod
    def _check_bytes(vm):
        for _, line in vm.serial.lines:
            match = _ROUND.match(line)
            if match and match.group(2) != "00000000":
                raise AssertionError(f"{vm.name}: wrong bytes: {line}")

    def describe(self):
        return (f"committed {self.committed}, source's journal {self.phases('source')}, "
                f"destination's {self.phases('destination')}, operator: {self.steps}")
