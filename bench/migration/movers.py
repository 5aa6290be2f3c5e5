"""Who moves the guest, from the command to the last page: QEMU's own post-copy, or Faultline."""

import dataclasses
import os
import pathlib
import time

from rig import faultline, paths, stock
from rig.strangers import Crowd

TIMEOUT_S = 300


@dataclasses.dataclass
class Moved:
    """One migration that succeeded (time.monotonic), and what the movers' own processes used."""

    begin_s: float
    end_s: float
    source_engine_s: float = 0.0  # CPU seconds of `faultline migrate`, with its guardian
    destination_engine_s: float = 0.0
    summary: dict = dataclasses.field(default_factory=dict)  # what the destination's engine said


class Stock:
    """postcopy-ram and postcopy-preempt, switched to post-copy at once."""

    name = "stock"
    hook = None

    def move(self, source, destination, address, _workdir):
        times = stock.post_copy(source, destination, address, TIMEOUT_S)
        return Moved(times.begin_s, times.end_s, summary={"downtime_ms": times.downtime_ms})


class Faultline:
    """A build of Faultline with some options: "NAME;MIGRATE WORDS;RECEIVE WORDS;BUILD FOLDER"."""

    def __init__(self, text):
        name, migrate, receive, build = (text.split(";") + [""] * 3)[:4]
        self.name = name
        self._migrate = self._secured(migrate.split())
        self._receive = self._secured(receive.split())
        build = pathlib.Path(build) if build else None
        self._binary = build / "faultline" if build else paths.FAULTLINE
        self.hook = build / "faultline-qemu.so" if build else paths.HOOK
        for path in (self._binary, self.hook):
            if not path.exists():
                raise SystemExit(f"{path} is not there: run ./dev build")

    @staticmethod
    def _secured(words):
        """Plain TCP unless the words choose secrets: --tls-psk FILE, or --tls-dir DIR."""
        return words if any(word.startswith("--tls-") for word in words) else ["--insecure", *words]

    def disturb(self, address, port):
        """Begins what happens besides the move; returns a function that waits for its end."""
        return lambda: None

    def move(self, source, destination, address, workdir):
        receive = faultline.receive(destination, os.path.join(workdir, "receive.log"),
                                    listen=f"tcp://{address}:0", extra=self._receive,
                                    netns=destination.netns, binary=self._binary)
        port = receive.port
        words = list(self._migrate)
        if "--mode" in words:  # the hook tells what the VM writes
            words += ["--hook", f"unix:{source.hook_socket}"]
        begin_s = time.monotonic()
        migrate = faultline.migrate(source, f"tcp://{address}:{port}",
                                    os.path.join(workdir, "migrate.log"), extra=words,
                                    binary=self._binary)
        undisturbed = self.disturb(address, port)
        if migrate.wait(TIMEOUT_S) != 0:
            raise SystemExit(migrate.describe() + receive.describe())
        end_s = time.monotonic()
        undisturbed()
        if receive.wait(60) != 0:
            raise SystemExit(receive.describe())
        return Moved(begin_s, end_s, migrate.process.cpu_s, receive.process.cpu_s, receive.last)


class Crowded(Faultline):
    """The same, with strangers at the destination's port during the move."""

    COUNT = 1000

    def disturb(self, address, port):
        crowd = Crowd(port, self.COUNT, host=address)

        def wait():
            knocks = crowd.knocks
            print(f"    {knocks} of {self.COUNT} strangers came during the move", flush=True)
            crowd.wait()
        return wait
