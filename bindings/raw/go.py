"""The raw layer of Go: bindings/go/raw.go. cgo reads the header itself, so constants, structs and the types of arguments are
its own; what is written here gives each function the arguments and results of Go."""

from header import camel, pascal

NUMBERS = {"int32_t": "int32", "uint32_t": "uint32", "int64_t": "int64", "uint64_t": "uint64", "size_t": "int", "double": "float64"}
# What the library fills, by the function that makes a value of Go of it.
FILLED = {"qg_update": ("Update", "goUpdate"), "qg_prompt_check": ("PromptCheck", "goCheck"), "qg_stats": ("Stats", "goStats")}


class Call:
    """One function: what Go gives and gets, and the statements between."""

    def __init__(self, header, function):
        self.header, self.function = header, function
        self.parameters, self.before, self.arguments, self.results = [], [], [], []
        left = list(function.parameters)
        if function.fails:
            left.pop()  # the place for the error
        while left:
            del left[:self.take(*left, None, None)]

    def take(self, value, next, *rest):
        """Takes the parameters that belong together; tells how many."""
        name, length = value.camel, next is not None and next.type == "size_t" and not next.stars
        array = [v for v in (value, next, *rest) if v is not None]
        end = next_index(array, "capacity")
        if value.type in self.header.opaque:
            return self.handle(value, name)
        if value.const and value.type == "char" and value.stars == 1 and length:
            return self.pair(name, "string", "chars")
        if value.const and value.type == "uint32_t" and value.stars == 1 and length:
            return self.pair(name, "[]uint32", "tokens")
        if value.const and value.stars == 1 and length:
            self.parameters.append(f"{name} []C.{value.type}")
            self.arguments += [f"unsafe.SliceData({name})", f"C.size_t(len({name}))"]
            return 2
        if end and not value.const and all(v.stars == 1 and not v.const for v in array[:end]):
            return self.room(array[:end])
        if value.type in (*self.header.callbacks, "void"):  # a pointer of C's: Go calls no function through it
            self.parameters.append(f"{name} unsafe.Pointer")
            self.arguments.append(name if value.stars else f"C.{value.type}({name})")
        elif value.stars == 0:
            self.parameters.append(f"{name} {NUMBERS[value.type]}")
            self.arguments.append(f"C.{value.type}({name})")
        elif value.stars == 2:
            return self.borrowed(value, name, length=next)
        elif value.type in FILLED:
            self.out(f"C.{value.type}", name, FILLED[value.type][0], f"{FILLED[value.type][1]}(&{name})")
        elif value.type in NUMBERS:
            self.out(f"C.{value.type}", name, NUMBERS[value.type], f"{NUMBERS[value.type]}({name})")
        else:
            self.parameters.append(f"{name} *C.{value.type}")
            self.arguments.append(name)
        return 1

    def handle(self, value, name):
        if value.stars == 2:
            text = value.type == "qg_text"
            self.out(f"*C.{value.type}", name, "string" if text else raw(value.type), f"takeText({name})" if text else name)
        else:
            self.parameters.append(f"{name} {raw(value.type)}")
            self.arguments.append(name)
        return 1

    def pair(self, name, kind, split):
        self.parameters.append(f"{name} {kind}")
        self.before.append(f"{name}Data, {name}Length := {split}({name})")
        self.arguments += [f"{name}Data", f"{name}Length"]
        return 2

    def room(self, arrays):
        """Arrays for results, all of one capacity, and how many there are."""
        for value in arrays:
            element = NUMBERS.get(value.type, f"C.{value.type}")
            self.parameters.append(f"{value.camel} []{element}")
            data = f"unsafe.SliceData({value.camel})"
            self.arguments.append(f"(*C.{value.type})({data})" if value.type in NUMBERS else data)
        lengths = ", ".join(f"len({value.camel})" for value in arrays)
        self.arguments.append(f"C.size_t({f'min({lengths})' if len(arrays) > 1 else lengths})")
        self.out("C.size_t", "count", "int", "int(count)")
        return len(arrays) + 2

    def borrowed(self, value, name, length):
        """What belongs to the library is copied."""
        if value.type == "char":
            self.out("*C.char", name, "string", f"C.GoString({name})")
            return 1
        self.out(f"*C.{value.type}", name, "[]byte", f"C.GoBytes(unsafe.Pointer({name}), C.int({length.camel}))")
        self.before.append(f"var {length.camel} C.size_t")
        self.arguments.append(f"&{length.camel}")
        return 2

    def out(self, kind, name, result, convert):
        self.before.append(f"var {name} {kind}")
        self.arguments.append(f"&{name}")
        self.results.append((result, convert))

    def text(self):
        function = self.function
        arguments = ", ".join(self.arguments + ["&failure"] * function.fails)
        call = f"C.{function.name}({arguments})"
        start = f"func {camel(function.name)}({', '.join(self.parameters)})"
        if not function.fails:
            kind, convert = plain(function.result)
            statements = [*self.before, f"return {convert(call)}" if kind else call]
            return block(f"{start} {kind}".rstrip(), statements)
        kinds = [kind for kind, _ in self.results] + ["error"]
        kinds = kinds[0] if len(kinds) == 1 else f"({', '.join(kinds)})"
        values = ", ".join([convert for _, convert in self.results] + ["takeError(status, failure)"])
        return block(f"{start} {kinds}",
                     [*self.before, "var failure *C.qg_error", f"status := {call}", f"return {values}"])


def next_index(values, name):
    return next((index for index, value in enumerate(values) if value.name == name), 0)


def raw(opaque):
    return "raw" + pascal(opaque)


def plain(value):
    """The result of a function that cannot fail."""
    if value.type == "void":
        return "", None
    if value.type == "char":
        return "string", lambda call: f"C.GoString({call})"
    return NUMBERS[value.type], lambda call: f"{NUMBERS[value.type]}({call})"


def block(start, statements):
    return "\n".join([start + " {", *("\t" + statement for statement in statements), "}"])


def files(header):
    notes = "\n".join(f"#cgo noescape {f.name}\n#cgo nocallback {f.name}" for f in header.functions)
    width = max(len(raw(name)) for name in header.opaque)
    types = "\n".join(f"\t{raw(name):{width}} = *C.{name}" for name in header.opaque)
    calls = "\n\n".join(Call(header, function).text() for function in header.functions)
    return {"bindings/go/raw.go": f"""// Code generated by bindings/raw from include/qwenguard.h: `make raw` writes it anew. DO NOT EDIT.

package qwenguard

// The functions of qwenguard.h under their own names, less the prefix. No other file calls C. What cgo is told keeps results off
// the heap: none of the functions keeps a pointer or calls back.

/*
#cgo pkg-config: qwenguard
{notes}
#include <qwenguard.h>
*/
import "C"

import "unsafe"

type (
{types}
)

{calls}
"""}
