"""docs/testing.md names tests that exist."""

import ast
import importlib.util
import re


def _gtest_exists(text, suite, name):
    macro = r"\b(TEST|TEST_F|TEST_P|TYPED_TEST|TYPED_TEST_P)\(\s*"
    found = re.search(rf"{macro}{re.escape(suite)}\s*,\s*"
                      + (r"\w+" if name == "*" else rf"{re.escape(name)}\s*\)"), text)
    return found is not None


def _python_exists(text, class_name, method):
    tree = ast.parse(text)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name not in classes:
        return False
    if method == "*":
        return True
    # A method may come from a base class in the same file.
    names, todo = set(), [class_name]
    while todo:
        node = classes.get(todo.pop())
        if node is None:
            continue
        names |= {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        todo += [base.id for base in node.bases if isinstance(base, ast.Name)]
    return method in names


def _fault_of(root, reference):
    match = re.fullmatch(r"(\S+?)(?:: (\w+)\.(\w+|\*))?", reference)
    if match is None:
        return "is not of the form `file: Suite.Name`"
    file_name, suite, name = match.groups()
    path = root / file_name
    if not path.is_file():
        return "names a file that does not exist"
    if suite is None:
        # A script is one test; so is the corpus of a fuzz target.
        return None if path.suffix != ".cc" or "fuzz" in path.parts else "must name a Suite.Name"
    exists = _python_exists if path.suffix == ".py" else _gtest_exists
    return None if exists(path.read_text(), suite, name) else "names a test that does not exist"


def rows(text):
    """(line, first column, last column) of every table row that is no head."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or set(line) <= set("|-: "):
            continue
        if number + 1 < len(lines) and lines[number + 1].startswith("|-"):
            continue
        yield number + 1, cells[0], cells[-1]


def testing_doc(root):
    path = root / "docs" / "testing.md"
    if not path.is_file():
        yield "docs/testing.md is missing"
        return
    found = list(rows(path.read_text()))
    if not found:
        yield "docs/testing.md has no table"
    for line, _, tests in found:
        references = re.findall(r"`([^`]+)`", tests)
        if not references and not re.search(r"\bmissing\b", tests):
            yield f"docs/testing.md:{line}: names no test and does not say 'missing'"
        for reference in references:
            fault = _fault_of(root, reference)
            if fault:
                yield f"docs/testing.md:{line}: `{reference}` {fault}"


def failures_doc(root):
    """The last column of docs/failures.md: `Suite.Name` of a test in any file, or a file, or 'missing'."""
    path = root / "docs" / "failures.md"
    if not path.is_file():
        yield "docs/failures.md is missing"
        return
    sources = [file for file in (root / "tests").rglob("*") if file.suffix in (".cc", ".h", ".py")]
    texts = {file: file.read_text() for file in sources}
    for line, _, tests in rows(path.read_text()):
        for reference in re.findall(r"`([^`]+)`", tests):
            name = reference.split(": ")[-1]
            if any(file.name == name for file in sources):
                continue
            suite, _, test = name.partition(".")
            if not test or not any(
                    (_python_exists if file.suffix == ".py" else _gtest_exists)(text, suite, test)
                    for file, text in texts.items() if suite in text):
                yield f"docs/failures.md:{line}: `{reference}` names a test that does not exist"


def failure_matrix(root):
    """docs/failures.md has the table that the tests are made from, line by line."""
    path = root / "tests" / "integration" / "rig" / "failure_matrix.py"
    if not path.is_file():
        return
    spec = importlib.util.spec_from_file_location("failure_matrix", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = (root / "docs" / "failures.md").read_text().splitlines()
    for line in module.table():
        if line not in lines:
            yield f"docs/failures.md: has no line {line!r}, as {path.name} has; run that file"


CHECKS = [testing_doc, failures_doc, failure_matrix]
