"""What the checks share: finding sources, and reading C and C++ well enough."""

import re

CODE = (".c", ".cc", ".h", ".hpp")
FOLDERS = ("src", "include", "tests", "bench")


def code_files(root, *folders, endings=CODE):
    """The C and C++ files in some folders (all by default), in order."""
    for folder in folders or FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in endings and path.is_file():
                yield path


def name_of(root, path):
    return path.relative_to(root).as_posix()


_TOKENS = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\s]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'", re.S)


def _blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def strip(text):
    """The code without comments and texts; every character that is left keeps its line."""
    return _TOKENS.sub(_blank, text)


def strip_directives(code):
    """Stripped code without preprocessor lines and their continuations."""
    return re.sub(r"(?m)^[ \t]*#(?:\\\n|[^\n])*", _blank, code)


def line_at(text, offset):
    return text.count("\n", 0, offset) + 1


class Block:
    """Something between braces at the level of a file, a namespace or a class."""

    def __init__(self, head, first_line, last_line, body):
        self.head, self.first_line, self.last_line, self.body = head, first_line, last_line, body

    @property
    def lines(self):
        return self.last_line - self.first_line + 1


_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum)\b|^\s*extern\s*$")


def functions_and_globals(code):
    """The functions, and the statements at namespace level as (text, line), of stripped code."""
    code = strip_directives(code)
    functions, statements = [], []
    scopes = []  # "namespace", "class"
    start = index = 0
    while index < len(code):
        char = code[index]
        if char == "{":
            head = code[start:index]
            # A brace of a constructor's initializer list or of a default argument is not the body's.
            if _SCOPE.search(head) and "(" not in head and "=" not in head:
                scopes.append("namespace" if re.search(r"\b(namespace|extern)\b", head) else "class")
                start = index = index + 1
                continue
            end = _closing(code, index)
            rest = re.match(r"\s*[,{]", code[end + 1:end + 200])
            if "(" in head and not re.search(r"=\s*$", head) and not rest:
                offset = start + len(head) - len(head.lstrip())
                functions.append(Block(" ".join(head.split()), line_at(code, offset),
                                       line_at(code, end), code[index:end + 1]))
                start = end + 1
            index = end + 1
            continue
        if char == "}":
            if scopes:
                scopes.pop()
            start = index + 1
        elif char == ";":
            if "class" not in scopes:
                statement = " ".join(code[start:index].split())
                if statement:
                    statements.append((statement, line_at(code, index)))
            start = index + 1
        index += 1
    return functions, statements


def _closing(code, opening):
    depth = 0
    for index in range(opening, len(code)):
        depth += {"{": 1, "}": -1}.get(code[index], 0)
        if depth == 0:
            return index
    return len(code) - 1


_NO_VARIABLE = re.compile(r"^(using|typedef|extern|template|friend|static_assert|_Static_assert|class"
                          r"|struct \w+$|union \w+$|enum|return|namespace|[A-Z_]+\()")


def mutable_globals(code):
    """(statement, line) for each variable of static storage that is not constant."""
    functions, statements = functions_and_globals(code)
    for statement, line in statements:
        if _NO_VARIABLE.match(statement):
            continue
        declared = re.split(r"[={]", statement)[0]
        if "(" in declared and not re.search(r"\(\*\s*\w+", declared):
            continue  # a function's declaration
        if "constexpr" in declared or re.search(r"\bconst\b(?!.*\*\s*\w+$)", declared.strip()):
            continue
        if len(declared.replace("*", " ").split()) < 2:
            continue
        yield statement, line
    for function in functions:
        for match in re.finditer(r"\b(?:static|thread_local)\s+(?!const|assert|cast|inline)\w[^;]*;",
                                 function.body):
            if not re.match(r"(?:static|thread_local)\s+(?:std::)?\w+\s*\(", match.group()):
                yield " ".join(match.group().split()), function.first_line
