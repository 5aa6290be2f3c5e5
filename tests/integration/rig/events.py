"""The events of failure_matrix.py, done to a migration that stands at one of its phases."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import time

from . import failure_matrix
from .aftermath import Aftermath
from .clock import Clock
from .process import has_ended
from .recovery import BRISK
from .small import MIB
from .vm import Backend, ram_file

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYS_PIDFD_GETFD = 438
_SPARE_MIB = 8
_YEAR_S = 365 * 24 * 3600
_POINTS = {"P": "Accepted", "F": "DeviceStateEnd", "D": "Loaded", "C": "Commit", "M": None,
           "E": "Completed"}
_FROM_SOURCE = ("F", "C")


class Standing:
    """A migration that stands at a phase, with everything that an event may need. Both commands have
    run directories of their own, on file systems of their own: the hosts are two."""

    def __init__(self, case, phase, clock=False):
        self.case = case
        self.phase = phase
        self.directories = {side: case.tmpfs("size=1m") for side in ("source", "destination")}
        self.clock = Clock(case.workdir) if clock else None
        wrap = self.clock.wrap if clock else ()
        self.memory = case.tmpfs(f"size={MIB + _SPARE_MIB}m")
        source = case.small("src").start()
        destination = case.waiting(backends=[Backend(MIB, path=ram_file(self.memory))])
        receive = case.receive(destination, extra=self.run_words("destination"), wrap=wrap)
        self.relay = case.relay(receive.port)
        case.wait_rounds(source)
        point = _POINTS[phase]
        if point:
            self.relay.hold_at(point)
        migrate = case.send(source, self.relay.port,
                            extra=(*self.run_words("source"), *BRISK), wrap=wrap)
        self.after = Aftermath(case, source, destination, receive, migrate,
                               {side: self.run_words(side) for side in self.directories})
        if point:
            self.relay.wait_held()
        else:
            destination.wait_status("running")
            time.sleep(0.3)

    def run_words(self, side):
        return ("--run-directory", os.path.join(self.directories[side], "run"))

    def go_on(self, dead=None):
        """Lets the held message pass; if its sender ("source" or "destination") is dead, it was
        never sent."""
        sender = "source" if self.phase in _FROM_SOURCE else "destination"
        if dead in (sender, "both"):
            self.relay.swallow()
        else:
            self.relay.release()


# --- what happens; each leaves a migration that goes its way

def _killed(*names):
    def event(standing):
        for name in names:
            standing.after.kill_command(name)
        sides = {"migrate": "source", "receive": "destination"}
        standing.go_on("both" if len(names) == 2 else sides[names[0]])
    return event


def _guardian_killed(name):
    def event(standing):
        pid = standing.after.commands[name].process.pid
        for guardian, parent in standing.case.guardians().items():
            if parent == pid:
                os.kill(guardian, signal.SIGKILL)
                standing.case.wait_until(lambda pid=guardian: has_ended(pid), 5, "the guardian's end")
        standing.go_on()
    return event


def _qemu_killed(side):
    def event(standing):
        standing.after.kill_qemu(side)
        standing.go_on()
    return event


def _host_reboots(side):
    """Everything there dies at once, and its tmpfs are empty afterwards."""
    def event(standing):
        after = standing.after
        name = "migrate" if side == "source" else "receive"
        pid = after.commands[name].process.pid
        guardians = [child for child, parent in standing.case.guardians().items() if parent == pid]
        for guardian in guardians:
            os.kill(guardian, signal.SIGKILL)
        after.kill_command(name)
        after.kill_qemu(side)
        after.forget_host(side)
        for backend in after.vms[side].backends:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(backend.path)
        shutil.rmtree(standing.run_words(side)[1], ignore_errors=True)
        standing.go_on(side)
    return event


def _reset(standing):
    standing.relay.reset()


def _down(standing):
    standing.relay.down()
    time.sleep(8)
    standing.relay.up()


def _silent(standing):
    standing.relay.silence()
    standing.go_on()
    time.sleep(7)
    standing.relay.flow()


def _half_open(standing):
    standing.relay.half_close()
    standing.go_on()


def _monitor_hangs_up(side):
    """Both ends of the command's monitor connection see its end; QEMU lives."""
    def event(standing):
        name = "migrate" if side == "source" else "receive"
        process = standing.after.commands[name].process
        monitor = monitor_of(process.pid, standing.after.vms[side].engine_qmp)
        monitor.shutdown(socket.SHUT_RDWR)
        monitor.close()
        standing.go_on()
    return event


def _stopped(side):
    def event(standing):
        process = standing.after.vms[side].process
        process.signal(signal.SIGSTOP)
        standing.go_on()
        time.sleep(3)
        process.signal(signal.SIGCONT)
    return event


def _no_room(side):
    """Its run directory's file system is full from now on."""
    def event(standing):
        fill(os.path.join(standing.directories[side], "filler"))
        standing.go_on()
    return event


def _no_memory(standing):
    path = os.path.join(standing.memory, "filler")
    fill(path)
    standing.go_on()
    time.sleep(3)
    os.unlink(path)


def _clocks_jump(standing):
    standing.clock.jump(_YEAR_S)
    time.sleep(0.3)
    standing.clock.jump(-_YEAR_S)
    standing.go_on()


def fill(path):
    """Writes a file until its file system is full."""
    size = 1 << 20
    with open(path, "wb", buffering=0) as file:
        while size:
            try:
                if not file.write(bytes(size)):
                    break
            except OSError:
                size //= 2


def monitor_of(pid, path):
    """A duplicate of that process's connection to the unix socket `path`."""
    handle = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            fd = _LIBC.syscall(_SYS_PIDFD_GETFD, handle, int(name), 0)
            if fd < 0:
                continue
            try:
                found = socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
                continue
            with contextlib.suppress(OSError):
                if found.getpeername() == path:
                    return found
            found.close()
    finally:
        os.close(handle)
    raise AssertionError(f"process {pid} has no connection to {path}")


EVENTS = {
    "`migrate` is killed": _killed("migrate"),
    "`receive` is killed": _killed("receive"),
    "both commands are killed": _killed("migrate", "receive"),
    "`migrate`'s guardian is killed": _guardian_killed("migrate"),
    "`receive`'s guardian is killed": _guardian_killed("receive"),
    "source's QEMU is killed": _qemu_killed("source"),
    "destination's QEMU is killed": _qemu_killed("destination"),
    "source's host reboots": _host_reboots("source"),
    "destination's host reboots": _host_reboots("destination"),
    "connections are reset": _reset,
    "link is down for 8 s": _down,
    "link is silent for 7 s": _silent,
    "connections are half-open": _half_open,
    "source's monitor hangs up": _monitor_hangs_up("source"),
    "destination's monitor hangs up": _monitor_hangs_up("destination"),
    "source's QEMU answers nothing for 3 s": _stopped("source"),
    "destination's QEMU answers nothing for 3 s": _stopped("destination"),
    "no room for the source's journal": _no_room("source"),
    "no room for the destination's journal": _no_room("destination"),
    "no memory on the destination for 3 s": _no_memory,
    "both clocks jump a year ahead, then back by two": _clocks_jump,
}
assert list(EVENTS) == list(failure_matrix.MATRIX)


def cell_of(case, event, phase):
    """Runs a cell; returns what came of it, as failure_matrix.py says it. Raises where anything is
    wrong whatever the table says: two owners, none, a wrong byte, a wrong exit status."""
    standing = Standing(case, phase, clock="clock" in event)
    after = standing.after
    first = dict(after.commands)
    EVENTS[event](standing)
    after.settle()
    after.check()
    statuses = ["-" if command in after.killed else str(command.process.child.returncode)
                for command in (first["migrate"], first["receive"])]
    steps = ": " + ", ".join(after.steps) if after.steps else ""
    return f"{after.owner or 'lost'} {' '.join(statuses)}{steps}"
