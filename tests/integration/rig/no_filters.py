"""Runs a program where the kernel takes no system call filters from it, as some containers have it:
both ways to make one end with EPERM.

    python3 no_filters.py PROGRAM ARGUMENTS..."""

import ctypes
import os
import sys

ALLOW = 0x7FFF0000
EPERM = 0x00050001
EQUAL = 4
PRCTL, SECCOMP = b"prctl", b"seccomp"
PR_SET_SECCOMP = 22


class Argument(ctypes.Structure):
    """scmp_arg_cmp"""
    _fields_ = [("index", ctypes.c_uint), ("compare", ctypes.c_int),
                ("first", ctypes.c_uint64), ("second", ctypes.c_uint64)]


def main():
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))
    first = Argument(0, EQUAL, PR_SET_SECCOMP, 0)
    for name, arguments in ((SECCOMP, ()), (PRCTL, (first,))):
        number = library.seccomp_syscall_resolve_name(name)
        array = (Argument * len(arguments))(*arguments)
        if library.seccomp_rule_add_array(rules, ctypes.c_uint32(EPERM), number, len(arguments),
                                          array) != 0:
            sys.exit("no rule for " + name.decode())
    if library.seccomp_load(rules) != 0:
        sys.exit("no filter here")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
