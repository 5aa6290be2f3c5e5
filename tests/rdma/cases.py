"""What runs in the RDMA guest, in this order. tests/rdma/init.sh makes the devices rxe0 and rxe1."""

import re


def nothing_else(text):
    del text
    return None


class Case:
    """One command line in the guest.

    `programs` are those that it needs: paths in the build tree, or names of this machine's own. A
    GoogleTest program lies in /tests. `check` returns what is wrong with what was printed, or None.
    """

    def __init__(self, name, command, programs, limit_s=30, must_print=(), is_gtest=False,
                 check=nothing_else):
        self.name = name
        self.command = command
        self.programs = list(programs)
        self.limit_s = limit_s
        self.must_print = must_print
        self.is_gtest = is_gtest
        self.check = check


def suite(name, program, limit_s=60, must_print=(), without=()):
    """A GoogleTest program of the build tree, without the tests that need what the guest has not."""
    command = f"/tests/{program.split('/')[-1]} --gtest_brief=1"
    if without:
        command += f" '--gtest_filter=-{':'.join(without)}'"
    return Case(name, command, [program], limit_s, must_print, is_gtest=True)


def perftest(name, program, arguments=""):
    """A program of perftest's against itself over rxe0; its last figures are in the output."""
    line = f"{program} -d rxe0 {arguments}"
    return Case(name, f"{line} > /dev/null & sleep 0.5; {line} 127.0.0.1", [program],
                check=lambda text: None if re.search(r"^ *\d+ +\d+ +[1-9]", text, re.M)
                else "it printed no figures")


CASES = [
    Case("devices", "uname -r; rdma link", [],
         must_print=[r"^6\.1\.", r"rxe0/1 state ACTIVE", r"rxe1/1 state ACTIVE"]),
    perftest("read_lat", "ib_read_lat", "-s 4096 -n 500"),
    perftest("read_bw", "ib_read_bw", "-s 65536 -n 300"),
    suite("engine", "tests/engine/engine_test"),
    suite("guest_memory_contract", "tests/memory/guest_memory_contract_test"),
    # The guest has no disk.
    suite("source_memory_contract", "tests/memory/source_memory_contract_test",
          without=["RamFileSource.RefusesFileOnADisk"]),
    suite("userfaultfd_memory", "tests/memory/uffd_memory_test"),
    # This kernel's MADV_COLLAPSE is EINVAL in another process: there the VM keeps its small pages,
    # and the command says why.
    suite("memory", "tests/memory/memory_test",
          without=["HugePageCollapserTest.MemoryOfAnotherProcess",
                   "HugePageCollapserTest.AProcessThatEndsMeanwhile"]),
]
