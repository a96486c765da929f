"""What the command line says of targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenguard_export.cli import _parse, main
from qwenguard_export.targets import parse_contexts, parse_slots, parse_targets


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("cpu", ("cpu",)),
        ("portable,cpu", ("cpu", "portable")),
        ("gpu", ("webgpu", "cuda")),
        ("portable,gpu,cpu", ("cpu", "webgpu", "cuda", "portable")),
        ("cuda,webgpu", ("webgpu", "cuda")),
    ],
)
def test_lists_of_targets(text, targets):
    assert parse_targets(text) == targets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a target, expected some of cpu, webgpu, cuda, portable, gpu"),
        ("cpu,", "'' is not a target"),
        ("cpu, webgpu", "' webgpu' is not a target"),
        ("CPU", "'CPU' is not a target"),
        ("cpu,cpu", "the target cpu is named twice in 'cpu,cpu'"),
        ("gpu,cuda", "the target cuda is named twice in 'gpu,cuda'"),
    ],
)
def test_what_is_no_list_of_targets(text, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        parse_targets(text)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_contexts, "1024,63", "'63' is not a context from 64 to 1048576"),
        (parse_contexts, "1e3", "'1e3' is not a context"),
        (parse_contexts, "²²²", "'²²²' is not a context"),
        (parse_contexts, "128,128", "the context 128 comes twice in '128,128'"),
        (parse_contexts, "64,65,66,67,68", "5 values, at most 4 make sense"),
        (parse_slots, "0", "'0' is not a number of slots from 1 to 64"),
        (parse_slots, "65", "'65' is not a number of slots from 1 to 64"),
        (parse_slots, "-1", "'-1' is not a number of slots"),
        (parse_slots, "99999999999999999999", "'99999999999999999999' is not a number of slots"),
    ],
)
def test_what_is_no_list_of_sizes(parse, text, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        parse(text)


def test_options():
    everything = ["--target", "portable,gpu", "--gpu-weights", "8", "--group", "64", "--portable-precision", "fp32"]
    options = _parse(["a", "b", *everything, "--portable-context", "256,512", "--portable-slots", "1,4"])
    made_for = options.made_for
    assert made_for.targets == ("webgpu", "cuda", "portable")
    assert (made_for.gpu_weights, made_for.portable_precision, options.group) == (8, "fp32", 64)
    assert (made_for.portable_contexts, made_for.portable_slots) == ((256, 512), (1, 4))


def test_defaults():
    options = _parse(["a", "b"])
    made_for = options.made_for
    assert (made_for.targets, made_for.gpu_weights, made_for.portable_precision) == (("cpu",), 16, "fp16")
    assert (made_for.portable_contexts, made_for.portable_slots) == ((1024, 4096), (1,))
    assert (options.precision, options.group, options.zero_points) == ("int8", 32, False)
    assert _parse(["a", "b", "--precision", "int4", "--zero-points"]).zero_points


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "metal"], "argument --target: 'metal' is not a target"),
        (["--target", "gpu,webgpu"], "argument --target: the target webgpu is named twice in 'gpu,webgpu'"),
        (["--gpu-weights", "8"], "--gpu-weights goes with the targets webgpu and cuda"),
        (["--target", "webgpu", "--gpu-weights", "5"], "argument --gpu-weights: invalid choice: 5"),
        (["--target", "gpu", "--portable-slots", "2"], "--portable-slots goes with the target portable"),
        (["--portable-context", "64"], "--portable-context goes with the target portable"),
        (["--portable-precision", "fp32"], "--portable-precision goes with the target portable"),
        (["--target", "portable", "--portable-slots", "none"], "'none' is not a number of slots from 1 to 64"),
        (["--target", "portable", "--precision", "int8"], "--precision goes with the target cpu"),
        (["--target", "portable", "--group", "32"], "--group has no meaning where no weights are quantised"),
        (["--target", "cuda", "--group", "32"], "--group has no meaning where no weights are quantised"),
        (["--precision", "fp32", "--group", "32"], "--group has no meaning with --precision fp32"),
        (["--zero-points"], "--zero-points goes with --precision int4"),
        (["--precision", "int8", "--zero-points"], "--zero-points goes with --precision int4"),
        (["--target", "cuda", "--gpu-weights", "4", "--zero-points"], "--zero-points goes with --precision int4"),
    ],
)
def test_usage_errors(tmp_path: Path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "none"), str(tmp_path / "bundle"), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_group_has_a_meaning_where_only_the_gpu_graphs_are_quantised():
    arguments = ["--target", "cpu,cuda", "--precision", "fp32", "--gpu-weights", "4", "--group", "128"]
    assert _parse(["a", "b", *arguments]).group == 128
