"""The faultline command under test: starts it, reads its JSON lines, collects how it ended."""

import json
import subprocess
import threading

from . import paths
from .process import Process

# The fields that the last JSON object of both commands holds (docs/operators-guide.md).
COMPLETED_FIELDS = (
    "mode", "transport", "downtime_us", "total_us", "elapsed_us", "pages_total", "pages_demand",
    "pages_pushed", "pages_absent", "bytes_wire")
# Those of fault_latency_us, which the destination's object holds besides.
LATENCY_FIELDS = ("p50", "p90", "p99", "p999", "max")


class Command:
    """A running faultline command with --json."""

    def __init__(self, words, log_path, netns=None, env=None, wrap=(), binary=None):
        self.events = []   # every JSON object printed, in order
        self.garbage = []  # lines on stdout that were none
        self._changed = threading.Condition()
        self._ended = False
        self.process = Process([*wrap, binary or paths.FAULTLINE, *words], log_path,
                               stdout=subprocess.PIPE, netns=netns, env=env)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.child.stdout:
            with self._changed:
                try:
                    self.events.append(json.loads(line))
                except ValueError:
                    self.garbage.append(line.decode(errors="replace"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_event(self, name, timeout_s=20):
        """The first object whose "event" is `name`."""
        def find():
            return next((event for event in self.events if event.get("event") == name), None)
        with self._changed:
            self._changed.wait_for(lambda: find() or self._ended, timeout_s)
            if not find():
                raise AssertionError(f"no event {name!r} in {timeout_s} s.\n{self.describe()}")
            return find()

    def wait(self, timeout_s=60):
        """Waits for the end; returns the exit status."""
        status = self.process.wait(timeout_s)
        self._reader.join(5)
        return status

    @property
    def port(self):
        """The port that `receive` listens on."""
        return self.wait_event("listening")["port"]

    @property
    def last(self):
        """The last object printed, {} if none."""
        return self.events[-1] if self.events else {}

    def signal(self, number):
        self.process.signal(number)

    def kill(self):
        self.process.kill()

    def stderr(self, lines=30):
        return self.process.log(lines)

    def describe(self):
        return (f"--- {' '.join(self.process.words)}\n"
                f"exit status {self.process.child.poll()}, {len(self.events)} objects, last: "
                f"{json.dumps(self.last)}\n{self.stderr()}")


def receive(vm, log_path, listen="tcp://127.0.0.1:0", extra=(), netns=None, wrap=(),
            binary=None):
    """faultline receive for a waiting QEMU."""
    return Command(["receive", "--listen", listen, "--qmp", f"unix:{vm.engine_qmp}", "--hook",
                    f"unix:{vm.hook_socket}", "--json", *extra], log_path, netns=netns, wrap=wrap,
                   binary=binary)


def migrate(vm, to, log_path, extra=(), netns=None, wrap=(), binary=None):
    """faultline migrate of a running QEMU."""
    return Command(["migrate", "--to", to, "--qmp", f"unix:{vm.engine_qmp}", "--json", *extra],
                   log_path, netns=netns, wrap=wrap, binary=binary)


def resume(subcommand, log_path, extra=(), netns=None):
    """faultline receive or migrate that takes a migration up again."""
    return Command([subcommand, "--resume", "--json", *extra], log_path, netns=netns)
