"""`benchmarks.accelerator`: what it reads in compiled programs; with the plugins, also programs for accelerators."""

import argparse
import importlib.metadata
import inspect
import json
import pathlib
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure
from benchmarks.accelerator import __main__ as accelerator
from benchmarks.accelerator import hlo, model, one, programs, targets, thunks
from benchmarks.accelerator.hlo import Module
from benchmarks.accelerator.targets import TARGETS

H100 = TARGETS["h100"]

TEXT = f"""HloModule jit_f, is_scheduled=true

FileNames
1 "/lib/python3/site-packages/flax/module.py"
2 "{hlo.ROOT}/darts_pt_jax/kernels/pooling.py"

FileLocations
1 {{file_name_id=2 function_name_id=1 line=30 end_line=30 column=4 end_column=9}}
2 {{file_name_id=1 function_name_id=2 line=12 end_line=12 column=4 end_column=9}}

StackFrames
1 {{file_location_id=1 parent_frame_id=1}}
2 {{file_location_id=2 parent_frame_id=2}}

%rows (p0: f32[1000,16], p1: s32[]) -> f32[4,16] {{
  %p0 = f32[1000,16]{{1,0}} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[4,16]{{1,0}} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={{4,16}}
}}

%twice (p2: f32[8,16]) -> f32[8,16] {{
  %p2 = f32[8,16]{{1,0}} parameter(0)
  ROOT %sum = f32[8,16]{{1,0}} add(%p2, %p2)
}}

%body (state: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {{
  %state = (s32[], f32[8,16]{{1,0}}) parameter(0)
  %number = s32[] get-tuple-element(%state), index=0
  %value = f32[8,16]{{1,0}} get-tuple-element(%state), index=1
  %loop_add_fusion = f32[8,16]{{1,0}} fusion(%value), kind=kLoop, calls=%twice
  ROOT %next = (s32[], f32[8,16]{{1,0}}) tuple(%number, %loop_add_fusion)
}}

%condition (state.1: (s32[], f32[8,16])) -> pred[] {{
  %state.1 = (s32[], f32[8,16]{{1,0}}) parameter(0)
  ROOT %less = pred[] constant(true)
}}

ENTRY %main (x: f32[1000,16], n: s32[], k: f32[3,3,16,32], i: f32[2,8,8,16]) -> f32[2,8,8,32] {{
  %x = f32[1000,16]{{1,0}} parameter(0)
  %n = s32[] parameter(1)
  %k = f32[3,3,16,32]{{3,2,1,0}} parameter(2)
  %i = f32[2,8,8,16]{{3,2,1,0}} parameter(3)
  %loop_slice_fusion.1 = f32[4,16]{{1,0}} fusion(%x, %n), kind=kLoop, calls=%rows, metadata={{op_name="jit(f)/pool" stack_frame_id=2}}
  %copy.1 = f32[4,16]{{1,0}} copy(%loop_slice_fusion.1)
  %start = (s32[], f32[8,16]{{1,0}}) tuple(%n, %copy.1)
  %while.1 = (s32[], f32[8,16]{{1,0}}) while(%start), condition=%condition, body=%body, backend_config={{"known_trip_count":{{"n":"7"}}}}
  %cudnn-conv.1 = (f32[2,8,8,32]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%i, %k), window={{size=3x3 pad=1_1x1_1}}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward"
  ROOT %get-tuple-element.1 = f32[2,8,8,32]{{3,2,1,0}} get-tuple-element(%cudnn-conv.1), index=0
}}
"""
"""In the form of a program for GPUs by jax 0.10 and 0.12."""

SEQUENCE = """000: kCommandBuffer [source       | next=003 (1)]
    001: kCustomKernel [source       | next=002 (1)] loop_slice_fusion_1 grid: [1, 1, 1] threads: [64, 1, 1]  shared_memory: 0 bytes
    002: kCopy         [prev=001 (1) | sink        ] kCopy
003: kWhile         [prev=000 (1) | next=004 (1)]
condition:
    004: kCustomKernel [source | sink] loop_less_fusion grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
  body:
    005: kCustomKernel [source       | sink        ] loop_add_fusion grid: [2, 1, 1] threads: [64, 1, 1]  shared_memory: 0 bytes
006: kConvolution   [prev=003 (1) | sink        ] kConvolution
"""
NAMES = {1: "loop_slice_fusion.1", 2: "copy.1", 3: "while.1", 4: "less", 5: "loop_add_fusion", 6: "cudnn-conv.1"}


@pytest.fixture
def dumped(tmp_path):
    """The folder that XLA would dump `TEXT` to."""
    block = 'thunk_metadata {{\n  thunk_info {{\n    profile_annotation: "{}"\n    thunk_id: {}\n  }}\n}}\n'
    metadata = "".join(block.format(name, number) for number, name in NAMES.items())
    (tmp_path / "m.thunk_metadata.txt").write_text(metadata)
    (tmp_path / "m.thunk_sequence.txt").write_text("what the passes started from")
    (tmp_path / "m.thunk_sequence_after_thunk_passes.txt").write_text(SEQUENCE)
    return tmp_path


def test_thunks_and_instructions_together_say_what_a_gpu_does(dumped):
    module = Module(TEXT)
    sequence, buffers = thunks.read(dumped, module)
    kernels = {kernel.name: kernel for kernel in model.of_gpu(module, sequence)}
    row = model.summary(list(kernels.values()), 16, buffers, H100, "float32")
    assert (row["kernels"], row["one_block"], row["copies"], row["convolutions"]) == (15, 8, 1, 1)
    assert (buffers, sum(kernel.times for kernel in kernels.values() if not kernel.captured)) == (1, 15)
    rows, conv = kernels["loop_slice_fusion.1"], kernels["cudnn-conv.1"]
    assert (rows.read, rows.written) == (4 * 16 * 4 + 4, 4 * 16 * 4), "it reads the slice, not the whole array"
    assert rows.source == "darts_pt_jax/kernels/pooling.py:30", "the innermost call, apart from flax's"
    assert (conv.products, conv.read) == (2 * (2 * 8 * 8 * 32) * 9 * 16, 4 * (2 * 8 * 8 * 16 + 9 * 16 * 32))
    assert (kernels["loop_add_fusion"].others, kernels["loop_add_fusion"].times) == (8 * 16, 7)
    assert row["model_s"] == pytest.approx(2 * 0.6e-6 + 15 * 2e-6 + 16 * 5e-6), "all of them are small"


def test_bytes_of_a_tpu_are_those_of_whole_tiles_in_its_large_memory():
    (padded,), (fast,), (packed,) = map(hlo.shapes, (
        "f32[64,32,32,16]{3,2,1,0:T(8,128)}", "f32[64,32,32,16]{0,3,2,1:T(8,128)S(1)}", "bf16[32,32,16,64]{2,3,1,0:T(8,128)(2,1)}",
    ))  # fmt: skip
    assert (padded.bytes, fast.bytes, packed.bytes) == (64 * 32 * 32 * 128 * 4, 0, 32 * 32 * 64 * 128 * 2)
    assert [shape.bytes for shape in hlo.shapes("(pred[3], s32[], token[], f32[0])")] == [3, 4, 0]


def test_operations_of_a_known_program():
    """Of the CPU's compiler, which is always there."""

    def loss(kernel, weight, images):
        images = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        rows = images.reshape(-1, 8)
        return jax.lax.scan(lambda rows, _: (jnp.tanh(rows @ weight), None), rows, None, length=5)[0].sum()

    line = inspect.getsourcelines(loss)[1] + 1
    shapes = (3, 3, 4, 8), (8, 8), (2, 6, 6, 4)
    text = jax.jit(loss).lower(*(jax.ShapeDtypeStruct(s, "float32") for s in shapes)).compile().as_text()
    module = Module(text)
    kernels = model.of_tpu(module)
    convolution = 2 * (2 * 6 * 6 * 8) * (9 * 4)
    assert sum(k.times * k.products for k in kernels) == convolution + 5 * 2 * (72 * 8) * 8
    assert f"tests/test_accelerator.py:{line}" in {kernel.source for kernel in kernels if kernel.products}
    assert module.collectives() == {}


SMALL = dict(channels=2, cells=1, size=8, batch=4, images=64, classes=4, precision="float32", restricted=False,
             retrain_cells=1, retrain_channels=2, retrain_batch=4)  # fmt: skip


def traced(space: str, program: str, **changes) -> programs.Described:
    """A program, traced for a CPU that counts as absent."""
    args = argparse.Namespace(**SMALL | changes, space=space, program=program)
    return programs.traced(args, programs.Absent(jax.devices()[:1]))


def test_every_program_of_a_run_is_traced_and_none_is_compiled(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("it compiles"))
    names = programs.names("cell")
    assert names == [*programs.STEP, "scorer of normal edges", "validation", "retraining step"]
    results = {
        name: traced("cell", name).traced.out_info for name in names if name.split()[-1] not in ("batch", "update")
    }
    assert set(results["weight gradient"][0]) == {"params"} and set(results["alpha gradient"][0]) == {"alphas"}
    (scores, *_), retrained = results["scorer of normal edges"], results["retraining step"][0]
    assert scores.loss.shape == (6,), "the removals of an edge, and the unmasked supernet"
    assert results["validation"].loss.shape == () and "weight_optimizer" in vars(retrained)


def test_a_restricted_supernet_has_fewer_weights():
    whole, part = (traced("cell", "weight gradient", restricted=restricted) for restricted in (False, True))
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(p.traced.out_info[0])) for p in (whole, part)]
    assert 0 < sizes[1] < sizes[0] and min(whole.seconds, part.seconds) > 0


def test_without_plugins_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(targets, "_found", lambda module: module == "jax_cuda12_plugin")
    version = importlib.metadata.version("jaxlib")
    for option, words in (
        ("--targets=h100", "jax-cuda12-pjrt not installed"),
        ("--targets=h100", f"pip install --no-deps jax-cuda12-plugin=={version} jax-cuda12-pjrt=={version} "),
        ("--targets=v5e,h100", "libtpu not installed"),
        ("--targets=v4", "--targets names v4, the targets are h100, h200, v5e, v6e, v5e:2x4"),
        ("--programs=gradient", "--programs names gradient, the programs are batch, alpha gradient"),
    ):
        monkeypatch.setattr(sys, "argv", ["accelerator", option])
        with pytest.raises(SystemExit) as failure:
            accelerator.main()
        assert words in failure.value.code and "\n" not in failure.value.code
    assert not capsys.readouterr().out


def plugged(name: str):
    """A mark that skips a test without the compiler of a target."""
    missing = TARGETS[name].missing()
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=missing or ""))


def tiny_row(target: str):
    """Prints the row of a tiny program; in a process of its own, which looks for no hardware."""
    devices = programs.Absent(TARGETS[target].devices())

    def loss(kernel, images):
        images = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(images).sum()

    program = devices.jit(jax.grad(loss))
    kernel, images = np.ones((3, 3, 16, 16), np.float32), np.ones((16, 32, 32, 16), np.float32)
    program(devices.put(kernel, devices.whole), devices.put(images, devices.batch))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(one.row(program.traced, TARGETS[target], "float32", pathlib.Path(folder), top=9)))


@pytest.mark.parametrize("target", [plugged("h100"), plugged("v5e"), plugged("v5e:2x4")])
def test_a_tiny_program_compiles_for_hardware_that_is_not_there(target):
    call = f"from tests.test_accelerator import tiny_row; tiny_row({target!r})"
    row = measure.ask([sys.executable, "-c", call], accelerator.ENVIRONMENT)
    devices = 8 if target == "v5e:2x4" else 1
    once = 2 * (16 // devices * 32 * 32 * 16) * (9 * 16)
    assert row["convolutions"] == 2, "forward, and the gradient in the kernel"
    assert 2 * once <= row["flops"] <= 3 * once, "a TPU computes more at the borders of small images"
    assert row["model_s"] > 0 and row["temporary_bytes"] >= 0
    assert row["collective_bytes"] == ({} if devices == 1 else {"all-reduce": [3 * 3 * 16 * 128 * 4]}), "in tiles"
    assert any(kernel["source"].startswith("tests/test_accelerator.py:") for kernel in row["most_expensive"])
    assert row["host_launches"] == (5 if target == "h100" else 1), "two convolutions and three kernels, or the program"


LIMITS = {
    ("s2", 3, "weight gradient"): {"kernels": 710, "one_block": 65, "convolutions": 2, "command_buffers": 1, "host_launches": 1,
                                   "copies": 35, "read_bytes": 4.5e9, "temporary_bytes": 0.75e9, "model_s": 2.1e-3},
    ("s2", 3, "weight update"): {"kernels": 90, "copies": 15, "host_launches": 1},
}  # fmt: skip
"""What a program may have at most, by space, cells and program: what it had when the limits were set, and a little more."""


@pytest.mark.parametrize("target", [plugged("h100")])
@pytest.mark.parametrize("case", LIMITS, ids=str)
def test_a_run_s_programs_for_a_gpu_stay_small(target, case, tmp_path, monkeypatch):
    (space, cells, program), limits = case, LIMITS[case]
    file = tmp_path / "rows.json"
    options = [
        f"--targets={target}",
        f"--spaces={space}",
        f"--cells={cells}",
        f"--programs={program}",
        f"--json={file}",
    ]
    monkeypatch.setattr(sys, "argv", ["accelerator", *options, "--precisions=float32", "--forms=plain"])
    monkeypatch.setenv("XLA_FLAGS", "")  # as users have it
    accelerator.main()
    (row,) = json.loads(file.read_text())["rows"]
    assert {name: row[name] for name in limits if row[name] > limits[name]} == {}
