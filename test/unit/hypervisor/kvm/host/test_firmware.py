# SPDX-License-Identifier: BSD-2-Clause
"""UEFI firmware found by descriptions, and the file of UEFI variables."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.host.firmware import check_files, find_firmware, make_variables

Q35: Final = "pc-q35-7.2"
PC: Final = "pc-i440fx-7.2"


def describe(directory: Path, name: str, code: str, **changes: Any) -> Path:
    """Write a firmware description."""
    description = {
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": code, "format": "raw"},
            "nvram-template": {"filename": f"{code}.vars", "format": "raw"},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": ["acpi-s3"],
    } | changes
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(json.dumps(description))
    return path


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "etc", tmp_path / "share"


def test_find_firmware_returns_the_first_match_by_file_name(directories: tuple[Path, Path]) -> None:
    _, share = directories
    describe(share, "60-plain.json", "/fw/second")
    describe(share, "50-plain.json", "/fw/first")
    describe(share, "10-arm.json", "/fw/arm", targets=[{"architecture": "aarch64", "machines": ["virt-*"]}])
    describe(share, "20-bios.json", "/fw/bios", **{"interface-types": ["bios"]})
    describe(share, "30-secure.json", "/fw/secure", features=["secure-boot", "enrolled-keys", "requires-smm"])
    found = find_firmware("uefi", "x86_64", Q35, directories)
    assert (found.code, found.template, found.needs_smm) == ("/fw/first", "/fw/first.vars", False)


def test_find_firmware_for_secure_boot_requires_enrolled_keys(directories: tuple[Path, Path]) -> None:
    etc, share = directories
    describe(share, "10-empty.json", "/fw/no-keys", features=["secure-boot", "requires-smm"])
    describe(etc, "20-keys.json", "/fw/keys", features=["secure-boot", "enrolled-keys", "requires-smm"])
    found = find_firmware("uefi-secure", "x86_64", Q35, directories)
    assert (found.code, found.needs_smm) == ("/fw/keys", True)


def test_description_of_the_administrator_hides_that_of_the_distribution(directories: tuple[Path, Path]) -> None:
    etc, share = directories
    describe(share, "50-plain.json", "/fw/distribution")
    describe(etc, "50-plain.json", "/fw/administrator")
    assert find_firmware("uefi", "x86_64", Q35, directories).code == "/fw/administrator"
    (etc / "50-plain.json").write_text("")
    with pytest.raises(ParameterError, match=r"describe no firmware of this kind for pc-q35-7.2"):
        find_firmware("uefi", "x86_64", Q35, directories)


def test_firmware_with_code_and_variables_in_one_file_is_not_used(directories: tuple[Path, Path]) -> None:
    mapping = {"device": "flash", "mode": "combined", "executable": {"filename": "/fw/one", "format": "raw"}}
    describe(directories[0], "10-one.json", "/fw/one", mapping=mapping)
    with pytest.raises(ParameterError, match="firmware"):
        find_firmware("uefi", "x86_64", Q35, directories)


@pytest.mark.parametrize("text", ["{", "[]", '{"mapping": {}}', '{"mapping": 5}', "\xff"])
def test_invalid_description_is_named_and_skipped(text: str, directories: tuple[Path, Path]) -> None:
    etc, share = directories
    describe(share, "60-plain.json", "/fw/good")
    etc.mkdir()
    (etc / "10-bad.json").write_bytes(text.encode("latin-1"))
    assert find_firmware("uefi", "x86_64", Q35, directories).code == "/fw/good"
    with pytest.raises(ParameterError, match=r"invalid descriptions: .*10-bad\.json"):
        find_firmware("uefi", "x86_64", PC, directories)


def test_check_files_names_a_missing_file(directories: tuple[Path, Path]) -> None:
    describe(directories[1], "60-plain.json", "/nowhere/code")
    with pytest.raises(ParameterError, match="/nowhere/code"):
        check_files(find_firmware("uefi", "x86_64", Q35, directories))


def test_make_variables_copies_the_template_once(tmp_path: Path) -> None:
    template, variables = tmp_path / "template", tmp_path / "state" / "VARS.fd"
    template.write_bytes(b"factory")
    make_variables(str(template), variables)
    assert variables.read_bytes() == b"factory"
    assert variables.stat().st_mode & 0o777 == 0o600
    variables.write_bytes(b"changed")
    make_variables(str(template), variables)
    assert variables.read_bytes() == b"changed"


def test_make_variables_that_fails_leaves_no_file(tmp_path: Path) -> None:
    variables = tmp_path / "state" / "VARS.fd"
    with pytest.raises(ParameterError, match="cannot be created"):
        make_variables(str(tmp_path / "no-template"), variables)
    assert list(variables.parent.iterdir()) == []
