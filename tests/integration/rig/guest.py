"""The guest's serial port: its lines with the host's time stamps, and what they mean.

The guest's clock (CLOCK_MONOTONIC) stands still while the VM is stopped, so the guest cannot see a
blackout. It shows from outside: host time minus guest time is constant while the VM runs and grows
by just the time that it was stopped. `blackout_ms` compares the smallest such difference among the
last reports on the source with that among the first ones on the destination (the smallest, because
a line can only be late).
"""

import dataclasses
import os
import socket
import threading
import time


@dataclasses.dataclass
class Report:
    """One report line of the guest. `host_s` is time.monotonic() when it arrived here."""

    host_s: float
    t_us: int
    window_us: int
    window_ops: int
    ops: int
    reads: int
    wrong: int
    worst_us: int
    disk_ops: int
    disk_wrong: int
    net_bytes: int
    churn: int
    stalls: dict = dataclasses.field(default_factory=dict)  # bucket -> operations (with fl.tick_ms)

    @staticmethod
    def of(host_s, text):
        """The report that a line holds; ValueError or TypeError if the line is not whole."""
        fields = fields_of(text)
        stalls = [pair.split(":") for pair in fields.pop("stalls", "").split(",") if pair]
        return Report(host_s=host_s, stalls={int(bucket): int(count) for bucket, count in stalls},
                      **{key: int(value) for key, value in fields.items()})


@dataclasses.dataclass
class Tick:
    """A time stamp of the guest (fl.tick_ms), much more often than its reports."""

    host_s: float
    t_us: int
    ops: int


class Serial:
    """Listens on a unix socket to which QEMU connects its serial port."""

    def __init__(self, path):
        self.path = path
        self.lines = []    # (host_s, text), everything that the guest wrote
        self.reports = []  # Report
        self.ticks = []    # Tick
        self.partial = ""  # what came after the last whole line
        self._listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._connection = None
        self._ended = False  # QEMU closed its end: nothing more will come
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with self._changed:
            self._connection = connection
            self._changed.notify_all()
        self._read_lines(connection)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_lines(self, connection):
        rest = b""
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            host_s = time.monotonic()
            *whole, rest = (rest + data).split(b"\n")
            with self._changed:
                for raw in whole:
                    self._take(host_s, raw.decode(errors="replace").strip("\r"))
                self.partial = rest.decode(errors="replace")
                self._changed.notify_all()

    def _take(self, host_s, text):
        self.lines.append((host_s, text))
        if text.startswith("FL report "):
            try:
                self.reports.append(Report.of(host_s, text))
            except (TypeError, ValueError):
                pass  # a line that the switchover cut in two
        elif text.startswith("FL tick "):
            fields = fields_of(text)
            if fields.get("t_us", "").isdigit() and fields.get("ops", "").isdigit():
                self.ticks.append(Tick(host_s, int(fields["t_us"]), int(fields["ops"])))

    def wait_line(self, start, timeout_s=60, after=0):
        """The first line that begins with `start`, from number `after` on; returns its text."""
        def find():
            return next((text for _, text in self.lines[after:] if text.startswith(start)), None)

        def broken():
            return self._ended or any(text.startswith("FL error") for _, text in self.lines[after:])
        begin_s = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: find() or broken(), timeout_s)
            if not find():
                raise AssertionError(
                    f"the guest did not say {start!r} in {time.monotonic() - begin_s:.0f} s"
                    f"{', and QEMU has ended' if self._ended else ''}. "
                    f"Its last lines:\n{self.tail()}")
            return find()

    def wait_reports(self, count, timeout_s=60):
        """Waits until `count` more reports have come, and returns those."""
        begin = len(self.reports)
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.reports) >= begin + count, timeout_s):
                raise AssertionError(f"{len(self.reports) - begin} of {count} reports in "
                                     f"{timeout_s} s. The guest's last lines:\n{self.tail()}")
            return self.reports[begin:begin + count]

    def send(self, command):
        """Types a line at the guest."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._connection, 10):
                raise AssertionError("QEMU has not connected its serial port")
        self._connection.sendall(command.encode() + b"\n")

    def ask(self, command, answer, timeout_s=60):
        """Types a line and waits for the answer that begins with `FL <answer>`; returns its fields."""
        after = len(self.lines)
        self.send(command)
        return fields_of(self.wait_line(f"FL {answer}", timeout_s, after))

    def verify(self, timeout_s=120):
        """Has the guest read every word of its memory; returns the number of wrong pages."""
        return int(self.ask("verify", "verify", timeout_s)["wrong"])

    def tail(self, lines=12):
        return "\n".join(text for _, text in self.lines[-lines:])

    def close(self):
        self._listener.close()
        if self._connection:
            self._connection.close()


def fields_of(text):
    """The key=value pairs of a line."""
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def blackout_ms(source_reports, destination_reports, window=20):
    """How long the VM was stopped between its last reports on one side and its first on the other."""
    def offset_s(reports):
        return min(report.host_s - report.t_us / 1e6 for report in reports)
    return (offset_s(destination_reports[:window]) - offset_s(source_reports[-window:])) * 1000


@dataclasses.dataclass
class Experience:
    """What the guest went through in one migration."""

    reads: int               # checked reads, whole run
    wrong: int
    worst_stall_us: int      # longest single operation in guest time; the blackout not included
    blackout_ms: float
    before_ops_s: float
    during_ops_s: float      # from the command's start to the last page, blackout included
    after_ops_s: float
    work_lost_s: float       # guest work not done, in seconds of work at the speed before


def experience(source, destination, begin_s, end_s):
    """Sums up a migration that ran from begin_s to end_s (time.monotonic of this host).

    Work lost counts every window from begin_s on, until the end or as long as reports go on: what
    was done against what the speed before would have done in the same host time.
    """
    before = [report for report in source.reports if report.host_s <= begin_s][-20:]
    moved = [report for report in source.reports if report.host_s > begin_s]
    arrived = destination.reports
    rate = speed(before)
    blackout = blackout_ms(source.reports, arrived)
    during = moved + [report for report in arrived if report.host_s <= end_s]
    after = [report for report in arrived if report.host_s > end_s]
    everything = moved + arrived
    # From the last report before to the last one in hand, host time; the count goes on across.
    lasted_s = everything[-1].host_s - before[-1].host_s
    done = everything[-1].ops - before[-1].ops
    last_during = during[-1] if during else before[-1]
    during_s = max(end_s - before[-1].host_s, 1e-3)
    return Experience(
        reads=arrived[-1].reads, wrong=arrived[-1].wrong,
        worst_stall_us=max(report.worst_us for report in everything), blackout_ms=blackout,
        before_ops_s=rate, during_ops_s=(last_during.ops - before[-1].ops) / during_s,
        after_ops_s=speed(after[-20:]), work_lost_s=lasted_s - done / rate)


def speed(reports):
    """Operations per second of guest time over some reports; 0 for none."""
    window_us = sum(report.window_us for report in reports)
    return sum(report.window_ops for report in reports) * 1e6 / window_us if window_us else 0.0
