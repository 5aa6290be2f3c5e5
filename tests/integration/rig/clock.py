"""A clock of the day that jumps, for the commands under test only (clock_shim.c)."""

import os
import pathlib

from .process import run

_SHIM = pathlib.Path(__file__).with_name("clock_shim.c")


class Clock:
    """`wrap` goes before the commands' words; `jump` moves the clock of all of them at once."""

    def __init__(self, workdir):
        library = os.path.join(workdir, "clock_shim.so")
        self._file = os.path.join(workdir, "clock_shift")
        run("gcc", "-shared", "-fPIC", "-O1", "-o", library, _SHIM)
        self.jump(0)
        self.wrap = ("env", f"LD_PRELOAD={library}", f"FAULTLINE_CLOCK_SHIFT={self._file}")

    def jump(self, seconds):
        """To so many seconds from the host's clock."""
        fresh = self._file + ".new"
        with open(fresh, "w") as file:
            file.write(f"{seconds}\n")
        os.rename(fresh, self._file)
