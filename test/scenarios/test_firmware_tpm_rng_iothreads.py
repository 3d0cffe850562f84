# SPDX-License-Identifier: BSD-2-Clause
"""UEFI, TPM, virtio-rng, IOThreads and removable media on real QEMU."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from waiting import wait_for

from hvkit.hypervisor import InstanceStartError, InstanceState, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.firmware import find_firmware
from hvkit.hypervisor.model import Instance
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QomGet, QomList, QueryBlock, QueryIothreads, QueryTpm

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu
needs_swtpm = pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
CONFINED = {"security_model": "pool", "security_pool": "60000-60001", "use_chroot": True, "sandbox": "enabled"}


def _has_uefi(kind: str = "uefi") -> bool:
    try:
        return Path(find_firmware(kind, "x86_64", "pc-q35-7.2").code).exists()
    except ParameterError:
        return False


needs_uefi = pytest.mark.skipif(not _has_uefi(), reason="no UEFI firmware is installed")


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[KvmHypervisor]:
    """A hypervisor with a separate state directory."""
    hypervisor = KvmHypervisor(run_dir=tmp_path / "run", state_dir=tmp_path / "state")
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.purge_instance(name)


class _OneImage(BaseHTTPRequestHandler):
    """Serves 16 KiB at every URL, whole or in ranges."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", "16384")
        self.end_headers()

    def do_GET(self) -> None:
        first, last = (int(number) for number in self.headers["Range"].removeprefix("bytes=").split("-"))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/16384")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(bytes(last + 1 - first))

    def log_request(self, code: object = None, size: object = None) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[str]:
    """Give the URL of an image."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _OneImage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/cd.iso"
        server.shutdown()
        thread.join()


def _monitor(hypervisor: KvmHypervisor) -> AbstractContextManager[QmpConnection]:
    return hypervisor.monitor("web1")


@needs_uefi
@pytest.mark.parametrize("board", ["q35", "pc"])
@pytest.mark.parametrize("confined", [{}, CONFINED], ids=["open", "confined"])
def test_uefi_variables_outlive_the_instance(
    keeping: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, board: str, confined: dict[str, object]
) -> None:
    instance = make_toy(parameters={"firmware": "uefi", "machine_version": board, **confined}, memory_mib=128)
    variables = tmp_path / "state" / "web1" / "variables.fd"
    keeping.start_instance(instance)
    factory = Path(find_firmware("uefi", "x86_64", "pc-q35-7.2").template).read_bytes()
    # The first boot writes variables.
    wait_for(lambda: variables.read_bytes() != factory, timeout_s=60, interval_s=0.1)
    keeping.stop_instance("web1", force=True)
    keeping.cleanup_instance("web1")
    kept = variables.read_bytes()
    assert len(kept) == len(factory)
    keeping.start_instance(instance, start_paused=True)
    assert variables.read_bytes() == kept
    keeping.stop_instance("web1", force=True)
    keeping.purge_instance("web1")
    assert not variables.parent.exists()


@pytest.mark.skipif(not _has_uefi("uefi-secure"), reason="no firmware with Secure Boot is installed")
def test_secure_boot_uses_system_management_mode(keeping: KvmHypervisor, make_toy: MakeInstance) -> None:
    keeping.start_instance(make_toy(parameters={"firmware": "uefi-secure"}, memory_mib=128), start_paused=True)
    with _monitor(keeping) as monitor:
        assert monitor.execute(QomGet(path="/machine", property="smm")) == "on"
        assert monitor.execute(QomGet(path="/machine/system.flash1", property="secure")) is True


@pytest.mark.skipif(not _has_uefi("uefi-secure"), reason="no firmware with Secure Boot is installed")
def test_secure_boot_on_pc_is_refused(keeping: KvmHypervisor, make_toy: MakeInstance) -> None:
    with pytest.raises(ParameterError, match="no firmware of this kind for pc-i440fx"):
        keeping.start_instance(make_toy(parameters={"firmware": "uefi-secure", "machine_version": "pc"}))
    assert keeping.list_instances() == []


@needs_swtpm
@pytest.mark.parametrize("confined", [{}, CONFINED], ids=["open", "confined"])
def test_swtpm_runs_as_long_as_its_instance(
    keeping: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, confined: dict[str, object]
) -> None:
    instance = make_toy(parameters={"tpm": True, **confined})
    state = tmp_path / "state" / "web1" / "tpm"
    for _ in range(2):  # with a pool, the second start uses another account
        keeping.start_instance(instance)
        with _monitor(keeping) as monitor:
            (tpm,) = monitor.execute(QueryTpm())
        assert tpm.model == "tpm-crb"
        assert (state / "tpm2-00.permall").exists()
        keeping.stop_instance("web1", force=True)
        assert keeping.get_instance_info("web1").state is InstanceState.SHUTDOWN
        assert _users_of(state) == []
    keeping.purge_instance("web1")
    assert not state.parent.exists()


def _users_of(path: Path) -> list[str]:
    """Return the processes whose working directory this is."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if entry.readlink() == path:
                found.append(str(entry))
        except OSError:
            continue
    return found


@needs_swtpm
def test_swtpm_of_a_failed_start_is_terminated(keeping: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    with pytest.raises(InstanceStartError):
        keeping.start_instance(make_toy(parameters={"tpm": True, "kvm_extra": "-no-such-option"}))
    assert _users_of(tmp_path / "state" / "web1" / "tpm") == []


def test_start_with_tpm_without_swtpm_names_it(
    keeping: KvmHypervisor, make_toy: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvkit.hypervisor.kvm.host.tpm._PROGRAM", "no-such-swtpm")
    with pytest.raises(InstanceStartError, match="no-such-swtpm is not installed"):
        keeping.start_instance(make_toy(parameters={"tpm": True}))
    assert keeping.list_instances() == []


def test_instance_has_virtio_rng_and_iothreads(keeping: KvmHypervisor, make_toy: MakeInstance) -> None:
    keeping.start_instance(make_toy(parameters={"virtio_rng": True, "io_threads": 2}), start_paused=True)
    with _monitor(keeping) as monitor:
        assert {each.id for each in monitor.execute(QueryIothreads())} == {"io0", "io1"}
        peripherals = {each.name: each.type for each in monitor.execute(QomList(path="/machine/peripheral"))}
    assert peripherals["rng"] == "child<virtio-rng-pci>"
    (disk,) = [name for name in peripherals if name.startswith("disk-")]
    with _monitor(keeping) as monitor:
        path = monitor.execute(QomGet(path=f"/machine/peripheral/{disk}", property="iothread"))
    assert path in ("/objects/io0", "/objects/io1")


def test_scsi_controller_runs_in_an_iothread(keeping: KvmHypervisor, make_toy: MakeInstance) -> None:
    parameters = {"io_threads": 1, "disk_type": "scsi-hd", "scsi_controller_type": "virtio-scsi-pci"}
    keeping.start_instance(make_toy(parameters=parameters), start_paused=True)
    with _monitor(keeping) as monitor:
        assert monitor.execute(QomGet(path="/machine/peripheral/scsi0", property="iothread")) == "/objects/io0"


@pytest.mark.parametrize(
    "parameters", [{"disk_type": "ide"}, {"disk_type": "scsi-hd", "scsi_controller_type": "lsi"}], ids=["ide", "lsi"]
)
def test_io_threads_for_unsupported_disks_are_refused(
    keeping: KvmHypervisor, make_toy: MakeInstance, parameters: dict[str, object]
) -> None:
    with pytest.raises(ParameterError, match="does not support IOThreads; set io_threads to 0"):
        keeping.start_instance(make_toy(parameters={"io_threads": 1, "machine_version": "pc", **parameters}))


@pytest.mark.skipif(Path("/dev/vhost-vsock").exists(), reason="this node has /dev/vhost-vsock")
def test_vsock_without_the_device_is_refused(keeping: KvmHypervisor, make_toy: MakeInstance) -> None:
    with pytest.raises(ParameterError, match="/dev/vhost-vsock does not exist"):
        keeping.start_instance(make_toy(parameters={"vsock_cid": 3}))
    assert keeping.list_instances() == []


@pytest.mark.parametrize("board", ["q35", "pc"])
@pytest.mark.parametrize("kind", ["paravirtual", "ide", "scsi-cd"])
@pytest.mark.parametrize("confined", [{}, CONFINED], ids=["open", "confined"])
def test_media_are_in_the_drives(
    keeping: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, board: str, kind: str, confined: dict[str, object]
) -> None:
    for name, size in (("first.iso", 4096), ("second.iso", 8192), ("floppy.img", 1440 << 10)):
        (tmp_path / name).write_bytes(bytes(size))
    parameters = {
        "machine_version": board,
        "cdrom_disk_type": kind,
        "scsi_controller_type": "virtio-scsi-pci",
        "cdrom_image_path": str(tmp_path / "first.iso"),
        "cdrom2_image_path": str(tmp_path / "second.iso"),
        "floppy_image_path": str(tmp_path / "floppy.img"),
    }
    keeping.start_instance(make_toy(parameters={**parameters, **confined}), start_paused=True)
    with _monitor(keeping) as monitor:
        blocks = monitor.execute(QueryBlock())
    found = {
        (each.qdev or "", each.inserted.image.virtual_size) for each in blocks if each.inserted and each.inserted.ro
    }
    sizes = {drive: size for qdev, size in found for drive in ("cdrom1", "cdrom2", "floppy1") if drive in qdev}
    assert sizes == {"cdrom1": 4096, "cdrom2": 8192, "floppy1": 1440 << 10}


def test_cdrom_image_can_be_a_url(keeping: KvmHypervisor, make_toy: MakeInstance, web_server: str) -> None:
    try:
        keeping.start_instance(make_toy(parameters={"cdrom_image_path": web_server}), start_paused=True)
    except InstanceStartError as error:
        if "Unknown driver 'http'" not in str(error):
            raise
        pytest.skip("this QEMU has no block driver for http")
    with _monitor(keeping) as monitor:
        (cdrom,) = [each for each in monitor.execute(QueryBlock()) if each.qdev and "cdrom1" in each.qdev]
    assert cdrom.inserted is not None
    assert cdrom.inserted.image.virtual_size == 16384
