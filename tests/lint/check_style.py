"""The rules of CONTRIBUTING.md that a machine can see, each with a limit."""

import re

from sources import code_files, functions_and_globals, line_at, mutable_globals, name_of, strip

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
TEXT_FOLDERS = ("src", "include", "tests", "bench", "docs", ".ci")
TEXT_ENDINGS = (".c", ".cc", ".h", ".hpp", ".py", ".sh", ".md", ".build", ".txt", ".in", ".S", ".map")


def file_length(root):
    for path in code_files(root):
        lines = path.read_text().count("\n")
        if lines > FILE_LINES_MAX:
            yield f"{name_of(root, path)} has {lines} lines, more than {FILE_LINES_MAX}: split it"


def gotos(root):
    for path in code_files(root):
        code = strip(path.read_text())
        for match in re.finditer(r"\bgoto\b", code):
            yield f"{name_of(root, path)}:{line_at(code, match.start())}: goto"


# Who may ask what day it is: dates in certificates, and files that are a day old.
_DAY_READERS = ("src/transport/tcp/tls_certificates.cc", "src/cli/run_directory.cc")
_DAY = re.compile(r"\bsystem_clock\b|\bCLOCK_REALTIME|\bgettimeofday\b|(?<![\w.>:])time\s*\(|"
                  r"\bX509_cmp_current_time\b|\butc_clock\b|\bfile_clock\b")


def clock_of_the_day(root):
    """A clock that jumps must disturb no deadline: base/monotonic_time.h and the executors have the
    other clock."""
    for path in code_files(root, "src", "include"):
        if name_of(root, path) in _DAY_READERS:
            continue
        code = strip(path.read_text())
        for match in _DAY.finditer(code):
            yield (f"{name_of(root, path)}:{line_at(code, match.start())}: reads the clock of the "
                   f"day ({match.group().strip()}); base/monotonic_time.h has the other one")


_TOKENS = re.compile(r"token_?\s*[!=]=|[!=]=\s*[\w.>()-]*\btoken_?\b(?!\s*\()")


def tokens_compared(root):
    """A secret is compared by SameToken, whose time tells nothing."""
    for path in code_files(root, "src/engine", "src/transport"):
        code = strip(path.read_text())
        for match in _TOKENS.finditer(code):
            yield (f"{name_of(root, path)}:{line_at(code, match.start())}: compares a token by "
                   f"itself; protocol/handshake.h has SameToken")


def header_guards(root):
    for path in code_files(root, endings=(".h", ".hpp")):
        name = name_of(root, path)
        stem = name.removeprefix("src/").removeprefix("include/faultline/")
        guard = "FAULTLINE_" + re.sub(r"\W", "_", stem).upper() + "_"
        text = path.read_text()
        lines = [line for line in strip(text).splitlines() if line.strip()]
        if lines[:2] != [f"#ifndef {guard}", f"#define {guard}"]:
            yield f"{name} must begin with #ifndef {guard} and its #define"
        elif not re.search(rf"#endif *(//|/\*) *{guard}(?: \*/)?\s*$", text):
            yield f"{name} must end with #endif  // {guard}"


def _texts(root):
    for folder in TEXT_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in TEXT_ENDINGS and path.is_file() and "lint" not in path.parts:
                yield path
    for path in sorted(root.iterdir()):
        if path.is_file() and (path.suffix in TEXT_ENDINGS or path.name == "dev"):
            yield path


def to_dos(root):
    for path in _texts(root):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b", line):
                yield f"{name_of(root, path)}:{number}: do it, or write an issue"


def machine_paths(root):
    for path in _texts(root):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.search(r"(?<![\w.~}*-])/(work|home/\w+|Users/\w+)(?=/|\b(?![-\w]))", line)
            if match:
                yield f"{name_of(root, path)}:{number}: {match.group()} is a path of one machine"


def mirrors(root):
    for folder in sorted({path.parent for path in code_files(root, "src", endings=(".c", ".cc"))}):
        mirror = root / "tests" / folder.relative_to(root / "src")
        if not any(path.suffix in (".c", ".cc", ".py") for path in mirror.glob("*")):
            yield f"{name_of(root, folder)} has no tests in {name_of(root, mirror)}"


def registration(root):
    """A test that no build file names never runs."""
    for path in sorted((root / "tests").rglob("*_test.*")):
        builds = [path.parent / "meson.build", path.parent.parent / "meson.build"]
        stem = path.stem.removesuffix("_test")
        text = "".join(build.read_text() for build in builds if build.exists())
        if path.suffix in (".c", ".cc", ".py") and not re.search(
                rf"{path.name}|'{stem}'", text):
            yield f"{name_of(root, path)} is in no meson.build"


def function_length(root):
    """Functions that are too long; tests may tell longer stories."""
    for path in code_files(root, "src", "include"):
        for function in functions_and_globals(strip(path.read_text()))[0]:
            if function.lines > FUNCTION_LINES_MAX:
                yield (f"{name_of(root, path)}:{function.first_line}: {function.head[:60]} has "
                       f"{function.lines} lines, more than {FUNCTION_LINES_MAX}")


def _type_named(path):
    return "".join(part.capitalize() for part in path.stem.split("_"))


def undocumented(root, *folders):
    """(path, line, text) of declarations at the level of a header's namespace without a comment."""
    for path in code_files(root, *folders, endings=(".h", ".hpp")):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            declared = re.match(
                r"(class|struct|enum class|enum|typedef struct|typedef enum) \w+[^;]*\{"
                r"|FAULTLINE_API |(inline |template |absl::|std::|bool |void |uint\w+ |int\w* |const )"
                r"[^=]*\w\(", line)
            if not declared:
                continue
            # The file's own comment speaks for the type that the file is named after.
            named = re.match(r"(?:enum )?(?:class|struct) (\w+)", line)
            if named and lines[0].startswith("//") and named.group(1) == _type_named(path):
                continue
            before = number - 1
            while before >= 0 and re.match(r"(template|\[\[)", lines[before]):
                before -= 1
            above = lines[before].strip() if before >= 0 else ""
            if not (above.startswith("//") or above.endswith("*/") or "//" in line
                    # A group: the comment above its first member speaks for all.
                    or re.match(r"[\w:<>*& ]+\(.*\);", above)):
                yield path, number + 1, line.strip()


def documentation(root):
    for path, number, line in undocumented(root, "include", "src/seams"):
        yield f"{name_of(root, path)}:{number}: say what it does: {line[:60]}"


def globals_that_change(root):
    """The hook has no constructor to hand its state to: what it keeps is listed here."""
    for path in code_files(root, "src"):
        name = name_of(root, path)
        if name.startswith("src/hook/entry."):
            continue  # one structure, for the constructor and the plugin's entry
        for statement, line in mutable_globals(strip(path.read_text())):
            yield f"{name}:{line}: mutable global: {statement[:70]}"


CHECKS = [file_length, gotos, clock_of_the_day, tokens_compared, header_guards, to_dos, machine_paths, mirrors,
          registration, function_length, documentation, globals_that_change]
