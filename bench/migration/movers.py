"""Who moves the guest, from the command to the last page: QEMU by itself, or Faultline."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import time

from rig import faultline, malformed, paths, stock, strangers
from rig.process import Process

TIMEOUT_S = 300


@dataclasses.dataclass
class Moved:
    """One migration (time.monotonic), and what the movers' own processes used."""

    begin_s: float
    end_s: float
    source_engine_s: float = 0.0  # CPU seconds of `faultline migrate`, with its guardian
    destination_engine_s: float = 0.0
    summary: dict = dataclasses.field(default_factory=dict)  # what the destination's engine said
    source_summary: dict = dataclasses.field(default_factory=dict)  # and the source's
    passes: int = 0  # rounds over the memory before the switch
    completed: bool = True  # False: cancelled, the VM is where it was


class Stock:
    """QEMU's own: by default postcopy-ram and postcopy-preempt, switched to post-copy at once."""

    name = "stock"
    hook = None
    may_break = True  # it is not ours to mend: a round that breaks is counted, and the next begins

    def move(self, source, destination, address, _workdir):
        times = self.migrate(source, destination, address)
        return Moved(times.begin_s, times.end_s, summary={"downtime_ms": times.downtime_ms},
                     passes=times.passes, completed=times.completed)

    def migrate(self, source, destination, address):
        return stock.post_copy(source, destination, address, TIMEOUT_S)


class StockPreCopy(Stock):
    """QEMU's pre-copy, as it is by default; cancelled where it has not converged within limit_s."""

    name = "stock-precopy"

    def __init__(self, limit_s):
        self._limit_s = limit_s

    def migrate(self, source, destination, address):
        return stock.pre_copy(source, destination, address, self._limit_s, TIMEOUT_S)


class StockSwitch(Stock):
    """QEMU's pre-copy, then its post-copy. `after`: so many passes ("1"), or seconds ("3s")."""

    name = "stock-switch"

    def __init__(self, after):
        in_seconds = after.endswith("s")
        self._when = ({"seconds": float(after[:-1])} if in_seconds else {"passes": int(after)})

    def migrate(self, source, destination, address):
        return stock.switched(source, destination, address, timeout_s=TIMEOUT_S, **self._when)


class Copy:
    """No migration: a plain copy of the VM's memory over the same link, as long as one pass takes at
    1 Gbit/s. What the guest loses beside it is not the tracking's."""

    name = "copy"
    hook = None
    may_break = False
    SECONDS = 5

    def move(self, source, destination, address, workdir):
        program = [sys.executable, pathlib.Path(__file__).with_name("plain_copy.py")]
        into = pathlib.Path(destination.backends[0].path).with_name("copy")
        receiver = Process([*program, "receive", address, into], os.path.join(workdir, "copy.log"),
                           stdout=subprocess.PIPE, netns=destination.netns)
        port = receiver.child.stdout.readline().decode().strip()
        begin_s = time.monotonic()
        sender = Process([*program, "send", source.backends[0].path, address, port, self.SECONDS],
                         os.path.join(workdir, "copy.log"))
        for process in (sender, receiver):
            if process.wait(TIMEOUT_S) != 0:
                raise SystemExit(f"{process.words}: {process.log()}")
        return Moved(begin_s, time.monotonic(), sender.cpu_s, receiver.cpu_s, completed=False)


class Faultline:
    """A build of Faultline with some options: "NAME;MIGRATE WORDS;RECEIVE WORDS;BUILD FOLDER"."""

    may_break = False

    def __init__(self, text, build=""):
        name, migrate, receive, own_build = (text.split(";") + [""] * 3)[:4]
        self.name = name
        self._migrate = self._secured(migrate.split())
        self._receive = self._secured(receive.split())
        build = pathlib.Path(own_build or build) if own_build or build else None
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
        rounds = migrate.last.get("pre_copy", {}).get("rounds", [])
        return Moved(begin_s, end_s, migrate.process.cpu_s, receive.process.cpu_s, receive.last,
                     migrate.last, passes=len(rounds))


class Crowded(Faultline):
    """The same, with strangers at the destination's port during the move, and as many handshakes
    that are malformed."""

    COUNT = 1000
    SEED = 4

    def disturb(self, address, port):
        crowd = strangers.Crowd(port, self.COUNT, host=address)
        speakers = malformed.Crowd(port, self.SEED, self.COUNT, host=address).start()

        def wait():
            print(f"    {crowd.knocks} of {self.COUNT} strangers and {speakers.come} of {self.COUNT} "
                  "malformed handshakes came during the move", flush=True)
            crowd.wait()
            speakers.join(90)
        return wait


# Ours that have a name of their own, as --variant says them.
NAMED = ("faultline",
         "hybrid;--mode hybrid",
         "precopy;--mode precopy",
         "hybrid-around;--mode hybrid --push-order fault-around",
         "hybrid-plain;--mode hybrid --push-order plain")
USUAL = ("stock", "faultline")  # where nobody says who


def make(options):
    """The movers that the options ask for, in that order; ratios are to the first."""
    others = [Stock(), StockPreCopy(options.precopy_limit_s), StockSwitch(options.switch_after), Copy()]
    named = {mover.name: mover for mover in others}
    for text in NAMED:
        name = text.split(";")[0]
        named[name] = Faultline(text, options.build)
    added = [*(Faultline(text, options.build) for text in options.variant),
             *(Crowded(text, options.build) for text in options.crowded)]
    named.update((mover.name, mover) for mover in added)
    wanted = (options.only.split(",") if options.only
              else [*USUAL, *(mover.name for mover in added)])
    unknown = [name for name in wanted if name not in named]
    if unknown:
        raise SystemExit(f"--only: no mover {', '.join(unknown)}; there are: {', '.join(named)}")
    return [named[name] for name in wanted]
