"""Migrations that are disturbed at random, each drawn from a seed."""

import dataclasses
import os
import random
import signal
import time

from . import tls
from .aftermath import Aftermath
from .events import fill
from .vm import Backend, ram_file

# What may be struck, and how often it is drawn.
STRIKES = {
    "kill migrate": 4, "kill receive": 4, "kill both": 3, "kill the source's guardian": 1,
    "kill the destination's guardian": 1, "kill the source's QEMU": 2,
    "kill the destination's QEMU": 2, "reset": 4, "down": 3, "silent": 3, "half-open": 2,
    "trickle": 2, "corrupt": 2, "interrupt migrate": 1, "interrupt receive": 1, "stall migrate": 2,
    "stall receive": 2, "stall the source's QEMU": 1, "stall the destination's QEMU": 1,
    "fill the destination's memory": 2}
_LASTING = ("down", "silent", "trickle", "stall", "fill")
# Steps of the control channel; the last ones come only when a connection was made again.
STEPS = ("Welcome", "Offer", "Accepted", "Ready", "Frozen", "PackedDeviceState", "DeviceStateEnd",
         "Loaded", "Commit", "Running", "AllocationMapEnd", "Completed", "Goodbye")
_FROM_SOURCE = ("Offer", "Frozen", "AllocationMapEnd", "PackedDeviceState", "DeviceStateEnd",
                "Commit", "Goodbye")
_ANY_LANE = (None, "control", "demand", "bulk")
_OPTIONS = ((), ("--compress", "off", "--bandwidth", "60M"),
            ("--compress", "off", "--bandwidth", "15M"),
            ("--compress", "lz4", "--push-order", "plain"))
_MIB = {"tcg": 96, "kvm": 32}  # under KVM this guest is slow here
_SPARE_MIB = 8  # on the destination's tmpfs, if it is to be filled
HELD_S = 6  # for so long a step is waited for; it does not come if the migration has ended


@dataclasses.dataclass
class Strike:
    kind: str
    step: str        # before this message; "": at a moment
    delay_s: float   # after the one before it, or the beginning
    lasts_s: float   # of what lasts
    lane: str        # that is corrupted
    skip_bytes: int  # before the corrupted one

    def __str__(self):
        when = f"before {self.step}" if self.step else f"{self.delay_s:.3f} s later"
        what = self.kind
        if self.kind.startswith(_LASTING):
            what += f" for {self.lasts_s:.2f} s"
        if self.kind == "corrupt":
            what += f" (under TLS {self.lane or 'any'} lane after {self.skip_bytes} bytes)"
        return f"{when}: {what}"


@dataclasses.dataclass
class Plan:
    """What a seed stands for."""

    seed: int
    security: str
    accel: str
    backends: int
    migrate_options: tuple
    strikes: list

    @staticmethod
    def of(seed):
        chance = random.Random(seed)
        security = chance.choices(("plain", "psk", "certificates"), (6, 3, 1))[0]
        plan = Plan(seed, security, chance.choices(("tcg", "kvm"), (19, 1))[0], chance.choice((1, 2)),
                    chance.choices(_OPTIONS, (1, 3, 3, 1))[0], [])
        for number in range(chance.choices((1, 2, 3), (5, 3, 2))[0]):
            plan.strikes.append(Plan._strike(chance, plan, number))
        kinds = " ".join(strike.kind for strike in plan.strikes)
        # Without both nobody is left to put the VM back: the operator's guide says so.
        if "guardian" in kinds and ("kill migrate" in kinds or "kill both" in kinds):
            plan.strikes = [strike for strike in plan.strikes if "guardian" not in strike.kind]
        return plan

    @staticmethod
    def _strike(chance, plan, number):
        kind = chance.choices(list(STRIKES), list(STRIKES.values()))[0]
        at_a_step = chance.random() < 0.6 and plan.security == "plain"
        step = chance.choice(STEPS) if at_a_step else ""
        delay_s = chance.choice((chance.uniform(0, 0.15), chance.uniform(0, 1.5))) if number == 0 \
            else chance.uniform(0, 0.8)
        lasts_s = 6.5 if chance.random() < 0.08 else chance.uniform(0.05, 1.5)
        return Strike(kind, step, delay_s, lasts_s, chance.choice(_ANY_LANE),
                      int(10 ** chance.uniform(0, 5.5)))

    def __str__(self):
        return (f"seed {self.seed}: {self.accel}, {self.backends} backends, {self.security}, "
                f"{' '.join(self.migrate_options) or 'no options'}; "
                + "; ".join(map(str, self.strikes)))


class Disturbed:
    """Runs a plan. The case is a RecoveryCase."""

    def __init__(self, case, plan):
        self.case = case
        self.plan = plan
        self._mib = _MIB[plan.accel]
        self._tmpfs = case.ramdir
        source = case.small("src", **self._vm_options()).start()
        if any(strike.kind.startswith("fill") for strike in plan.strikes):
            self._tmpfs = case.tmpfs(f"size={self._mib + _SPARE_MIB}m")
        destination = case.waiting(**self._vm_options())
        secrets = self._secrets()
        receive = case.receive(destination, extra=(*secrets, *case.run_directory))
        self.relay = case.relay(receive.port, opaque=plan.security != "plain")
        if plan.strikes[0].step:
            self.relay.hold_at(plan.strikes[0].step)
        case.wait_rounds(source, 2)
        migrate = case.send(source, self.relay.port, extra=(*secrets, *case.run_directory,
                                                            *plan.migrate_options))
        self.aftermath = Aftermath(case, source, destination, receive, migrate)

    def _vm_options(self):
        count = self.plan.backends
        return {"mib": self._mib, "accel": self.plan.accel,
                "backends": [Backend(self._mib // count, path=ram_file(self._tmpfs))
                             for _ in range(count)]}

    def _secrets(self):
        if self.plan.security == "plain":
            return ()
        path = os.path.join(self.case.workdir, self.plan.security)
        if self.plan.security == "psk":
            return ("--tls-psk", path if os.path.exists(path) else tls.psk_file(path))
        if not os.path.exists(path):
            tls.Authority(path).folder("host")
        return ("--tls-dir", os.path.join(path, "host"))

    def run(self):
        """Strikes, lets the operator do what is to be done, and checks what must hold."""
        for strike in self.plan.strikes:
            self._wait_for(strike)
            self._do(strike)
            self._let_go(strike)
        self.relay.flow()
        self.relay.up()
        self.aftermath.settle()
        self.aftermath.check()

    def _wait_for(self, strike):
        if not strike.step:
            time.sleep(strike.delay_s)
            return
        self.relay.hold_at_if_free(strike.step)
        end_s = time.monotonic() + HELD_S
        while time.monotonic() < end_s and not self.relay.held:
            commands = self.aftermath.commands.values()
            if not all(command.process.alive() for command in commands):
                break
            time.sleep(0.005)

    def _let_go(self, strike):
        """What was held goes on, unless its sender is dead."""
        if not strike.step:
            return
        sender = "migrate" if strike.step in _FROM_SOURCE else "receive"
        if strike.kind in (f"kill {sender}", "kill both"):
            self.relay.swallow()
        else:
            self.relay.release()

    def _do(self, strike):
        verb, _, whom = strike.kind.partition(" ")
        getattr(self, "_" + verb.replace("-", "_"))(strike, whom)

    def _kill(self, _, whom):
        for name in ("migrate", "receive"):
            if whom in (name, "both"):
                self.aftermath.kill_command(name)
        if whom == "the source's guardian":
            self._kill_guardian("migrate")
        elif whom == "the destination's guardian":
            self._kill_guardian("receive")
        elif whom.endswith("QEMU"):
            self.aftermath.kill_qemu(self._side(whom))

    def _reset(self, *_):
        self.relay.reset()

    def _half_open(self, *_):
        self.relay.half_close()

    def _corrupt(self, strike, _):
        # In plain TCP a page that is wrong cannot be told from one that is right.
        if self.relay.opaque:
            self.relay.corrupt(strike.lane, strike.skip_bytes)
        else:
            self.relay.corrupt_head()

    def _down(self, strike, _):
        self.relay.down()
        time.sleep(strike.lasts_s)
        self.relay.up()

    def _silent(self, strike, _):
        self.relay.silence()
        time.sleep(strike.lasts_s)
        self.relay.flow()

    def _trickle(self, strike, _):
        self.relay.rate_bytes_s = 4096
        time.sleep(strike.lasts_s)
        self.relay.rate_bytes_s = None

    def _interrupt(self, _, whom):
        command = self.aftermath.commands[whom]
        if command.process.alive():
            command.signal(signal.SIGINT)

    def _stall(self, strike, whom):
        if whom.endswith("QEMU"):
            process = self.aftermath.vms[self._side(whom)].process
        else:
            process = self.aftermath.commands[whom].process
        if process.alive():
            process.signal(signal.SIGSTOP)
            time.sleep(strike.lasts_s)
            process.signal(signal.SIGCONT)

    def _fill(self, strike, _):
        path = os.path.join(self._tmpfs, "filler")
        fill(path)
        time.sleep(strike.lasts_s)
        os.unlink(path)

    @staticmethod
    def _side(whom):
        return "source" if "source" in whom else "destination"

    def _kill_guardian(self, name):
        pid = self.aftermath.commands[name].process.pid
        for guardian, parent in self.case.guardians().items():
            if parent == pid:
                os.kill(guardian, 9)
