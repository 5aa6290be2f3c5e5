"""Every rule finds its broken sample, and leaves a sound one alone: a check must be able to fail."""

import pathlib
import tempfile

import check_direction
import check_style
import check_testing_doc

# A small tree without a fault.
SOUND = {
    "src/base/text.h": """// Texts.
#ifndef FAULTLINE_BASE_TEXT_H_
#define FAULTLINE_BASE_TEXT_H_

#include <string>

namespace faultline {
// A text.
std::string Text();
}  // namespace faultline

#endif  // FAULTLINE_BASE_TEXT_H_
""",
    "src/base/text.cc": """#include "base/text.h"

namespace faultline {
namespace {
constexpr const char* kText = "goto; static int x;";  // goto is a word here
const int kTable[] = {1, 2};
}  // namespace
std::string Text() {
  static const int kSize = kTable[0];
  static_assert(sizeof(kSize) == 4);
  return kText + kSize;
}
}  // namespace faultline
""",
    "tests/base/meson.build": "test('text', executable('text_test', 'text_test.cc'))\n",
    "tests/base/text_test.cc": "TEST(Text, IsText) {}\nTEST_F(TextOf,\n       Fixture) {}\n",
    "tests/integration/test_move.py": """class Base:
    def test_common(self): pass
class Move(Base):
    def test_there(self): pass
""",
    "docs/failures.md": "| event | test |\n|---|---|\n| all is well | `Text.IsText` |\n",
    "docs/testing.md": """# Tests
| sentence | test |
|---|---|
| Text. | `tests/base/text_test.cc: Text.IsText`, `tests/base/text_test.cc: TextOf.*` |
| It moves. | `tests/integration/test_move.py: Move.test_there` |
| In common. | `tests/integration/test_move.py: Move.test_common` |
| Not yet. | missing |
""",
}


def header(path, body, guard=None):
    name = "FAULTLINE_" + (guard or path.removeprefix("src/")
                           .replace("/", "_").replace(".", "_").upper()) + "_"
    return {path: f"// About.\n#ifndef {name}\n#define {name}\n{body}\n#endif  // {name}\n"}


def source(body, path="src/base/text.cc"):
    return {path: body}


def row(tests):
    return {"docs/testing.md": f"| sentence | test |\n|---|---|\n| Text. | {tests} |\n"}


_LONG_FUNCTION = "namespace a {\nint F(int x) {\n" + "  x = {1};\n" * 70 + "}\n}\n"

# (rule, what is broken, a part of the sentence that must come)
BROKEN = [
    (check_direction.direction, source('#include "seams/executor.h"\n'), "may not use seams"),
    (check_direction.direction, source('#include "memory/mapping.h"\n', "src/engine/a.cc"), "memory"),
    (check_direction.direction, source('#include "engine/a.h"\n', "src/vmm/qemu/a.cc"), "engine"),
    (check_direction.direction, source('#include "vmm/callbacks/a.h"\n', "src/vmm/qemu/a.cc"),
     "vmm/callbacks"),
    (check_direction.direction, source('#include "transport/tcp/a.h"\n', "src/memory/a.cc"), "tcp"),
    (check_direction.direction, source('#include "hook/entry.h"\n', "src/memory/a.cc"), "hook"),
    (check_direction.direction, source('#include "cli/a.h"\n', "src/assembly/a.cc"), "cli"),
    (check_direction.direction, source('#include "vmm/qemu/a.h"\n', "src/cli/a.cc"), "vmm/qemu"),
    (check_direction.direction, source('#include "vmm/qemu/qmp_client.h"\n', "src/cli/main.cc"),
     "vmm/qemu"),
    (check_direction.direction, source('#include "runtime/loop.h"\n', "src/cli/a.cc"), "runtime"),
    (check_direction.direction, source('#include "base/status.h"\n', "src/hook/a.c"), "base"),
    (check_direction.direction, source("#include <string>\n", "src/hook/a.c"), "libc"),
    (check_direction.direction, source("#include <uv.h>\n", "src/memory/a.cc"), "uv.h"),
    (check_direction.direction, source("#include <uv.h>\n", "src/engine/a.cc"), "uv.h"),
    (check_direction.direction, source("#include <sys/mman.h>\n", "src/engine/a.cc"), "system calls"),
    (check_direction.direction, source("  #  include <unistd.h>\n", "src/prefetch/a.cc"),
     "system calls"),
    (check_direction.direction, source('#include "text.h"\n'), "room/file.h"),
    (check_direction.direction, source("int x;", "src/attic/a.cc"), "no room"),
    (check_direction.public_headers, header("include/faultline/a.h", "#include <unistd.h>", "A_H"),
     "unistd.h"),
    (check_direction.public_headers, header("include/faultline/a.hpp", "absl::Status F();", "A_HPP"),
     "absl::Status"),
    (check_style.file_length, source("int F();\n" * 601), "601 lines"),
    (check_style.function_length, source(_LONG_FUNCTION), "72 lines"),
    (check_style.gotos, source("void F() {\n  goto end;\n}\n"), "text.cc:2: goto"),
    (check_style.clock_of_the_day, source("auto now = std::chrono::system_clock::now();\n"),
     "text.cc:1: reads the clock of the day (system_clock)"),
    (check_style.clock_of_the_day, source("long Now() { return time(nullptr); }\n"), "(time("),
    (check_style.tokens_compared,
     source("bool F() { return hello.token == own_; }\n", "src/engine/a.cc"), "SameToken"),
    (check_style.tokens_compared,
     source("bool F() { return own_ != hello.token; }\n", "src/engine/a.cc"), "SameToken"),
    (check_style.header_guards, header("src/base/text.h", "", "TEXT_H"), "must begin"),
    (check_style.header_guards, {"src/base/a.h": "#ifndef FAULTLINE_BASE_A_H_\n"
                                                 "#define FAULTLINE_BASE_A_H_\n#endif\n"}, "must end"),
    (check_style.to_dos, source("// TO" + "DO: later\n"), "text.cc:1"),
    (check_style.machine_paths, source('auto p = "/wo' + 'rk/main";\n'), "one machine"),
    (check_style.machine_paths, {"docs/a.md": "see /ho" + "me/ann/x\n"}, "docs/a.md:1"),
    (check_style.mirrors, source("int F();\n", "src/pages/a.cc"), "src/pages has no tests"),
    (check_style.registration, {"tests/base/lost_test.cc": "TEST(A, B) {}\n"}, "lost_test.cc"),
    (check_style.documentation, header("include/faultline/a.h", "int x;\nFAULTLINE_API int f(void);",
                                       "A_H"), "a.h:5"),
    (check_style.documentation, header("src/seams/a.h", "\nclass B {\n};"), "class B"),
    (check_style.globals_that_change, source("namespace a {\nint count = 0;\n}\n"), "int count"),
    (check_style.globals_that_change, source("void F() { static int count; }\n"), "static int"),
    (check_style.globals_that_change, source("static const char* name;\n"), "name"),
    (check_style.globals_that_change, source("thread_local int count{0};\n"), "thread_local"),
    (check_testing_doc.testing_doc, row("soon"), "names no test"),
    (check_testing_doc.testing_doc, row("`tests/base/text_test.cc: Text.Is`"), "does not exist"),
    (check_testing_doc.testing_doc, row("`tests/base/none_test.cc: Text.IsText`"), "does not exist"),
    (check_testing_doc.testing_doc, row("`tests/base/text_test.cc`"), "must name"),
    (check_testing_doc.testing_doc, row("`tests/integration/test_move.py: Base.test_there`"),
     "does not exist"),
    (check_testing_doc.testing_doc, row("`some words`"), "not of the form"),
    (check_testing_doc.testing_doc, {"docs/testing.md": "# Tests\n"}, "no table"),
    (check_testing_doc.failures_doc,
     {"docs/failures.md": "| event | test |\n|---|---|\n| fire | `Text.Burns` |\n"}, "does not exist"),
    (check_testing_doc.failure_matrix,
     {"tests/integration/rig/failure_matrix.py": "def table():\n    yield '| fire | lost |'\n"},
     "has no line '| fire | lost |'"),
]


def run(rule, files):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return list(rule(root))


def checks_can_fail(_root):
    rules = check_direction.CHECKS + check_style.CHECKS + check_testing_doc.CHECKS
    for rule in rules:
        for fault in run(rule, SOUND):
            yield f"{rule.__name__} finds a fault in the sound sample: {fault}"
        if not any(rule is tried for tried, _, _ in BROKEN):
            yield f"{rule.__name__} has no broken sample"
    for rule, files, sentence in BROKEN:
        faults = run(rule, {**SOUND, **files})
        if not any(sentence in fault for fault in faults):
            yield (f"{rule.__name__} does not say '{sentence}' about {list(files.items())[0]!r:.200}; "
                   f"it says {faults}")


CHECKS = [checks_can_fail]
