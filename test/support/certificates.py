# SPDX-License-Identifier: BSD-2-Clause
"""TLS certificates for tests of encrypted connections."""

from __future__ import annotations

import subprocess
from pathlib import Path

_EXTENSIONS = """\
subjectAltName=DNS:localhost,IP:127.0.0.1
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
"""


def make_certificates(directory: Path, openssl: str) -> Path:
    """Create a certificate authority, and certificates for server and client."""

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=directory, check=True, capture_output=True, timeout=30)

    directory.mkdir()
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    authority = ("-addext", "keyUsage=critical,keyCertSign")
    run("req", "-x509", *new_key, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=authority", *authority)
    (directory / "extensions").write_text(_EXTENSIONS)
    for end in ("server", "client"):
        run("req", *new_key, "-keyout", f"{end}-key.pem", "-out", f"{end}.csr", "-subj", "/CN=localhost")
        signing = ("-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "extensions")
        run("x509", "-req", "-in", f"{end}.csr", "-out", f"{end}-cert.pem", *signing)
    return directory
