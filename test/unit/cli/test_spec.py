# SPDX-License-Identifier: BSD-2-Clause
"""Instances read from TOML files, and errors that name the file and the key."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from hvkit.cli.spec import EXAMPLE, SpecError, locate, parse_spec, read_spec
from hvkit.hypervisor import DiskLimits, DiskRate, Instance, ParameterError

UUID_TEXT = "11111111-2222-3333-4444-555555555555"

WHOLE = f"""
[instance]
name = "web1"
memory_mib = 256
vcpus = 2
uuid = "{UUID_TEXT}"

[[disk]]
path = "web1.qcow2"
format = "qcow2"

[[disk]]
path = "/srv/data.raw"
read_only = true

[[nic]]
mac = "52:54:00:12:34:56"
mode = "user"

[parameters]
machine_version = "q35"
acpi = true
"""

SMALLEST = '[instance]\nname = "a"\nmemory_mib = 1\n'


def parse(text: str) -> Instance:
    return parse_spec(text, file="web1.toml", directory=Path("/etc/hvkit"))


def test_spec_with_all_tables_is_parsed() -> None:
    instance = parse(WHOLE)
    assert (instance.name, instance.memory_mib, instance.vcpus) == ("web1", 256, 2)
    assert instance.uuid == UUID(UUID_TEXT)
    assert [(disk.path, disk.format, disk.read_only) for disk in instance.disks] == [
        ("/etc/hvkit/web1.qcow2", "qcow2", False),
        ("/srv/data.raw", "raw", True),
    ]
    assert [(nic.mac, nic.mode) for nic in instance.nics] == [("52:54:00:12:34:56", "user")]
    assert instance.parameters == {"machine_version": "q35", "acpi": True}


def test_disk_limits_accept_number_or_table() -> None:
    limits = "[disk.limits]\nread_bytes = 5\nwrite_bytes = {per_s = 5, burst_per_s = 9, burst_s = 2}\n"
    (disk,) = parse(SMALLEST + DISK + limits).disks
    assert disk.limits == DiskLimits(read_bytes=DiskRate(5), write_bytes=DiskRate(5, burst_per_s=9, burst_s=2))


def test_minimal_spec_uses_defaults() -> None:
    instance = parse(SMALLEST)
    assert (instance.vcpus, instance.disks, instance.nics, instance.parameters) == (1, (), (), {})


def test_example_is_valid() -> None:
    instance = parse(EXAMPLE)
    assert instance.name == "web1"
    assert instance.disks[0].limits == DiskLimits(write_bytes=DiskRate(10_000_000))


DISK = '[[disk]]\npath = "a"\n'


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("", "instance", "missing table"),
        ("instance = 5", "instance", "must be a table, written [instance]"),
        ("[instance]\nmemory_mib = 1", "instance.name", "missing"),
        ('[instance]\nname = "a"', "instance.memory_mib", "missing"),
        (SMALLEST + "vcpu = 2", "instance.vcpu", "no such key; did you mean vcpus?"),
        (SMALLEST + "disks = []", "instance.disks", "no such key; valid keys: name, memory_mib, vcpus, uuid"),
        ('name = "web1"', "name", "no such key; valid keys: instance, disk, nic, parameters"),
        (SMALLEST + "[[disks]]", "disks", "no such key; did you mean disk?"),
        (SMALLEST + "[disk]", "disk", "must be an array of tables, each written [[disk]]"),
        (SMALLEST + "[[disk]]", "disk[0].path", "missing"),
        (SMALLEST + '[[disk]]\npath = ""', "disk[0].path", "expected an absolute path"),
        (
            SMALLEST + '[[disk]]\npath = "a"\n[[disk]]\npath = "b"\nformat = "vmdk"',
            "disk[1].format",
            "expected raw or qcow2, got 'vmdk'",
        ),
        (SMALLEST + DISK + "limits = 5", "disk[0].limits", "must be a table, written [disk.limits]"),
        (SMALLEST + DISK + "[disk.limits]", "disk[0].limits", "no limit is set; use None for an unlimited disk"),
        (SMALLEST + DISK + "[disk.limits]\nbytes = 1", "disk[0].limits.bytes", "no such key; did you mean"),
        (
            SMALLEST + DISK + "[disk.limits]\ntotal_bytes = 0",
            "disk[0].limits.total_bytes.per_s",
            "expected an integer >= 1, got 0",
        ),
        (SMALLEST + '[[nic]]\nmac = "no"', "nic[0].mac", "expected a unicast MAC address"),
        (
            SMALLEST + '[[nic]]\nmac = "52:54:00:12:34:56"\nmode = "user"\nlink = "br0"',
            "nic[0].link",
            "only used with mode tap",
        ),
        ('[instance]\nname = "../x"\nmemory_mib = 1', "instance.name", "not a valid name for an instance: '../x'"),
        ('[instance]\nname = "a"\nmemory_mib = "1"', "instance.memory_mib", "expected an integer number of MiB"),
        (SMALLEST + "parameters = 5", "instance.parameters", "no such key"),
    ],
)
def test_invalid_spec_names_file_and_key(text: str, key: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert (caught.value.file, caught.value.key) == ("web1.toml", key)
    assert str(caught.value).startswith(f"web1.toml: {key}: {problem}")


def test_invalid_toml_names_line() -> None:
    with pytest.raises(SpecError, match=r"^web1.toml: .*line 2"):
        parse("[instance]\nname = \n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = " + "[" * 20000, "is nested too deeply"),
        (SMALLEST + "[parameters]\n" + "a." * 20000 + "a = 1", "is nested too deeply"),
        (f"[instance]\nname{'.a' * 900} = 1", "is nested too deeply"),
        (f"a = {'9' * 5000}", "contains a number with too many digits"),
    ],
    ids=["arrays", "keys", "shallower keys", "digits"],
)
def test_spec_rejects_deep_nesting_and_long_numbers(text: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert str(caught.value) == f"web1.toml: {problem}"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ParameterError("Disk.path", "/srv/data.raw", "/srv/data.raw: No such file"),
            "web1.toml: disk[1].path: /srv/data.raw: No such file",
        ),
        (ParameterError("Disk.read_only", True, "not here"), "web1.toml: disk[1].read_only: not here"),
        (ParameterError("Disk.name", "", "not here"), "web1.toml: disk.name: not here"),
        (ParameterError("Nic.mac", "52:54:00:12:34:56", "taken"), "web1.toml: nic[0].mac: taken"),
        (ParameterError("vcpus", 2, "too many"), "web1.toml: instance.vcpus: too many"),
        (
            ParameterError("machine_version", "q36", "unknown", ["q35"]),
            "web1.toml: parameters.machine_version: unknown; did you mean q35?",
        ),
        (ParameterError("run_dir", "/x", "/x is not a directory"), "run_dir: /x is not a directory"),
        (ParameterError("kvm_path", "/x", "is a default"), "kvm_path: is a default"),
    ],
    ids=lambda value: value.name if isinstance(value, ParameterError) else "",
)
def test_locate_names_key_in_file(error: ParameterError, text: str) -> None:
    assert str(locate(error, parse(WHOLE), file="web1.toml")) == text


def test_duplicate_uuid_names_table() -> None:
    device = f'[[disk]]\npath = "a"\nuuid = "{UUID_TEXT}"\n'
    with pytest.raises(SpecError, match=r"web1.toml: disks: two of them have the same uuid"):
        parse(SMALLEST + device + device)


def test_unreadable_file_names_reason(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"missing.toml: No such file or directory"):
        read_spec(tmp_path / "missing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    with pytest.raises(SpecError, match=r"binary.toml: not UTF-8 text"):
        read_spec(tmp_path / "binary.toml")


def test_disk_path_is_relative_to_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "web1.toml").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)
    assert read_spec(Path("web1.toml")).disks[0].path == str(tmp_path / "web1.qcow2")
