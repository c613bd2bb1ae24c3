"""The choice of precision on several kinds of machines, which are simulated."""

import pytest
import tensorflow as tf

from stn_keras import precision

CPUINFO = """\
processor\t: 0
vendor_id\t: {vendor}
model name\t: avx512_bf16 amx_bf16, in name only
flags\t\t: fpu sse2 {flags} avx512f
vmx flags\t: vnmi
bugs\t\t: avx512_bf16

processor\t: 1
flags\t\t: fpu sse2
"""


@pytest.fixture
def machine(monkeypatch):
    """Pretends that the machine has GPUs of these compute capabilities and such a CPU."""

    def pretend(capabilities=(), cpu_has_fast_bfloat16=False):
        details = {
            f"GPU:{number}": {"compute_capability": capability} if capability else {}
            for number, capability in enumerate(capabilities)
        }
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [*details])
        monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
        monkeypatch.setattr(precision, "cpu_has_fast_bfloat16", lambda: cpu_has_fast_bfloat16)

    return pretend


@pytest.mark.parametrize(
    "capabilities, cpu_has_fast_bfloat16, chosen",
    [
        ([], False, "float32"),
        ([], True, "mixed_bfloat16"),
        ([(7, 0)], False, "mixed_float16"),
        ([(9, 0), (8, 6)], True, "mixed_float16"),
        ([(6, 1)], True, "float32"),
        ([(9, 0), (6, 1)], False, "float32"),
        ([None], False, "float32"),
    ],
    ids=["plain CPU", "bfloat16 CPU", "Volta", "two GPUs", "Pascal", "one too old", "unknown GPU"],
)
def test_auto_follows_the_hardware(machine, capabilities, cpu_has_fast_bfloat16, chosen):
    machine(capabilities, cpu_has_fast_bfloat16)
    assert precision.choose("auto") == chosen


@pytest.mark.parametrize("name", [name for name in precision.CHOICES if name != "auto"])
def test_a_name_is_taken_at_its_word(machine, name):
    machine([(9, 0)], True)
    assert precision.choose(name) == name


@pytest.mark.parametrize(
    "vendor, flags, expected",
    [
        ("AuthenticAMD", "avx512_bf16", True),
        ("GenuineIntel", "avx512_bf16", False),
        ("GenuineIntel", "amx_bf16 amx_tile", True),
        ("AuthenticAMD", "avx512_bf16x", False),
        ("AuthenticAMD", "", False),
    ],
)
def test_vendor_and_whole_words_of_the_flags_line(tmp_path, vendor, flags, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO.format(vendor=vendor, flags=flags))
    assert precision.cpu_has_fast_bfloat16(cpuinfo) is expected


def test_a_cpu_nobody_describes_has_no_bfloat16(tmp_path):
    assert precision.cpu_has_fast_bfloat16(tmp_path / "none") is False
    (tmp_path / "arm").write_text("processor : 0\nFeatures : fp asimd bf16\n")
    assert precision.cpu_has_fast_bfloat16(tmp_path / "arm") is False
