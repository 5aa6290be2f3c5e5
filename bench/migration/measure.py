"""One migration of one scenario by one mover, with everything counted around it."""

import os
import shutil
import tempfile
import time

import cpu
import figures
import link as wire
from rig import memory, stock
from rig.guest import fields_of
from rig.vm import Backend, Vm, ram_file

GIB = 1 << 30
TICKS_MIN = 10  # in a second at least, from a guest that lives
QUIET_S = 2.5  # before the move, of which the last two are what the guest's speed is held against


class Pair:
    """Source and destination of one measurement; everything of it ends with `close`."""

    def __init__(self, scenario, mover, link, qemu):
        self.workdir = tempfile.mkdtemp(prefix="fl", dir="/tmp")
        self.ramdir = tempfile.mkdtemp(prefix="fl", dir="/dev/shm")
        self.vms = []
        try:
            for name, netns in (("src", None), ("dst", link.netns)):
                # Aligned as `receive --huge-pages` needs it, for every mover.
                backend = Backend(scenario.mib, path=ram_file(self.ramdir), extra=",align=2M")
                vm = Vm(self.workdir, name, [backend],
                        qemu=qemu, netns=netns, incoming=name == "dst", hook=mover.hook,
                        cpus=scenario.cpus, kernel=f"{scenario.words} fl.tick_ms=10")
                self.vms.append(vm)
                vm.start()
        except BaseException:
            self.close()
            raise
        self.source, self.destination = self.vms

    def close(self):
        for vm in self.vms:
            vm.kill()
        shutil.rmtree(self.workdir)
        shutil.rmtree(self.ramdir)

    def allocated_mib(self):
        """Memory that the RAM files of both sides really hold."""
        return [memory.allocated_bytes(vm.backends[0].path) / 2**20 for vm in self.vms]


def event_s(vm, name):
    """When QEMU made its last event of that name (time.monotonic)."""
    stamp = [event for event in vm.qmp.events if event["event"] == name][-1]["timestamp"]
    return stamp["seconds"] + stamp["microseconds"] / 1e6 - (time.time() - time.monotonic())


def cpu_figures(source, destination, moved, sent_bytes):
    """CPU seconds by who used them; per GiB without the vCPUs."""
    of_source = source.used()
    of_destination = destination.used()
    gib = max(sent_bytes / GIB, 1e-9)
    return {
        "cpu_source_engine_s": moved.source_engine_s, "cpu_source_qemu_s": of_source["qemu"],
        "cpu_source_vcpu_s": of_source["vcpu"],
        "cpu_destination_engine_s": moved.destination_engine_s,
        "cpu_destination_qemu_s": of_destination["qemu"],
        "cpu_destination_vcpu_s": of_destination["vcpu"],
        "cpu_source_s_gib": (moved.source_engine_s + of_source["qemu"]) / gib,
        "cpu_destination_s_gib": (moved.destination_engine_s + of_destination["qemu"]) / gib,
    }


def wire_figures(link, before, moved):
    """Bytes that went from source to destination, and the share of the line's rate."""
    sent, charged = (now - then for now, then in zip(link.sent_bytes(), before))
    took_s = moved.end_s - moved.begin_s
    line = {"line_percent": 100 * charged / took_s / link.bytes_s} if link.rate else {}
    return {"wire_mib": sent / 2**20, "wire_mib_s": sent / 2**20 / took_s, **line}


def settle(settle_s, mib, folder):
    """Lets the guest work. Early on, as much memory as will be needed is taken and given back: a
    host that lends this machine its memory may have taken free pages back, and to get them again
    would be measured as part of the move."""
    begin_s = time.monotonic()
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, mib << 20)
    time.sleep(max(QUIET_S, begin_s + settle_s - time.monotonic()))


class Broken(Exception):
    """The VM was not moved whole."""


def arrived(pair, moved, numbers, threads):
    """What there is to say of a VM that was moved: figures, and its speed over time."""
    source, destination = pair.source, pair.destination
    if len(destination.serial.ticks) < TICKS_MIN:
        raise Broken(f"the guest is silent on the destination:\n{destination.serial.tail()}")
    sample = figures.Sample(source.serial, destination.serial, moved.begin_s, moved.end_s,
                            event_s(source, "STOP"), event_s(destination, "RESUME"), threads)
    seen, speeds = figures.guest_figures(sample)
    try:
        wrong = destination.serial.reports[-1].wrong + destination.serial.verify(60)
    except AssertionError as silence:
        raise Broken(str(silence)) from silence
    allocated = pair.allocated_mib()
    latency = moved.summary.get("fault_latency_us", {})
    faults = {f"fault_{name}_us": latency[name] for name in ("p50", "p99") if name in latency}
    set_us = moved.source_summary.get("pre_copy", {}).get("settle_us")
    settled = {} if set_us is None else {"settle_ms": set_us / 1000}
    return {**seen, **numbers, **faults, **settled, "passes": moved.passes, "wrong": wrong,
            "allocated_source_mib": allocated[0], "allocated_destination_mib": allocated[1],
            "engine": moved.summary, "engine_source": moved.source_summary}, speeds


def cancelled(pair, moved, wire_mib):
    """The same of a VM that stayed where it was."""
    seen, speeds = figures.attempt_figures(
        figures.Attempt(pair.source.serial, moved.begin_s, moved.end_s))
    wrong = pair.source.serial.reports[-1].wrong + pair.source.serial.verify(300)
    return {**seen, "attempt_wire_mib": wire_mib, "passes": moved.passes, "wrong": wrong}, speeds


def measure(scenario, mover, link, options):
    """Boots the guest, lets it work, moves it; returns its figures and its speed over time.

    Where a mover may break and does, the only figure is that, and there is no speed.
    """
    pair = Pair(scenario, mover, link, options.qemu)
    try:
        return _measure(pair, mover, link, scenario, options)
    except (Broken, stock.Failed) as reason:
        if not mover.may_break:
            raise
        return {"broken": 1, "broken_why": str(reason)}, []
    finally:
        pair.close()


def _measure(pair, mover, link, scenario, options):
    source, destination = pair.source, pair.destination
    ready = fields_of(source.wait_ready(300))
    settle(options.settle_s, min(scenario.mib, 2 * scenario.touched), pair.ramdir)
    before_mib = pair.allocated_mib()[0]
    sent = link.sent_bytes()
    cpus = cpu.QemuCpu(source), cpu.QemuCpu(destination)
    elsewhere = cpu.Elsewhere([source.pid(), destination.pid()])
    moved = mover.move(source, destination, wire.DESTINATION, pair.workdir)
    numbers = wire_figures(link, sent, moved)
    if moved.completed:
        numbers.update(cpu_figures(*cpus, moved, numbers["wire_mib"] * 2**20))
    time.sleep(max(0, moved.end_s + figures.HORIZON_S + 0.3 - time.monotonic()))
    if moved.completed:
        numbers["elsewhere_cpu_s"] = elsewhere.used(
            moved.source_engine_s + moved.destination_engine_s)
        numbers["wire_to_memory"] = numbers["wire_mib"] / before_mib
        found, speeds = arrived(pair, moved, numbers, int(ready["threads"]))
    else:
        found, speeds = cancelled(pair, moved, numbers["wire_mib"])
    return {**found, "allocated_before_mib": before_mib}, speeds
