"""`crdt-redis backup` and `crdt-redis restore`: a backup fetched from a running server, and a data
directory made of one."""
from __future__ import annotations

import os
import shutil
import ssl
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from http.client import HTTPException, InvalidURL
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError
from crdtredis.moving.progress import Progress, say
from crdtredis.moving.whole import whole

TOKEN = "CRDT_AUTH_TOKEN"
PATIENCE = 60.0             # seconds without a byte
PIECE = 1 << 20


def backup(args: Sequence[str]) -> int:
    """StartError; then no file is left."""
    p = ArgumentParser("crdt-redis backup", description="Fetches a backup from a running server. "
                       f"Its auth_token, where it has one, is taken from {TOKEN}.")
    p.add_argument("--from", dest="source", default="127.0.0.1:8080", metavar="ADDRESS",
                   help="the server's http_port: host:port, or https://host:port; without it "
                   "127.0.0.1:8080")
    p.add_argument("--cafile", help="whose certificates are trusted, for https")
    p.add_argument("--to", metavar="FILE",
                   help="-: standard output; without it crdt-redis-REPLICA-TIME.tar here")
    a = p.parse_args(args)
    url = a.source if "://" in a.source else f"http://{a.source}"
    token = os.environ.get(TOKEN)
    try:
        request = Request(f"{url}/backup",
                          headers={"Authorization": f"Bearer {token}"} if token else {})
        context = ssl.create_default_context(cafile=a.cafile) if url.startswith("https:") else None
        with urlopen(request, timeout=PATIENCE, context=context) as response:
            size = response.headers.get("X-Backup-Size", "")
            to = a.to or os.path.basename(response.headers.get_filename(""))
            if not size.isdigit() or not to:
                raise StartError(f"{url}: this is no crdt-redis", EXIT_DATA)
            if to == "-":
                shutil.copyfileobj(response, sys.stdout.buffer, PIECE)
            else:
                save(response, Path(to), int(size))
                say(f"{to}: {os.path.getsize(to)} bytes")
    except HTTPError as e:
        raise StartError(f"{url}: {e.code} {e.read(1000).decode('utf-8', 'replace')}",
                         EXIT_DATA) from None
    except ValueError as e:
        raise StartError(f"{a.source}: {e}", EXIT_CONFIG) from None
    except InvalidURL as e:
        raise StartError(f"{a.source}: {e}", EXIT_CONFIG) from None
    except HTTPException:
        raise StartError(f"{url}: the connection broke before the end", EXIT_DATA) from None
    except (URLError, OSError) as e:
        raise StartError(f"{getattr(e, 'filename', None) or url}: {getattr(e, 'reason', e)}",
                         EXIT_DATA) from None
    return 0


def save(response, to: Path, size: int) -> None:
    with whole(to) as f, Progress("bytes", size) as progress:
        while piece := response.read(PIECE):
            f.write(piece)
            progress.stand(f.tell())


def restore(args: Sequence[str]) -> int:
    """What `crdt-redis check` says of the result. StartError; then no directory is left."""
    p = ArgumentParser("crdt-redis restore", description="Makes a data directory of a backup. The "
                       "server that starts there is the same replica, of which no other process "
                       "may run: it takes on from its peers what the backup lacks. To go back to "
                       "the backup, stop all replicas, and start the others with empty "
                       "directories.")
    p.add_argument("file", metavar="FILE", help="-: standard input; compressed ones are taken too")
    p.add_argument("folder", metavar="DIR", help="does not exist, or is empty")
    a = p.parse_args(args)
    from crdtredis.storage.backup import restore

    try:
        if a.file == "-":
            return restore(sys.stdin.buffer, Path(a.folder))
        with open(a.file, "rb") as f:
            return restore(f, Path(a.folder))
    except OSError as e:
        raise StartError(f"{e.filename or a.folder}: {e.strerror or e}", EXIT_DATA) from None
