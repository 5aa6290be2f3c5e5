"""Every C and C++ source is formatted as .clang-format says."""

import subprocess

FOLDERS = ("src", "include", "tests", "bench")
ENDINGS = (".cc", ".h", ".hpp", ".c")


def formatting(root):
    files = [str(path) for folder in FOLDERS for path in sorted((root / folder).rglob("*"))
             if path.suffix in ENDINGS]
    result = subprocess.run(["clang-format", "--dry-run", *files], capture_output=True, text=True)
    for line in result.stderr.splitlines():
        if "code should be clang-formatted" in line:
            yield line.split(" warning:")[0] + " is not formatted: run ./dev format"


CHECKS = [formatting]
