"""What include/qwenguard.h declares: its functions, structs and constants."""

import re
from dataclasses import dataclass
from pathlib import Path

# Of a machine with pointers of 8 bytes.
SIZES = {"int32_t": 4, "uint32_t": 4, "float": 4, "int64_t": 8, "uint64_t": 8, "double": 8, "size_t": 8}
# What functions take and give otherwise than by pointers.
BY_VALUE = ("void", "int32_t", "uint32_t", "uint64_t", "size_t", "double", "qg_status")


@dataclass
class Value:
    """A parameter, a field or a result."""

    name: str
    type: str  # without const, struct and stars
    stars: int
    const: bool
    count: int = 0  # elements of an array, 0 if it is none

    @property
    def camel(self):
        return camel(self.name)


@dataclass
class Function:
    name: str
    result: Value
    parameters: list

    @property
    def fails(self):
        """Whether it returns a status and takes a place for an error."""
        return self.result.type == "qg_status"


@dataclass
class Struct:
    name: str
    fields: list
    offsets: dict
    size: int
    alignment: int


def camel(name):
    first, *rest = name.removeprefix("qg_").split("_")
    return first + "".join(word.capitalize() for word in rest)


def pascal(name):
    return "".join(word.capitalize() for word in name.removeprefix("qg_").split("_"))


def value(text):
    match = re.fullmatch(r"(.*?)(\**)(\w*)(?:\[(\d+)\])?", re.sub(r"\s*\*\s*", "*", text.strip()))
    words, stars, name, count = match.groups()
    words = words.split()
    kind = [word for word in words if word not in ("const", "struct")]
    if not kind:  # a result without stars: its type was taken for a name
        kind, name = [name], ""
    if len(kind) != 1:
        raise SystemExit(f"include/qwenguard.h: {text.strip()!r} is not understood")
    return Value(name, kind[0], len(stars), "const" in words, int(count or 0))


class Header:
    def __init__(self, path: Path):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
        text = re.sub(r"//.*", "", text)
        self.constants = {}
        for name, number in re.findall(r"^#define (QG_\w+) (.+)$", text, flags=re.M):
            self.constants[name] = self._number(number)
        self.callbacks = re.findall(r"^typedef \w+ \(\*(qg_\w+)\)\(", text, flags=re.M)
        self.opaque = re.findall(r"^typedef struct (\w+) \1;$", text, flags=re.M)
        self.structs = {}
        for name, fields in re.findall(r"^typedef struct (\w+) \{(.*?)\} \1;", text, flags=re.M | re.S):
            self.structs[name] = self._struct(name, [value(field) for field in fields.split(";") if field.strip()])
        self.functions = []
        body = text[text.index('extern "C" {'):]
        for result, name, parameters in re.findall(r"^(\w[\w ]*[ *]+)(qg_\w+)\(([^)]*)\);", body, flags=re.M):
            parameters = [value(text) for text in parameters.split(",") if text.strip() != "void"]
            self.functions.append(Function(name, value(result), parameters))
        names = re.findall(r"\b(qg_\w+)\(", body)
        if names != [function.name for function in self.functions] or not names:
            raise SystemExit("include/qwenguard.h: a function is not understood")
        for function in self.functions:
            for passed in (function.result, *function.parameters):
                if passed.count or not passed.stars and passed.type not in (*BY_VALUE, *self.callbacks):
                    raise SystemExit(f"include/qwenguard.h: {function.name}: {passed.type} {passed.name} is not understood")

    def _number(self, text):
        if text == "UINT64_MAX":
            return 2**64 - 1
        if not re.fullmatch(r"[\w\s()+*]+", text):
            raise SystemExit(f"include/qwenguard.h: the number {text} is not understood")
        return eval(text, {"__builtins__": {}}, self.constants)

    def _struct(self, name, fields):
        """By the rules of C."""
        end, largest, offsets = 0, 1, {}
        for field in fields:
            inner = self.structs.get(field.type)
            if field.stars:
                size = alignment = 8
            elif inner:
                size, alignment = inner.size, inner.alignment
            else:
                size = alignment = SIZES["int32_t" if field.type == "qg_status" else field.type]
            end = -(-end // alignment) * alignment
            offsets[field.name] = end
            end += size * max(field.count, 1)
            largest = max(largest, alignment)
        return Struct(name, fields, offsets, -(-end // largest) * largest, largest)

    def layout(self):
        """As tests/c/layout.txt, which a C compiler agrees with."""
        lines = set()
        for struct in self.structs.values():
            lines.add(f"{struct.name} {struct.size}")
            lines |= {f"{struct.name}.{field} {offset}" for field, offset in struct.offsets.items()}
        return lines


def wrap(text, width, indent):
    """Breaks a line after commas, the last possible ones."""
    lines = []
    while len(text) > width:
        at = text.rfind(", ", 0, width) + 1
        if at <= len(indent):
            break
        lines.append(text[:at])
        text = indent + text[at + 1:]
    return "\n".join([*lines, text])
