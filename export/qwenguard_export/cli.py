"""The command line."""

# Only the standard library is imported up here, so that an interrupt while the libraries load is met by our handler.
from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import ExportError, Interrupted, forget_interrupts, interrupt
from .targets import CPU, GPU_WEIGHTS, GPUS, PORTABLE, PRECISIONS, parse_contexts, parse_slots, parse_targets

if TYPE_CHECKING:
    from .export import Options
    from .source import RandomModel

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

# The longest message, in characters.
_LINE = 2000

_USAGE = """\
%(prog)s CHECKPOINT OUT [--precision fp32|int8|int4] [options]
       %(prog)s --random [gen-]0.6B|4B|8B|tiny OUT --tokenizer DIR_OR_FILE [--seed N] [options]"""


def main(arguments: list[str] | None = None) -> int:
    _open_streams()
    # nohup starts programs with SIGHUP ignored, and means it.
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    forget_interrupts()
    try:
        for number, handler in previous.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, _interrupt)
        return _run(arguments)
    except Interrupted as stop:
        return _fail("interrupted", 128 + stop.signal_number)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _open_streams() -> None:
    """Standard streams that are closed are opened: a file of the bundle must not get the number that messages go to."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(arguments: list[str] | None) -> int:
    options = _parse(arguments)
    from .export import export

    try:
        report = export(options)
    except ExportError as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename or options.out}: {error.strerror or error}", 1)
    except MemoryError:
        return _fail("there is not enough memory", 1)
    except Exception as error:
        return _fail(f"this should not happen, please report it: {type(error).__name__}: {error}", 1)
    return _report(report.lines())


def _report(lines: list[str]) -> int:
    try:
        for line in lines:
            print(_visible(line))
        sys.stdout.flush()
    except OSError as error:
        # Else Python tries again when it ends, and complains.
        sys.stdout = None
        return _fail(f"the bundle is complete, but its report cannot be written: {error.strerror}", 1)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"qwenguard-export: {_visible(' '.join(message.split()))}"[:_LINE], file=sys.stderr)
    return code


def _visible(text: str) -> str:
    """Names in files may hold what a terminal obeys, or what is no character."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )


def _interrupt(number: int, _frame: object) -> None:
    # A second signal must not break into the tidying up that the first one started.
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    interrupt(number)


def _parse(arguments: list[str] | None) -> Options:
    parser = _parser()
    values = parser.parse_args(arguments)
    _check(parser, values)
    from .export import Options
    from .targets import TargetOptions

    *checkpoint, out = values.paths
    return Options(
        source=checkpoint[0] if checkpoint else _random(values),
        out=out,
        precision=values.precision or "int8",
        group=values.group or 32,
        zero_points=values.zero_points,
        parity=values.parity,
        force=values.force,
        answer=values.answer,
        made_for=TargetOptions(
            values.target,
            values.gpu_weights or 16,
            values.portable_precision or "fp16",
            values.portable_context or (1024, 4096),
            values.portable_slots or (1,),
        ),
    )


def _random(values: argparse.Namespace) -> RandomModel:
    from .source import RandomModel

    variant, _, size = values.random.rpartition("-")
    return RandomModel(size, values.seed or 0, values.tokenizer, *([variant] if variant else []))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qwenguard-export",
        usage=_USAGE,
        description="Turns a Qwen3Guard-Stream or Qwen3Guard-Gen checkpoint into a libqwenguard bundle.",
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="checkpoint folder, then bundle to write")
    parser.add_argument("--precision", choices=["fp32", "int8", "int4"], help="of the graph for CPUs (int8)")
    parser.add_argument("--group", type=int, choices=[32, 64, 128], help="weights per scale (32)")
    parser.add_argument("--zero-points", action="store_true", help="give every group of int4 weights a zero point")
    parser.add_argument(
        "--target",
        type=_list_of(parse_targets),
        default=(CPU,),
        metavar="LIST",
        help="what graphs are for, some of cpu,webgpu,cuda,portable; gpu is webgpu,cuda (cpu)",
    )
    parser.add_argument("--gpu-weights", type=int, choices=GPU_WEIGHTS, help="bits of the GPU graphs' weights (16)")
    parser.add_argument("--portable-precision", choices=PRECISIONS, help="of the portable graphs (fp16)")
    parser.add_argument(
        "--portable-context", type=_list_of(parse_contexts), metavar="LIST", help="their contexts (1024,4096)"
    )
    parser.add_argument(
        "--portable-slots", type=_list_of(parse_slots), metavar="LIST", help="how many streams a run takes (1)"
    )
    parser.add_argument(
        "--no-parity", dest="parity", action="store_false", help="do not compare the result with the checkpoint"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")
    parser.add_argument(
        "--random",
        choices=[variant + size for variant in ("", "gen-") for size in ("0.6B", "4B", "8B", "tiny")],
        metavar="SIZE",
        help="random weights in the shapes of this model: 0.6B, 4B, 8B or tiny; with gen- before it, of a Gen model",
    )
    parser.add_argument("--seed", type=int, help="seed of the random weights (0)")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json, or its folder, for --random")
    parser.add_argument(
        "--answer",
        type=Path,
        metavar="FILE",
        help="TOML file with the texts of a Gen model's answer, if it has its own",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _list_of(parse: Callable[[str], tuple[Any, ...]]) -> Callable[[str], tuple[Any, ...]]:
    def checked(text: str) -> tuple[Any, ...]:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def _check(parser: argparse.ArgumentParser, values: argparse.Namespace) -> None:
    if len(values.paths) != (1 if values.random else 2):
        parser.error("expected OUT" if values.random else "expected CHECKPOINT and OUT")
    if values.random and not values.tokenizer:
        parser.error("--random needs --tokenizer")
    if not values.random and (values.tokenizer or values.seed is not None):
        parser.error("--tokenizer and --seed go with --random")
    if values.seed is not None and values.seed < 0:
        parser.error("--seed must not be negative")
    _check_targets(parser, values)


def _check_targets(parser: argparse.ArgumentParser, values: argparse.Namespace) -> None:
    """Options that would change nothing are mistakes."""
    if values.precision and CPU not in values.target:
        parser.error("--precision goes with the target cpu")
    if values.zero_points and values.precision != "int4":
        parser.error("--zero-points goes with --precision int4")
    if values.gpu_weights and set(GPUS).isdisjoint(values.target):
        parser.error("--gpu-weights goes with the targets webgpu and cuda")
    for option in ("portable_precision", "portable_context", "portable_slots"):
        if getattr(values, option) and PORTABLE not in values.target:
            parser.error(f"--{option.replace('_', '-')} goes with the target portable")
    is_quantized = CPU in values.target and values.precision != "fp32" or (values.gpu_weights or 16) < 16
    if values.group and not is_quantized:
        where = "with --precision fp32" if values.precision else "where no weights are quantised"
        parser.error(f"--group has no meaning {where}")
