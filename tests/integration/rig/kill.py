"""A move that stands still at a chosen step of the control channel, for tests that kill."""

import dataclasses

from .case import MigrationCase
from .faultline import Command
from .relay import Relay
from .small import SmallVmCase
from .vm import Vm

# Before which message the move stops. One of each phase, and the last moment before COMMIT.
POINTS = ("Welcome", "Accepted", "Frozen", "DeviceStateEnd", "Loaded")
# Every step before COMMIT: connecting, preparing (3), freezing (2), handing over (3).
ALL_POINTS = ("Welcome", "Offer", "Accepted", "Ready", "Frozen", "PackedDeviceState",
              "DeviceStateEnd", "Loaded")
# These are the source's messages, the others the destination's.
_FROM_SOURCE = ("Offer", "Frozen", "AllocationMapEnd", "PackedDeviceState", "DeviceStateEnd",
                "Commit")


@dataclasses.dataclass
class StoppedMove:
    """A move that waits before the message `point`. The VM is stopped already from Frozen on."""

    point: str
    source: Vm
    destination: Vm
    receive: Command
    migrate: Command
    relay: Relay

    @property
    def loaded(self):
        """The destination has said Loaded: it cannot tell by itself whose the VM is."""
        return self.point == "Loaded"

    @property
    def tells(self):
        """The destination may be loaded: `migrate` tries for ten seconds to tell it the outcome if
        the connection is lost, long after the VM is back."""
        return self.point in ("DeviceStateEnd", "Loaded")

    def let_die(self, dead):
        """After `dead` ("source" or "destination") was killed: if the held message was its own, it
        never left; if not, it arrives nowhere."""
        mine = "source" if self.point in _FROM_SOURCE else "destination"
        if mine == dead:
            self.relay.swallow()
        else:
            self.relay.release()


class KillCase(SmallVmCase):
    """One source VM lives through all the moves of a test: each must leave it at work."""

    timeout_s = 240

    def setUp(self):
        MigrationCase.setUp(self)
        self.source = self.working()

    def stopped_at(self, point, extra=(), **relay_options):
        """A move that stands still before `point`; `extra` is for both commands."""
        destination = self.waiting()
        receive = self.receive(destination, extra=extra)
        relay = self.relay(receive.port, **relay_options)
        relay.hold_at(point)
        migrate = self.send(self.source, relay.port, extra=extra)
        relay.wait_held()
        return StoppedMove(point, self.source, destination, receive, migrate, relay)

    def at_each(self, points, case):
        """Runs case(move) at each point, as a sub-test that must leave nothing behind."""
        for point in points:
            with self.subTest(before=point):
                move = self.stopped_at(point)
                case(move)
                self.clear(move)

    def clear(self, move):
        """Ends what a move has left over; the source must be as if nothing had been."""
        move.relay.close()
        for command in (move.migrate, move.receive):
            command.kill()
        move.destination.kill()
        self.wait_until(lambda: not self.guardians(), 5, "no guardian is left")
        self.assertEqual("running", move.source.status())
        self.assertEqual(set(), self.capabilities(move.source))

    # --- what must hold

    def assert_back(self, move):
        """The VM runs on the source and nowhere else."""
        self.assert_runs_on_source_only(move.source, move.destination)

    def assert_receive_gave_up(self, move):
        """It ended its QEMU and itself. Once it has said Loaded, only the source can tell it to."""
        if move.loaded:
            self.assertTrue(move.receive.process.alive(), move.receive.describe())
            self.assertEqual("paused", move.destination.status())
            return
        self.assert_failed(move.receive, move.receive.wait(15), 1, "source", "source")
        self.assert_gone(move.destination)

    def assert_migrate_gave_up(self, move, *words):
        self.assert_failed(move.migrate, move.migrate.wait(15), 1, "source", *words)
