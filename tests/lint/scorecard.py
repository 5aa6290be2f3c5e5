"""Figures about the code, printed by run.py; the limits are in the checks."""

import re
import statistics

from check_direction import direction
from check_style import FUNCTION_LINES_MAX, gotos, mirrors, undocumented
from check_testing_doc import rows
from sources import code_files, functions_and_globals, mutable_globals, name_of, strip


def _conditionals(root):
    """#if and friends outside base and stubs, header guards and C++ guards not counted."""
    for path in code_files(root, "src"):
        name = name_of(root, path)
        if name.startswith("src/base/") or "stub" in path.name:
            continue
        for line in re.findall(r"(?m)^\s*#\s*if.*", strip(path.read_text())):
            if not re.search(r"ifndef FAULTLINE_\w+_H_|__cplusplus", line):
                yield f"{name}: {line.strip()}"


def figures(root):
    """(name, value) as the scorecard shows them."""
    files = list(code_files(root, "src", "include"))
    lengths = sorted(path.read_text().count("\n") for path in files) or [0]
    long_functions = variables = 0
    for path in files:
        code = strip(path.read_text())
        long_functions += sum(function.lines > FUNCTION_LINES_MAX
                              for function in functions_and_globals(code)[0])
        variables += sum(1 for _ in mutable_globals(code))
    yield "files", len(files)
    yield "lines of a file, median", int(statistics.median(lengths))
    yield "lines of a file, 90th percentile", lengths[int(len(lengths) * 0.9)]
    yield "lines of a file, most", lengths[-1]
    yield f"functions over {FUNCTION_LINES_MAX} lines", long_functions
    yield "mutable globals (the hook's included)", variables
    yield "gotos", len(list(gotos(root)))
    yield "#if outside base and stubs", len(list(_conditionals(root)))
    yield "undocumented public declarations", len(list(undocumented(root, "include", "src")))
    yield "source folders without a mirror in tests", len(list(mirrors(root)))
    yield "breaches of direction", len(list(direction(root)))
    document = root / "docs" / "testing.md"
    if document.is_file():
        found = list(rows(document.read_text()))
        missing = sum("missing" in tests for _, _, tests in found)
        yield "rows of docs/testing.md", len(found)
        yield "rows of docs/testing.md that say missing", missing


def show(root):
    print("scorecard")
    for name, value in figures(root):
        print(f"     {value:6}  {name}")
