"""Whatever dies before the handover, the VM runs on at the source, and there only."""

import signal
import time

from rig import faultline
from rig.case import MigrationCase
from rig.relay import Relay

MIB = 96
# The device stream has some 300 kB: at this rate the load lasts long enough to hit it surely.
SLOW_LINK_BYTES_S = 300_000


class Handover(MigrationCase):
    def begin_over_relay(self, rate_bytes_s=None, migrate_extra=()):
        """Starts a move of a working guest through a relay."""
        source, destination = self.pair(mib=MIB, boot_sector=True)
        source.serial.wait_line("R 00000002")
        return self.begin_pair_over_relay(source, destination, rate_bytes_s, migrate_extra)

    def begin_pair_over_relay(self, source, destination, rate_bytes_s, migrate_extra):
        self.require_engine()
        receive = faultline.receive(destination, self.workdir + "/receive.log")
        self._own(receive)
        relay = Relay(receive.port, rate_bytes_s=rate_bytes_s)
        self.addCleanup(relay.close)
        migrate = faultline.migrate(source, f"tcp://127.0.0.1:{relay.port}",
                                    self.workdir + "/migrate.log", extra=migrate_extra)
        self._own(migrate)
        return source, destination, receive, migrate, relay

    def begin_frozen(self):
        """As above, and waits until the VM is frozen and its device state is on its way."""
        move = self.begin_over_relay(rate_bytes_s=SLOW_LINK_BYTES_S)
        source = move[0]
        source.qmp.wait_event("STOP", 30)
        time.sleep(0.1)
        return move

    def assert_runs_on_source_only(self, source, destination):
        source.wait_status("running", timeout_s=3)
        for _ in range(10):
            self.assertEqual("running", source.status())
            if destination.process.alive():
                try:
                    self.assertNotEqual("running", destination.status())
                except (ConnectionError, OSError):
                    pass  # it went away meanwhile
            time.sleep(0.1)
        self.assert_boot_sector_right(source)

    def assert_gone(self, vm):
        self.wait_until(lambda: not vm.process.alive(), 10, f"{vm.name}: its QEMU has ended")

    # --- killed while the VM is frozen and its devices are being loaded

    def test_migrate_killed_while_frozen(self):
        source, destination, receive, migrate, _ = self.begin_frozen()
        migrate.signal(signal.SIGKILL)
        self.assert_runs_on_source_only(source, destination)
        self.assert_failed(receive, receive.wait(30), 1, "source")
        self.assert_gone(destination)

    def test_receive_killed_while_frozen(self):
        source, destination, receive, migrate, _ = self.begin_frozen()
        receive.signal(signal.SIGKILL)
        self.assert_runs_on_source_only(source, destination)
        self.assert_failed(migrate, migrate.wait(30), 1, "source")

    def test_both_killed_while_frozen(self):
        source, destination, receive, migrate, _ = self.begin_frozen()
        receive.signal(signal.SIGKILL)
        migrate.signal(signal.SIGKILL)
        self.assert_runs_on_source_only(source, destination)

    def test_destination_qemu_killed_while_frozen(self):
        source, destination, receive, migrate, _ = self.begin_frozen()
        destination.process.kill()
        self.assert_runs_on_source_only(source, destination)
        self.assert_failed(migrate, migrate.wait(30), 1, "source")
        self.assert_failed(receive, receive.wait(30), 1, "source")

    def test_link_cut_while_frozen(self):
        source, destination, receive, migrate, relay = self.begin_frozen()
        relay.cut()
        self.assert_runs_on_source_only(source, destination)
        self.assert_failed(migrate, migrate.wait(30), 1, "source")
        self.assert_failed(receive, receive.wait(30), 1, "source")
        self.assert_gone(destination)

    def test_interrupted_while_frozen(self):
        for who in ("migrate", "receive"):
            with self.subTest(who=who):
                source, destination, receive, migrate, _ = self.begin_frozen()
                {"migrate": migrate, "receive": receive}[who].signal(signal.SIGINT)
                self.assert_runs_on_source_only(source, destination)
                self.assert_failed(migrate, migrate.wait(30), 1, "source")
                self.assert_failed(receive, receive.wait(30), 1, "source")

    # --- killed while both sides prepare

    def test_killed_at_any_time_of_the_preparation(self):
        """Kills `migrate` at times spread over its first 40 ms; the guest never stops for long."""
        source = self.vm("src", mib=MIB, boot_sector=True).start()
        source.serial.wait_line("R 00000002")
        for number in range(5):
            destination = self.vm("dst", mib=MIB, boot_sector=True, incoming=True).start()
            receive = faultline.receive(destination, f"{self.workdir}/receive{number}.log")
            self._own(receive)
            relay = Relay(receive.port, rate_bytes_s=SLOW_LINK_BYTES_S)
            migrate = faultline.migrate(source, f"tcp://127.0.0.1:{relay.port}",
                                        f"{self.workdir}/migrate{number}.log")
            self._own(migrate)
            time.sleep(number * 0.01)
            migrate.signal(signal.SIGKILL)
            self.assert_runs_on_source_only(source, destination)
            receive.kill()
            relay.close()
            destination.kill()

    def test_a_failed_move_can_be_tried_again(self):
        source, destination, receive, migrate, relay = self.begin_frozen()
        relay.cut()
        self.assert_runs_on_source_only(source, destination)
        migrate.wait(30)
        receive.wait(30)
        again = self.vm("dst", mib=MIB, boot_sector=True, incoming=True).start()
        self.migrate(source, again)
        self.assert_boot_sector_right(again)

    # --- after the handover

    def begin_slow_post_copy(self):
        """A move that is past its handover and takes some seconds more."""
        source, destination = self.pair(mib=256, kernel="fl.mib=32 fl.idle=64")
        source.wait_ready()
        move = self.begin_pair_over_relay(source, destination, None, ("--bandwidth", "12M"))
        destination.wait_status("running")
        return move

    def test_signals_after_the_handover_do_not_stop_the_serving(self):
        source, destination, receive, migrate, _ = self.begin_slow_post_copy()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            migrate.signal(number)
            receive.signal(number)
            time.sleep(0.3)
        self.assertTrue(migrate.process.alive(), "the post-copy was over before the signals came")
        self.assertEqual(0, migrate.wait(60), migrate.describe())
        self.assertEqual(0, receive.wait(60), receive.describe())
        self.assert_guest_right(destination)

    def test_source_never_resumes_after_the_handover(self):
        source, destination, receive, migrate, _ = self.begin_slow_post_copy()
        migrate.signal(signal.SIGKILL)
        time.sleep(3)
        self.assertNotEqual("running", source.status())
