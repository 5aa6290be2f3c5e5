#!/usr/bin/env python3
"""The same guest moved by stock QEMU's post-copy (postcopy-ram, postcopy-preempt) and by Faultline.

Both in turn, on the same machine, with the same RAM backends, over the same link. Figures are the
guest's own: see tests/integration/rig/guest.py for how each is taken.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from rig import faultline, isolate, paths, stock  # noqa: E402
from rig.guest import experience  # noqa: E402
from rig.net import HOSTS, Lan  # noqa: E402
from rig.vm import Backend, Vm, ram_file  # noqa: E402

MEASURES = (  # name in the JSON, heading, format
    ("total_ms", "total ms", "{:.0f}"),
    ("blackout_ms", "blackout ms", "{:.1f}"),
    ("worst_stall_ms", "worst stall ms", "{:.1f}"),
    ("work_lost_s", "work lost s", "{:.2f}"),
    ("during_percent", "speed during %", "{:.0f}"),
    ("wrong", "wrong reads", "{:.0f}"),
)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qemu", default=paths.qemu())
    parser.add_argument("--mib", type=int, default=1024, help="guest RAM")
    parser.add_argument("--touched", type=int, default=512, help="MiB that the guest works on")
    parser.add_argument("--pattern", default="uniform")
    parser.add_argument("--rate", help="link rate as tc says it (1gbit), between two namespaces; "
                        "default: loopback")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("stock", "faultline"))
    parser.add_argument("--json", help="file for the figures and the machine")
    return parser.parse_args()


def by_faultline(source, destination, address, workdir):
    receive = faultline.receive(destination, os.path.join(workdir, "receive.log"),
                                listen=f"tcp://{address}:0", extra=("--insecure",),
                                netns=destination.netns)
    port = receive.port
    begin_s = time.monotonic()
    migrate = faultline.migrate(source, f"tcp://{address}:{port}",
                                os.path.join(workdir, "migrate.log"), extra=("--insecure",),
                                netns=source.netns)
    if migrate.wait(300) != 0:
        raise SystemExit(migrate.describe() + receive.describe())
    end_s = time.monotonic()
    if receive.wait(60) != 0:
        raise SystemExit(receive.describe())
    return begin_s, end_s


def by_stock(source, destination, address, _):
    times = stock.post_copy(source, destination, address, timeout_s=300)
    return times.begin_s, times.end_s


def measure(kind, options, lan):
    """One migration; returns its figures. lan: None for loopback."""
    address = HOSTS["h2"] if lan else "127.0.0.1"
    workdir = tempfile.mkdtemp(prefix="fl", dir="/tmp")
    ramdir = tempfile.mkdtemp(prefix="fl", dir="/dev/shm")
    vms = []
    try:
        for name, host in (("src", "h1"), ("dst", "h2")):
            vms.append(Vm(workdir, name, [Backend(options.mib, path=ram_file(ramdir))],
                          qemu=options.qemu, netns=lan.netns(host) if lan else None,
                          incoming=name == "dst", hook=kind == "faultline",
                          kernel=f"fl.mib={options.touched} fl.pattern={options.pattern}").start())
        source, destination = vms
        source.wait_ready()
        source.serial.wait_reports(30)
        move = by_faultline if kind == "faultline" else by_stock
        begin_s, end_s = move(source, destination, address, workdir)
        destination.serial.wait_reports(30)
        seen = experience(source.serial, destination.serial, begin_s, end_s)
    finally:
        for vm in vms:
            vm.kill()
        shutil.rmtree(workdir)
        shutil.rmtree(ramdir)
    return {"total_ms": (end_s - begin_s) * 1000, "blackout_ms": seen.blackout_ms,
            "worst_stall_ms": seen.worst_stall_us / 1000, "work_lost_s": seen.work_lost_s,
            "during_percent": 100 * seen.during_ops_s / seen.before_ops_s, "wrong": seen.wrong}


def machine(options):
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if "model name" in line), "?")
    version = subprocess.run([options.qemu, "--version"], capture_output=True, text=True).stdout
    return {"cpus": os.cpu_count(), "cpu": model, "kernel": platform.release(),
            "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
            "qemu": version.splitlines()[0]}


def main():
    options = parse()
    lan = Lan(options.rate) if options.rate else None
    kinds = [options.only] if options.only else ["stock", "faultline"]
    rounds = {kind: [] for kind in kinds}
    about = machine(options)
    print(f"{about['qemu']}; guest {options.mib} MiB, {options.touched} MiB {options.pattern}; "
          f"link {options.rate or 'loopback'}; {options.rounds} rounds in turn, medians (worst)")
    for number in range(options.rounds):
        for kind in kinds:
            rounds[kind].append(measure(kind, options, lan))
            print(f"  round {number + 1} {kind}: " + ", ".join(
                f"{heading} {form.format(rounds[kind][-1][name])}"
                for name, heading, form in MEASURES), flush=True)
    print(f"{'':12}" + "".join(f"{heading:>22}" for _, heading, _ in MEASURES))
    for kind in kinds:
        row = f"{kind:12}"
        for name, _, form in MEASURES:
            values = [figures[name] for figures in rounds[kind]]
            worst = min(values) if name == "during_percent" else max(values)
            text = f"{form.format(statistics.median(values))} ({form.format(worst)})"
            row += f"{text:>22}"
        print(row)
    if options.json:
        result = {"machine": about, "options": vars(options), "rounds": rounds}
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1))
    if lan:
        lan.close()
    return 0


if __name__ == "__main__":
    sys.exit(isolate.run_isolated(main))
