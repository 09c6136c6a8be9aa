"""Certificates of an authority of our own, made with the openssl executable."""
from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """Its certificate is NAME.crt in the folder; what it signs lies beside that. environment: to
    make them with, for a clock that is off (chaos.py)."""

    def __init__(self, folder: Path, name: str = "ca", **environment: str) -> None:
        self.folder, self.name, self._environment = folder, name, environment
        self.file = folder / f"{name}.crt"
        self._key, self._index = folder / f"{name}.key", folder / f"{name}.index"
        self._openssl("req", "-x509", *KEY, "-keyout", self._key, "-out", self.file, "-subj",
                      f"/CN={name}", "-days", 9)
        self._index.touch()
        self._config = folder / f"{name}.cnf"
        self._config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self._index}\n"
                                "default_md=sha256\ndefault_crl_days=9\nunique_subject=no\n"
                                "rand_serial=yes\n"
                                "[any]\ncommonName=supplied\n")

    def _openssl(self, *argv: object) -> None:
        subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, timeout=20,
                       env=os.environ | self._environment)

    def sign(self, name: str, days: int = 9, extensions: str = "",
             names: str = "DNS:localhost,IP:127.0.0.1",
             seconds: int | None = None) -> tuple[Path, Path]:
        """Certificate and key of these names, with that common name. seconds: for how long it
        holds, in place of days."""
        cert, key, asked, more = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr",
                                                                           "ext"))
        more.write_text(f"subjectAltName={names}\n{extensions}\n")
        self._openssl("req", *KEY, "-keyout", key, "-out", asked, "-subj", f"/CN={name}")
        if seconds is not None:
            end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))
            self._ca("-batch", "-notext", "-policy", "any", "-outdir", self.folder,
                     "-in", asked, "-out", cert, "-enddate", end, "-extfile", more)
            return cert, key
        self._openssl("x509", "-req", "-in", asked, "-CA", self.file, "-CAkey", self._key,
                      "-CAcreateserial", "-out", cert, "-days", days, "-extfile", more)
        return cert, key

    def list_revoked(self, *names: str, seconds: int = 9 * 86400) -> Path:
        """A list with these, and those of all lists before, which holds for so long."""
        for name in names:
            self._ca("-revoke", self.folder / f"{name}.crt")
        path = self.folder / f"{self.name}-{'-'.join(names) or 'none'}.crl"
        self._ca("-gencrl", "-crlsec", seconds, "-out", path)
        return path

    def _ca(self, *argv: object) -> None:
        self._openssl("ca", "-config", self._config, "-cert", self.file, "-keyfile", self._key,
                      *argv)


def of_replica(cert: tuple[Path, Path], authority: Authority, **settings: object) -> dict:
    """Settings with which a replica has TLS towards others."""
    return {"enable_tls": "yes", "tls_cert_file": cert[0], "tls_key_file": cert[1],
            "tls_ca_file": authority.file, "sync_interval": "50ms",
            "retry_interval": "50ms"} | settings
