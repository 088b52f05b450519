"""bfloat16 only where a processor has instructions for it, decided in one place and forced by one setting."""

import subprocess
import sys

import pytest

from deferred import deferred
from leakfree.base.precision import SETTING, PrecisionError, autocast, bfloat16_is_native, forced, resolve
from leakfree.cli import main

with deferred:
    import torch

    from leakfree.models.training import Budget
    from leakfree_study.compendium.study import parse


@pytest.fixture
def processor(monkeypatch):
    """Return a function that sets what oneDNN and the processor say of themselves."""

    def says(onednn, *instructions):
        monkeypatch.delenv(SETTING, raising=False)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))

    return says


@pytest.mark.parametrize(
    ("onednn", "instructions", "native"),
    [
        (True, ("avx2", "avx512_f", "avx512_bf16"), True),
        (True, ("avx512_f", "amx_tile", "amx_bf16"), True),
        (True, ("neon", "bf16"), True),
        # Skylake-X and Cascade Lake: oneDNN reports support, and computes in float32 all the same.
        (True, ("avx2", "avx512_f", "avx512_bw", "avx512_dq", "avx512_vnni"), False),
        (False, ("avx2",), False),
        # ONEDNN_MAX_CPU_ISA hides what is there.
        (False, ("avx512_f", "avx512_bf16"), False),
    ],
)
def test_bfloat16_is_for_processors_that_have_instructions_for_it(processor, onednn, instructions, native):
    processor(onednn, *instructions)
    assert bfloat16_is_native() is native
    assert resolve() == ("bfloat16" if native else "float32")
    assert Budget(epochs=1).resolved_precision() == resolve()
    # What is asked for is taken, whatever the processor says.
    assert [resolve(wanted) for wanted in ("bfloat16", "float32")] == ["bfloat16", "float32"]


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_for_what_it_does_not_emulate(monkeypatch, native):
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation
    )
    assert resolve(device="cuda") == ("bfloat16" if native else "float32")


def test_without_mkldnn_it_is_float32(processor, monkeypatch):
    processor(True, "avx512_bf16")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert resolve() == "float32"


@pytest.mark.parametrize("wanted", ["bfloat16", "float32"])
def test_the_environment_forces_either(processor, monkeypatch, wanted):
    processor(wanted == "float32", "avx512_bf16")
    assert resolve() != wanted and forced() is None
    monkeypatch.setenv(SETTING, wanted)
    assert resolve() == forced() == wanted
    monkeypatch.setenv(SETTING, "auto")
    assert resolve() != wanted and forced() is None


def test_a_precision_that_does_not_exist_is_one_line_for_every_command(monkeypatch, capsys):
    with pytest.raises(PrecisionError, match="'half' is no precision; known: auto, bfloat16, float32"):
        resolve("half")
    monkeypatch.setenv(SETTING, "half")
    line = f"{SETTING}: 'half' is no precision; known: auto, bfloat16, float32"
    assert main(["predict", "nothing.png"]) == 2
    assert capsys.readouterr().err == f"leakfree predict: {line}\n"
    with pytest.raises(SystemExit) as left:
        parse([])
    assert left.value.code == 2 and capsys.readouterr().err.endswith(f"run_all.py: error: {line}\n")


def test_autocast_computes_in_what_it_is_told():
    layer, x = torch.nn.Linear(4, 2), torch.ones(1, 4)
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with autocast(name):
            assert layer(x).dtype == dtype


def test_the_setting_can_be_read_without_pytorch():
    code = "import sys; from leakfree.base.precision import forced; forced(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_this_processor_says_what_its_kernel_says():
    """Linux lists the instructions; nothing is emulated by mistake on the machine that runs this."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            flags = next(line for line in stream if line.startswith(("flags", "Features"))).split()
    except (OSError, StopIteration):
        pytest.skip("no list of instructions here")
    if bfloat16_is_native():
        assert {"avx512_bf16", "amx_bf16", "bf16", "svebf16"} & set(flags)
