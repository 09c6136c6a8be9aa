"""What TLS is made of: the files that the settings name, as contexts.

For clients of tls_port it is the engine's TlsContext, for HTTP and towards peers Python's. What
will not do is said with the setting that names it.
"""
from __future__ import annotations

import binascii
import logging
import os
import re
import time
from typing import TYPE_CHECKING

from crdtredis._engine import TlsContext, seconds_left
from crdtredis.config import Config
from crdtredis.errors import EXIT_CONFIG, StartError
from crdtredis.settings import TLS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

log = logging.getLogger("crdtredis.server")
PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?(CERTIFICATE|CRL)-----(.*?)-----END ", re.S)
FILE_MAX = 128 << 20                    # bytes of a file of certificates or lists
ENDS_SOON = 14 * 86400                  # s before the end of a certificate that it is warned of
LIST_ENDS_SOON = 86400                  # ... of a revocation list
# what TlsContext calls these, and what opens them
MORE = "tls_more_certs", "tls_more_certs", "tls_key_file_pass"


def check_files(config: Config) -> None:
    """StartError where OpenSSL would wait for a FIFO, or read a device without end, or for long
    while clients wait."""
    named = [(name, config.values[name])
             for name in ("tls_cert_file", "tls_key_file", "tls_client_cert_file",
                          "tls_client_key_file", "tls_ca_file", "tls_crl_file")]
    for name, path in named + [("tls_more_certs", path) for path in config.tls_more_certs]:
        if path and os.path.exists(path):
            if not os.path.isfile(path):
                raise StartError(f"{name} {path}: expected a file", EXIT_CONFIG)
            if os.path.getsize(path) > FILE_MAX:
                raise StartError(f"{name} {path}: expected at most {FILE_MAX >> 20} MiB",
                                 EXIT_CONFIG)


def http_tls(config: Config) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """(for what listens, for what connects); None: no TLS there, or the system's defaults.
    StartError where a file will not do."""
    server = client = None
    check_files(config)
    if not config.enable_tls and not config.tls_ca_file and not config.tls_client_cert_file:
        return server, client
    import ssl

    if config.enable_tls:
        server = listening(config, config.tls_cert_file, config.tls_key_file)
        if config.tls_more_certs:
            server.sni_callback = chooser(config)
    if config.tls_ca_file:
        client = authorised(config, ssl.Purpose.SERVER_AUTH)
    if own := shown_to_peers(config):
        client = client or ssl.create_default_context()
        client.load_cert_chain(*own)
    return server, client


def refuse(files: str, e: OSError, expected: str) -> StartError:
    import ssl

    problem = expected if isinstance(e, ssl.SSLError) else f"cannot be read: {e.strerror}"
    if getattr(e, "reason", None) == "KEY_VALUES_MISMATCH":
        problem = "the key is not that of the certificate"
    return StartError(f"{files}: {problem}", EXIT_CONFIG)


def listening(config: Config, cert: str, key: str) -> ssl.SSLContext:
    """With this certificate, and what callers have to show. StartError."""
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if config.tls_auth_peers != "no":
        context = authorised(config, ssl.Purpose.CLIENT_AUTH)
        # which routes want one is known only when a request is there
        context.verify_mode = ssl.CERT_OPTIONAL
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # else it would ask the terminal
        context.load_cert_chain(cert, key, password=lambda: config.tls_key_file_pass)
    except OSError as e:
        raise refuse(f"tls_cert_file {cert}, tls_key_file {key}", e,
                     "expected a certificate chain and its key, without a passphrase or with "
                     "tls_key_file_pass, in PEM format") from None
    return context


def authorised(config: Config, purpose: ssl.Purpose) -> ssl.SSLContext:
    """Trusts tls_ca_file alone, less what tls_crl_file revokes. StartError."""
    import ssl

    try:
        context = ssl.create_default_context(purpose, cafile=config.tls_ca_file)
    except OSError as e:
        raise refuse(f"tls_ca_file {config.tls_ca_file}", e,
                     "expected certificates in PEM format") from None
    if config.tls_crl_file:
        try:
            revoke(context, config.tls_crl_file)
        except OSError as e:
            raise refuse(f"tls_crl_file {config.tls_crl_file}", e,
                         "expected revocation lists in PEM format") from None
    return context


def shown_to_peers(config: Config) -> tuple[str, str, str] | None:
    """Certificate, key and passphrase with which this replica calls others; None: it shows none.
    StartError."""
    kind = "tls_client_" if config.tls_client_cert_file else "tls_"
    named = f"{kind}cert_file", f"{kind}key_file", f"{kind}key_file_pass"
    if kind == "tls_" and not config.enable_tls:
        return None
    cert, key, word = own = tuple(config.values[name] for name in named)
    try:
        if TlsContext(cert_file=cert, key_file=key, key_file_pass=word, auth_clients="no",
                      named=named).may_be_client():
            return own
    except ValueError as e:
        raise StartError(str(e), EXIT_CONFIG) from None
    if kind != "tls_":
        raise StartError(f"tls_client_cert_file {cert}: expected a certificate that clients may "
                         "show (its extended key usage says otherwise)", EXIT_CONFIG)
    log.info("tls_cert_file %s is for servers alone (its extended key usage), so peers with "
             "tls_auth_peers want a tls_client_cert_file here", cert)
    return None


class PeerCertificates:
    """What callers of the replication routes have to show, as the settings have it when it is
    made. The handshake has looked at it before; a certificate may have been revoked since."""

    def __init__(self, config: Config) -> None:
        """Of files that http_tls has looked at. ValueError where one will not do."""
        self._needed = config.tls_auth_peers == "yes"
        self._names = {name.lower() for name in config.tls_peer_names}
        self._context = TlsContext(cert_file=config.tls_cert_file, key_file=config.tls_key_file,
                                   key_file_pass=config.tls_key_file_pass, auth_clients="no",
                                   ca_file=config.tls_ca_file, crl_file=config.tls_crl_file)

    def refuses(self, connection: ssl.SSLObject | None) -> str:
        """Why who has this connection is no peer; "": it may be one. None: it is without TLS."""
        chain = chain_of(connection)
        if not chain:
            return ("it has shown no certificate, and tls_auth_peers wants one" if self._needed
                    else "")
        if why := self._context.refuses(chain):
            return f"its certificate is not accepted: {why}"
        names = names_of(connection)
        if self._names and not any(
                name in self._names or f"*.{name.partition('.')[2]}" in self._names
                for name in names):
            return (f"its certificate is for {', '.join(names[:5]) or 'no name'}: tls_peer_names "
                    "has none of these")
        return ""


def chain_of(connection: ssl.SSLObject | None) -> list[bytes]:
    """What the other end has shown, its own certificate first (DER)."""
    own = connection.getpeercert(binary_form=True) if connection is not None else None
    if own is None:
        return []
    if hasattr(connection, "get_unverified_chain"):         # from Python 3.13 on
        return [own, *connection.get_unverified_chain()]
    import _ssl

    return [own, *(c.public_bytes(_ssl.ENCODING_DER)
                   for c in connection._sslobj.get_unverified_chain() or ())]


def names_of(connection: ssl.SSLObject) -> list[str]:
    """All that the other end's certificate calls it, in small letters."""
    shown = connection.getpeercert() or {}
    found = [name for kind, name in shown.get("subjectAltName", ())
             if kind in ("DNS", "IP Address")]
    found += [value for field in shown.get("subject", ()) for kind, value in field
              if kind == "commonName"]
    return [name.lower() for name in found]


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
    one_of = []
    for path in ("", *config.tls_more_certs):
        cert, key = (path, path) if path else (config.tls_cert_file, config.tls_key_file)
        try:                                # what is wrong with one it says best
            names = TlsContext(cert_file=cert, key_file=key, auth_clients="no",
                               key_file_pass=config.tls_key_file_pass, named=MORE)
        except ValueError as e:
            raise StartError(str(e), EXIT_CONFIG) from None
        one_of.append((names, listening(config, cert, key)))

    def choose(connection: ssl.SSLObject, name: str | None, asked: ssl.SSLContext) -> None:
        if name is None:
            return
        for names, context in one_of:
            if names.is_for(name.encode()):
                if names is not one_of[0][0]:
                    connection.context = context
                return

    return choose


def ends(config: Config) -> dict[str, float]:
    """Until when what the settings name holds, in s since 1970, by setting: of certificates and
    those that lead to their authority, and of revocation lists, the first that ends; of authorities
    the last. Of files that http_tls has looked at; what cannot be read is left out."""
    named = [("tls_cert_file", path) for path in (config.tls_cert_file,)
             if config.enable_tls or config.tls_port]
    named += [("tls_more_certs", path) for path in config.tls_more_certs]
    named += [(name, config.values[name])
              for name in ("tls_client_cert_file", "tls_ca_file", "tls_crl_file")]
    found: dict[str, list[float]] = {}
    for name, path in named:
        try:
            with open(path or os.devnull, "rb") as f:
                text = f.read()
        except OSError:
            continue
        for kind, body in PEM.findall(text):
            if (kind == b"CRL") == (name == "tls_crl_file"):
                try:
                    left = seconds_left(binascii.a2b_base64(body), kind == b"CRL")
                except ValueError:
                    continue
                if left is not None:
                    found.setdefault(name, []).append(time.time() + left)
    return {name: (max if name == "tls_ca_file" else min)(all_) for name, all_ in found.items()}


def ending(ends: dict[str, float]) -> list[str]:
    """What of it holds no more, or ends soon, in words."""
    found = []
    for name, end in ends.items():
        left = end - time.time()
        what = "revocation list" if name == "tls_crl_file" else "certificate"
        if left <= 0:
            found.append(f"{name}: a {what} has expired")
        elif left < (LIST_ENDS_SOON if name == "tls_crl_file" else ENDS_SOON):
            found.append(f"{name}: a {what} expires in {left / 86400:.1f} days")
    return found


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
                                named=MORE) for path in more])
    return context
