"""What TLS is made of: the files that the settings name, as contexts.

For clients of tls_port it is the engine's TlsContext, for HTTP and towards peers Python's. What
will not do is said with the setting that names it.
"""
from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from crdtredis._engine import TlsContext
from crdtredis.config import Config
from crdtredis.errors import EXIT_CONFIG, StartError
from crdtredis.settings import TLS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


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
        if config.tls_more_certs:
            server.sni_callback = chooser(config)
    if config.tls_ca_file:
        try:
            client = ssl.create_default_context(cafile=config.tls_ca_file)
        except OSError as e:
            raise refuse(f"tls_ca_file {config.tls_ca_file}", e,
                         "expected certificates in PEM format") from None
        if config.tls_crl_file:
            try:
                revoke(client, config.tls_crl_file)
            except OSError as e:
                raise refuse(f"tls_crl_file {config.tls_crl_file}", e,
                             "expected revocation lists in PEM format") from None
    return server, client


def revoke(context: ssl.SSLContext, path: str) -> None:
    """Refuse certificates in, and those of authorities without, one of the lists in this file.
    OSError where there is none. Certificates beside them would be authorities: they are left
    out, for which the lists go through a file in memory."""
    import ssl

    with open(path, "rb") as f:
        lists = re.findall(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n?", f.read(), re.S)
    with open(os.memfd_create("lists"), "wb") as only:
        only.write(b"".join(lists))
        only.flush()
        context.load_verify_locations(cafile=f"/proc/self/fd/{only.fileno()}")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def chooser(config: Config) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    """What gives http_port the certificate of the name that is asked for, as tls_port does.
    StartError as http_tls."""
    import ssl

    one_of = []
    for path in ("", *config.tls_more_certs):
        cert, key = (path, path) if path else (config.tls_cert_file, config.tls_key_file)
        try:                                # what is wrong with one it says best
            names = TlsContext(cert_file=cert, key_file=key, auth_clients="no",
                               key_file_pass=config.tls_key_file_pass,
                               named=("tls_more_certs", "tls_more_certs"))
        except ValueError as e:
            raise StartError(str(e), EXIT_CONFIG) from None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(cert, key, password=lambda: config.tls_key_file_pass)
        one_of.append((names, context))

    def choose(connection: ssl.SSLObject, name: str | None, asked: ssl.SSLContext) -> None:
        if name is None:
            return
        for names, context in one_of:
            if names.is_for(name.encode()):
                if names is not one_of[0][0]:
                    connection.context = context
                return

    return choose


def trusted(config: Config) -> tuple[bytes, ...]:
    """All that says which certificates of peers will do, once http_tls has looked at it."""
    found = []
    for path in (config.tls_ca_file, config.tls_ca_file and config.tls_crl_file):
        with open(path or os.devnull, "rb") as f:
            found.append(f.read())
    return tuple(found)


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
