"""What TLS is made of: the files that the settings name, as contexts.

For clients of tls_port it is the engine's TlsContext, for HTTP and towards peers Python's. What
will not do is said with the setting that names it.
"""
from __future__ import annotations

import os
from typing import TYPE_CHECKING

from crdtredis._engine import TlsContext
from crdtredis.config import Config
from crdtredis.errors import EXIT_CONFIG, StartError
from crdtredis.settings import TLS

if TYPE_CHECKING:
    import ssl


def check_files(config: Config) -> None:
    """StartError where OpenSSL would wait for a FIFO, or read a device without end."""
    named = [(name, config.values[name])
             for name in ("tls_cert_file", "tls_key_file", "tls_ca_file", "tls_crl_file")]
    for name, path in named + [("tls_more_certs", path) for path in config.tls_more_certs]:
        if path and os.path.exists(path) and not os.path.isfile(path):
            raise StartError(f"{name} {path}: expected a file", EXIT_CONFIG)


def http_tls(config: Config) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """(for what listens, for what connects); None: no TLS there, or the system's defaults.
    StartError where a file will not do."""
    server = client = None
    check_files(config)
    if not config.enable_tls and not config.tls_ca_file:
        return server, client
    import ssl

    def refuse(files: str, e: OSError, expected: str) -> StartError:
        problem = expected if isinstance(e, ssl.SSLError) else f"cannot be read: {e.strerror}"
        if getattr(e, "reason", None) == "KEY_VALUES_MISMATCH":
            problem = "the key is not that of the certificate"
        return StartError(f"{files}: {problem}", EXIT_CONFIG)

    if config.enable_tls:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # else it would ask the terminal
            server.load_cert_chain(config.tls_cert_file, config.tls_key_file,
                                   password=lambda: config.tls_key_file_pass)
        except OSError as e:
            raise refuse(f"tls_cert_file {config.tls_cert_file}, tls_key_file "
                         f"{config.tls_key_file}", e,
                         "expected a certificate chain and its key, without a passphrase or with "
                         "tls_key_file_pass, in PEM format") from None
    if config.tls_ca_file:
        try:
            client = ssl.create_default_context(cafile=config.tls_ca_file)
        except OSError as e:
            raise refuse(f"tls_ca_file {config.tls_ca_file}", e,
                         "expected certificates in PEM format") from None
    return server, client


def clients_tls(config: Config) -> TlsContext:
    """For tls_port, of files that http_tls has looked at. ValueError where one will not do."""
    values = {name.removeprefix("tls_"): config.values[name] for name in TLS}
    values["session_cache_timeout"] = int(config.seconds("tls_session_cache_timeout"))
    more = values.pop("more_certs")
    context = TlsContext(**values)
    if more:
        context.add([TlsContext(**values | {"cert_file": path, "key_file": path},
                                named=("tls_more_certs", "tls_more_certs")) for path in more])
    return context
