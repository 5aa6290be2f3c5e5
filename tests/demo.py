#!/usr/bin/env python3
"""Shows one migration: a live Linux guest that checks its own memory moves between two QEMUs here."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from rig import faultline, isolate, paths  # noqa: E402
from rig.guest import experience  # noqa: E402
from rig.vm import Backend, Vm, ram_file  # noqa: E402

RAM_MIB = 1024
PATTERN_MIB = 512


def show(source, destination, workdir):
    source.wait_ready()
    source.serial.wait_reports(20)
    print("2. It runs and checks every read. Moving it to another QEMU over loopback:")
    receive = faultline.receive(destination, os.path.join(workdir, "receive.log"))
    print(f"     $ faultline receive --listen tcp://127.0.0.1:{receive.port} --qmp ... --hook ...")
    print(f"     $ faultline migrate --to tcp://127.0.0.1:{receive.port} --qmp ...")
    begin_s = time.monotonic()
    migrate = faultline.migrate(source, f"tcp://127.0.0.1:{receive.port}",
                                os.path.join(workdir, "migrate.log"))
    statuses = migrate.wait(120), receive.wait(120)
    end_s = time.monotonic()
    if statuses != (0, 0):
        print(migrate.describe(), receive.describe(), sep="\n")
        return 1
    last = receive.last
    print(f"   Downtime {last['downtime_us'] / 1000:.1f} ms; all memory there after "
          f"{last['total_us'] / 1e6:.2f} s. Of {last['pages_total']:,} pages "
          f"{last['pages_demand']:,} came on demand,\n   {last['pages_pushed']:,} were pushed, "
          f"{last['pages_absent']:,} had never been allocated and did not travel.")
    destination.serial.wait_reports(20)
    seen = experience(source.serial, destination.serial, begin_s, end_s)
    unread = destination.serial.verify()
    # From the guest's clock against this host's; where the host is too busy the two cannot be compared.
    stopped = f"{seen.blackout_ms:,.1f} ms" if seen.blackout_ms > 0 else "not measurable"
    print(f"""3. What the guest saw:
     reads checked   {seen.reads:>14,}
     wrong reads     {seen.wrong:>14,}
     wrong pages     {unread:>14,}       (whole memory read once more, after the move)
     worst stall     {seen.worst_stall_us / 1000:>14,.1f} ms    (longest single operation)
     stopped for     {stopped:>17}    (at the switchover)
     speed before    {seen.before_ops_s:>14,.0f} operations a second
     speed during    {seen.during_ops_s:>14,.0f}
     speed after     {seen.after_ops_s:>14,.0f}""")
    return 1 if seen.wrong or unread else 0


def main():
    version = subprocess.run([paths.qemu(), "--version"], capture_output=True, text=True).stdout
    print(f"1. Booting a Linux guest ({RAM_MIB} MiB, {PATTERN_MIB} MiB of it patterned) in a stock "
          f"{version.splitlines()[0]}.", flush=True)
    workdir = tempfile.mkdtemp(prefix="fl", dir="/tmp")
    ramdir = tempfile.mkdtemp(prefix="fl", dir="/dev/shm")
    vms = []
    try:
        for name in ("src", "dst"):
            vms.append(Vm(workdir, name, [Backend(RAM_MIB, path=ram_file(ramdir))],
                          incoming=name == "dst", kernel=f"fl.mib={PATTERN_MIB}").start())
        return show(*vms, workdir)
    finally:
        for vm in vms:
            vm.kill()
        shutil.rmtree(workdir)
        shutil.rmtree(ramdir)


if __name__ == "__main__":
    sys.exit(isolate.run_isolated(main))
