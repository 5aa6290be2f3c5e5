"""Child processes that never outlive the test."""

import ctypes
import os
import re
import select
import signal
import subprocess
import time

from . import paths

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_REPORT = re.compile(r"(ERROR|WARNING|SUMMARY): \w+Sanitizer|runtime error:")

sanitizer_reports = []  # of processes that have ended: all that such a process said


def _die_with_parent():
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A command in its own process group; stderr (and stdout, unless piped) goes to a file.

    netns: path of the network namespace to run in (/proc/PID/ns/net), None for the own one.
    """

    def __init__(self, words, log_path, stdout=None, netns=None, env=None):
        self.words = [str(word) for word in words]
        if netns:
            self.words = ["nsenter", f"--net={netns}"] + self.words
        self.log_path = log_path
        self.cpu_s = 0.0  # CPU seconds of it and the children that it waited for, once it has ended
        with open(log_path, "ab") as log:
            self.child = subprocess.Popen(
                self.words, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent,
                env=None if env is None else {**os.environ, **env})

    @property
    def pid(self):
        return self.child.pid

    def alive(self):
        return self._reap(os.WNOHANG) is None

    def _reap(self, flags):
        """Collects the exit status, and with it what the command used (getrusage)."""
        if self.child.returncode is None:
            try:
                pid, status, usage = os.wait4(self.child.pid, flags)
            except ChildProcessError:
                return self.child.wait()
            if pid:
                self.child.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_s = usage.ru_utime + usage.ru_stime
                if paths.SANITIZED and _REPORT.search(said := self.log(1000)):
                    sanitizer_reports.append(said)
        return self.child.returncode

    def signal(self, number):
        """Signals the command itself, not what it started."""
        self.child.send_signal(number)

    def wait(self, timeout_s):
        """The exit status; a shell-like 128+N if signal N ended it. Returns at once when it ends."""
        if self.child.returncode is None:
            handle = os.pidfd_open(self.child.pid)
            try:
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                ended = poll.poll(timeout_s * 1000)
            finally:
                os.close(handle)
            if not ended:
                raise AssertionError(
                    f"{self.words[0]} still ran after {timeout_s} s; it said:\n{self.log()}")
        status = self._reap(0)
        return status if status >= 0 else 128 - status

    def kill(self):
        """Kills the command and its process group."""
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            self.wait(10)
        except AssertionError:
            pass

    def log(self, lines=30):
        try:
            with open(self.log_path, errors="replace") as file:
                return "\n".join(file.read().splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def has_ended(pid):
    """Whether no thread of it runs any more; also if its parent has not asked how."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(condition, timeout_s, what, interval_s=0.02):
    """Polls until condition() is true and returns its value; fails with `what` after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain: {what}")
        time.sleep(interval_s)


def run(*words, check=True, timeout_s=60, netns=None):
    """Runs a short command; returns its stdout. Fails with its stderr."""
    words = [str(word) for word in words]
    if netns:
        words = ["nsenter", f"--net={netns}"] + words
    result = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: exit {result.returncode}: {result.stderr}")
    return result.stdout
