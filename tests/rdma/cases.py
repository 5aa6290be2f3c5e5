"""What runs in the RDMA guest, in this order. tests/rdma/init.sh makes the devices rxe0 and rxe1."""

import json
import re
import statistics


FIGURE_TURNS = 3


def nothing_else(text):
    del text
    return None


class Case:
    """One command line in the guest; with `destination`, one in each of two guests that are joined.

    `programs` are those that it needs: paths in the build tree, or names of this machine's own. A
    GoogleTest program lies in /tests. `check` returns what is wrong with what was printed, or None.
    """

    def __init__(self, name, command, programs, limit_s=30, must_print=(), is_gtest=False,
                 check=nothing_else, destination=None):
        self.name = name
        self.command = command
        self.programs = list(programs)
        self.limit_s = limit_s
        self.must_print = must_print
        self.is_gtest = is_gtest
        self.check = check
        self.destination = destination


def suite(name, program, limit_s=60, must_print=(), only="*", without=(), afterwards="",
          before="", also=()):
    """A GoogleTest program of the build tree, without the tests that need what the guest has not.

    `afterwards` is run when it has ended, and what that prints is looked at, too. `also` are programs
    that it starts.
    """
    command = (f"{before}/tests/{program.split('/')[-1]} --gtest_brief=1 "
               f"'--gtest_filter={only}-{':'.join(without)}'")
    if afterwards:
        command += f"; status=$?; {afterwards}; exit $status"
    return Case(name, command, [program, *also], limit_s, must_print, is_gtest=True)


def perftest(name, program, arguments=""):
    """A program of perftest's against itself over rxe0; its last figures are in the output."""
    line = f"{program} -d rxe0 {arguments}"
    return Case(name, f"{line} > /dev/null & sleep 0.5; {line} 127.0.0.1", [program],
                check=lambda text: None if re.search(r"^ *\d+ +\d+ +[1-9]", text, re.M)
                else "it printed no figures")


def moved(text):
    """Whether both sides of the example VMM say that all of its guest has moved."""
    for side in ("source", "destination"):
        if not re.search(rf"^{side} OK owner=destination .*wrong=0$", text, re.M):
            return f"the {side} does not say that the guest moved whole"
    ended = re.search(r"^destination ended: .*demand=(\d+) pushed=(\d+) absent=(\d+)$", text, re.M)
    if not ended or int(ended[1]) == 0 or int(ended[2]) == 0:
        return "pages came by one lane only"
    return None


# What the kernel's own TLS has done so far.
KERNEL_TLS = "cat /proc/net/tls_stat"
# Many packets on the device: it did not go by TCP.
BY_RDMA = r"^packets=\d{3,}$"
# The same of the other device.
BY_BOTH_RAILS = [BY_RDMA, r"^other_packets=\d{3,}$"]
# The source has written what it pushed: there is a SEND behind each WRITE. Some more connect the queue pairs.
BY_WRITES = r"^sends=\d{3,}$"
BY_WRITES_ON_BOTH_RAILS = [BY_WRITES, r"^other_sends=\d{3,}$"]
BY_READS = r"^sends=\d{1,2}$"
WRITES = "--insecure --rdma bulk=write"
OF_WRITES = ["RdmaWrites/*", "RailsWrites/*", "*RdmaWritesTest.*", "HostileGrantsTest.*"]
# Control and two lanes, each with two ends.
BY_TLS = r"^tls=6$"
MAKE_KEY = "(umask 077; echo rig:00112233445566778899aabbccddeeff > /tmp/keys.psk);"
WITH_KEY = "--tls-psk /tmp/keys.psk"
# Two rails, each on a device of its own.
RAILS = "rdma://10.9.0.1:4444,rdma://10.9.1.1"
EXAMPLE_VMM = "tests/example_vmm/example-vmm"


def example_vmm(name, uri, must_print=(), options="--insecure", cut="whole"):
    """A whole post-copy between two processes, every page checked."""
    return Case(name, f"{MAKE_KEY} bash /tests/move.sh {uri} {cut} {options}", [EXAMPLE_VMM], 60,
                must_print, check=moved)


def one_gone(who, phase, *must_print):
    """One side is killed in the middle, and the other one says what that means."""
    statuses = {"source": "source 137, destination 1", "destination": "source 1, destination 137"}
    return Case(f"{who}_gone_{phase}", f"bash /tests/one_gone.sh {who} {phase}", [EXAMPLE_VMM], 60,
                [f"^ended: {statuses[who]}$", *must_print])


def move_qemu(name, uri, secrets, options="", must_print=()):
    """The command and a VM of stock QEMU, in the guest."""
    return Case(name, f"{MAKE_KEY} bash /tests/move_qemu.sh {uri} '{secrets}' {options}",
                ["./faultline", "./faultline-qemu.so", "qemu-system-x86_64"], 120,
                [r'"event":"completed"', "^the RAM is the same$", *must_print])


def between_guests(name, uri, options):
    """The example VMM moves from one guest into another: its source asks until somebody listens."""
    address = re.search(r"//(.*):", uri)[1]
    return Case(name, f"{MAKE_KEY} until (: > /dev/tcp/{address}/4444) 2> /dev/null; do sleep 0.2; done; "
                f"/tests/example-vmm source {uri} {options}", [EXAMPLE_VMM], 120, check=moved,
                # Its last words are on their way yet when it ends.
                destination=f"{MAKE_KEY} /tests/example-vmm destination {uri} {options}; status=$?; "
                "cat /sys/class/infiniband/rxe0/ports/1/hw_counters/rcvd_pkts; sleep 1; exit $status",
                must_print=[r"^\d{3,}$"])


def figures(text):
    """Medians of Faultline's figures beside perftest's and TCP's, turn by turn on one device."""
    def median(pattern):
        values = [float(value) for value in re.findall(pattern, text, re.M)]
        return statistics.median(values) if len(values) == FIGURE_TURNS else None

    latency = median(r"^ *4096 +\d+ +[\d.]+ +[\d.]+ +([\d.]+)")
    rate = median(r"^ *65536 +\d+ +[\d.]+ +([\d.]+)")
    mine = {name: median(rf"^{name}=([\d.]+)") for name in (
        "tcp_source_cpu_us", "demand_source_cpu_us", "demand_p50_us", "demand_p99_us",
        "bulk_demand_p99_us", "bulk_mib_per_second", "rails_bulk_mib_per_second",
        "written_demand_p99_us", "written_mib_per_second", "bulk_source_cpu_ms",
        "written_source_cpu_ms")}
    if None in (latency, rate, *mine.values()):
        return "a figure is missing"
    # The most that each may be is far off what they are (docs/performance.md): an emulated machine
    # is no place for a close look. None of it is the source's work, which is hardly any.
    ratios = [("demand p50 / ib_read_lat", mine["demand_p50_us"] / latency, 4),
              ("ib_read_bw / bulk", rate / mine["bulk_mib_per_second"], 5),
              ("bulk on one rail / on two",
               mine["bulk_mib_per_second"] / mine["rails_bulk_mib_per_second"], 3),
              ("demand p99 under push / idle", mine["bulk_demand_p99_us"] / mine["demand_p99_us"], 30),
              ("the same, written", mine["written_demand_p99_us"] / mine["demand_p99_us"], 30),
              ("bulk, read / written", mine["bulk_mib_per_second"] / mine["written_mib_per_second"], 3),
              # soft-RoCE's sender works in the thread that posts: no bound says anything of a card.
              ("source CPU of the push, written / read",
               mine["written_source_cpu_ms"] / mine["bulk_source_cpu_ms"], float("inf")),
              ("source CPU of a page / TCP's",
               mine["demand_source_cpu_us"] / mine["tcp_source_cpu_us"], 0.2)]
    print("     " + ", ".join(f"{name} {ratio:.2f}" for name, ratio, _ in ratios))
    return next((f"{name} is {ratio:.2f}" for name, ratio, most in ratios if ratio > most), None)


def swept(text):
    """Whether both sides of faultline-bench have a line for each step of bench.sh's sweep."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"event":"result"')]
    for side in ("source", "destination"):
        of_side = [line for line in lines if line["side"] == side]
        steps = [(line["transport"], line["parameters"]["push"]) for line in of_side]
        if steps != [("tcp", True), ("tcp", False), ("rdma", True), ("rdma", False)]:
            return f"the {side}'s steps: {steps}"
        if any(line["wrong_reads"] or line.get("wrong_pages") for line in of_side):
            return f"the {side} has read wrong bytes"
    pushed = [line["pages_pushed"] > line["pages_demand"] for line in lines
              if line["side"] == "destination"]
    if pushed != [True, False, True, False]:
        return f"most pages were pushed in these steps: {pushed}"
    return None


def tls_cost(text):
    """What the source's processor does for a GiB, in plain, with the kernel's TLS and with OpenSSL's."""
    seconds = {}
    for name in ("plain", "kernel", "openssl"):
        found = re.findall(rf"^{name}=([\d.e-]+) of (\d+) MiB$", text, re.M)
        if len(found) != FIGURE_TURNS:
            return f"{len(found)} of {FIGURE_TURNS} figures of {name}"
        seconds[name] = statistics.median(float(value) * 1024 / int(mib) for value, mib in found)
    print("     CPU s a GiB: " + ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()))
    sent = [int(count) for count in re.findall(r"^kernel_sent=(\d+)$", text, re.M)]
    # The count begins anew with the module.
    if not all(count > 0 for count in sent[1:]):
        return "the kernel made no records"
    return None


CASES = [
    Case("devices", "uname -r; rdma link", [],
         must_print=[r"^6\.1\.", r"rxe0/1 state ACTIVE", r"rxe1/1 state ACTIVE"]),
    Case("doctor", "/tests/faultline doctor; true", ["./faultline"],
         must_print=[r"^ok +RDMA: rxe0 port 1: active, Ethernet, MTU 4096, 128 READs at a time; "
                     r"rxe1 port 1: active"]),
    perftest("read_lat", "ib_read_lat", "-s 4096 -n 500"),
    perftest("read_bw", "ib_read_bw", "-s 65536 -n 300"),
    Case("figures", f"for turn in {' '.join('x' * FIGURE_TURNS)}; do "
         "for test in 'ib_read_lat -s 4096 -n 1000' 'ib_read_bw -s 65536 -n 500'; do "
         "$test -d rxe0 > /dev/null & "
         "for try in 1 2 3 4; do sleep 0.5; $test -d rxe0 127.0.0.1 && break; done; wait; done; "
         "/tests/rdma_figures; done",
         ["ib_read_lat", "ib_read_bw", "tests/transport/rdma/rdma_figures"], limit_s=240,
         check=figures),
    # The kernel makes the records of what is sent: it has counted the connections that asked it to.
    # With certificates and with a key (tests/transport/tcp/tcp_contract_test.cc numbers them).
    suite("kernel_tls_contract", "tests/transport/tcp/tcp_contract_test", limit_s=120,
          only="Tls/Control*/0:Tls/Demand*/0:Tls/*/2:Tls/Bulk*/3",
          without=["Tls/Bulk*.AHeldRunIsOffered*"],  # 150 MiB: an emulated machine is long about it
          afterwards=KERNEL_TLS, must_print=[r"^TlsTxSw\s+\d{3,}$", r"^TlsCurrTxSw\s+0$"]),
    suite("kernel_tls", "tests/transport/tcp/tcp_test", only="*Tls*:*Psk*", afterwards=KERNEL_TLS,
          without=["*SilenceHalvesAndTrickles*"],  # seconds of waiting
          must_print=[r"^TlsTxSw\s+\d{3,}$"]),
    Case("kernel_tls_cost", f"bash /tests/tls_cost.sh {FIGURE_TURNS}",
         ["bench/experiments/faultline-bench"], limit_s=120, check=tls_cost),
    Case("bench_rdma", "bash /tests/bench.sh 10.9.0.1", ["bench/experiments/faultline-bench"],
         limit_s=120, check=swept, must_print=[BY_RDMA]),
    suite("rdma_contract", "tests/transport/rdma/rdma_contract_test", limit_s=240, without=OF_WRITES),
    # Where the source writes what it pushes.
    suite("rdma_write_contract", "tests/transport/rdma/rdma_contract_test", limit_s=180,
          only=":".join(OF_WRITES)),
    example_vmm("move_tcp", "tcp://10.9.0.1:4444", must_print=[r"^tls=0$"]),
    example_vmm("move_tcp_tls", "tcp://10.9.0.1:4444", options=WITH_KEY, must_print=[BY_TLS]),
    example_vmm("move_rdma", "rdma://10.9.0.1:4444", must_print=[BY_RDMA, BY_READS, r"^tls=0$"]),
    example_vmm("move_rdma_write", "rdma://10.9.0.1:4444", must_print=[BY_RDMA, BY_WRITES], options=WRITES),
    example_vmm("move_rdma_tls", "rdma://10.9.0.1:4444", options=WITH_KEY, must_print=[BY_RDMA, BY_TLS]),
    example_vmm("move_rdma_rails", RAILS, must_print=BY_BOTH_RAILS),
    example_vmm("move_rdma_write_rails", RAILS, must_print=BY_WRITES_ON_BOTH_RAILS, options=WRITES),
    Case("memory_lock_limit",
         "ulimit -l 1024; setpriv --bounding-set=-ipc_lock,-sys_resource "
         "--inh-caps=-ipc_lock,-sys_resource /tests/example-vmm both rdma://10.9.0.1:4444 --insecure "
         "&& exit 1; exit 0", [EXAMPLE_VMM],
         must_print=[r"RDMA pins .* this process may pin 1 MiB .*ulimit -l unlimited",
                     r"^source [A-Z_]+ owner=source .*wrong=0$"]),
    # The example VMM's guest holds 49 MiB: one device may pin them, two may not.
    Case("memory_lock_limit_rails",
         "ulimit -l 71680; setpriv --bounding-set=-ipc_lock,-sys_resource "
         f"--inh-caps=-ipc_lock,-sys_resource /tests/example-vmm both {RAILS} --insecure "
         "&& exit 1; exit 0", [EXAMPLE_VMM],
         must_print=[r"RDMA pins the VM's memory once for each of 2 devices, \d+ MiB, and this process may "
                     r"pin 70 MiB .*ulimit -l unlimited",
                     r"^source [A-Z_]+ owner=source .*wrong=0$"]),
    # CAP_IPC_LOCK alone permits what the limit does not.
    Case("memory_lock_right",
         "ulimit -l 1024; setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource "
         "/tests/example-vmm both rdma://10.9.0.1:4444 --insecure", [EXAMPLE_VMM],
         must_print=[r"^source OK owner=destination .*wrong=0$"]),
    example_vmm("move_rdma_cut", "rdma://10.9.0.1:4444", cut="cut",
                # Whoever hears of it first closes the other's connections.
                must_print=[r"notice: lost the (source|destination) .*: (bulk|demand) lane: ",
                            "notice: connected again"]),
    example_vmm("move_rdma_write_cut", "rdma://10.9.0.1:4444", cut="cut", options=WRITES,
                must_print=[BY_WRITES, r"notice: lost the (source|destination) .*: (bulk|demand) lane: ",
                            "notice: connected again"]),
    Case("no_device", "ip link add no-rdma type dummy; ip address add 10.9.7.1/24 dev no-rdma; "
         "/tests/example-vmm destination rdma://10.9.7.1:4444 --insecure && exit 1; exit 0", [EXAMPLE_VMM],
         must_print=["no RDMA device has that address: `rdma link` and `ip address` show which have one"]),
    one_gone("source", "preparing", r"^destination [A-Z_]+ owner=source "),
    one_gone("destination", "preparing", r"^source [A-Z_]+ owner=source .*wrong=0$"),
    one_gone("source", "post-copy", "^destination notice: lost the source",
             r"^destination [A-Z_]+ owner=destination .*checked=0 wrong=0$"),
    one_gone("destination", "post-copy", "^source notice: lost the destination",
             r"^source [A-Z_]+ owner=destination .*checked=0 wrong=0$"),
    move_qemu("qemu_rdma_rails", RAILS, WITH_KEY, must_print=[
        r'"address":"rdma://10.9.0.1:4444,rdma://10.9.1.1:4444","port":4444',
        r'"rails":\[{"address":"10.9.0.1:4444","bytes_pushed":[1-9]\d*,"bytes_written":0},'
        r'{"address":"10.9.1.1:4444","bytes_pushed":[1-9]\d*,"bytes_written":0}\]']),
    move_qemu("qemu_rdma_write_rails", RAILS, WITH_KEY, "--rdma bulk=write", must_print=[
        r'"rails":\[{"address":"10.9.0.1:4444","bytes_pushed":[1-9]\d*,"bytes_written":[1-9]\d*},'
        r'{"address":"10.9.1.1:4444","bytes_pushed":[1-9]\d*,"bytes_written":[1-9]\d*}\]']),
    move_qemu("qemu_rdma", "rdma://10.9.0.1:4444", WITH_KEY, must_print=['"transport":"rdma.tls"']),
    # Rounds, by soft-dirty bits; the kernel makes the records of commands that have given up their rights.
    move_qemu("qemu_hybrid", "tcp://10.9.0.1:4444", WITH_KEY, "--mode hybrid",
              [r'"mode":"hybrid"', r'"pages_precopied":[1-9]', BY_TLS]),
    # By soft-dirty bits, which this kernel has; it lacks what write protection needs (6.7 or later),
    # which is all that could be taken back.
    suite("dirty_tracker_contract", "tests/hook/hook_tracker_test",
          also=["./faultline-qemu.so", "tests/hook/hook_target"],
          without=["HookTrackerTest.TrackingEndsWithTheEngineThatIsKilled",
                   "HookTrackerTest.ArmedMemoryIsNotTrackedAndTheOtherWayRound"],
          before="HOOK_LIBRARY=/tests/faultline-qemu.so HOOK_TARGET=/tests/hook_target "),
    suite("engine", "tests/engine/engine_test", limit_s=240),
    suite("guest_memory_contract", "tests/memory/guest_memory_contract_test"),
    # The guest has no disk.
    suite("source_memory_contract", "tests/memory/source_memory_contract_test",
          without=["RamFileSource.RefusesFileOnADisk"]),
    suite("userfaultfd_memory", "tests/memory/uffd_memory_test"),
    # This kernel's MADV_COLLAPSE is EINVAL in another process: there the VM keeps its small pages,
    # and the command says why. Its userfaultfd cannot track writes either (6.7 or later).
    suite("memory", "tests/memory/memory_test",
          without=["HugePageCollapserTest.MemoryOfAnotherProcess",
                   "HugePageCollapserTest.AProcessThatEndsMeanwhile", "WpTrackerTest.*"]),
    example_vmm("move_rdma_rail_down", RAILS, cut="rail_down",
                must_print=[*BY_BOTH_RAILS, "notice: RDMA to 10.9.1.1:4444: .*goes over the other rails, 1 of 2",
                            "notice: connected again"]),
    example_vmm("move_rdma_write_rail_down", RAILS, cut="rail_down", options=WRITES,
                must_print=[*BY_BOTH_RAILS, BY_WRITES,
                            "notice: RDMA to 10.9.1.1:4444: .*goes over the other rails, 1 of 2",
                            "notice: connected again"]),
    # Demand reads go over the other rail then.
    example_vmm("move_rdma_first_rail_down", RAILS, cut="down",
                must_print=[r"^other_packets=\d{3,}$",
                            "notice: RDMA to 10.9.0.1:4444: .*goes over the other rails, 1 of 2",
                            "notice: connected again"]),
    # The last one here that needs RDMA: rxe's connection manager may be dead for good after it, were the
    # device not made anew.
    example_vmm("move_rdma_fall_back", "rdma://10.9.0.1:4444", cut="down",
                must_print=["notice: no RDMA to .*goes over TCP", "notice: connected again"]),
    between_guests("two_guests_rdma", "rdma://10.9.9.2:4444", WITH_KEY),
]
