"""`crdt-redis backup` and `crdt-redis restore`: a backup fetched from a running server, once or on
and on, and a data directory made of one."""
from __future__ import annotations

import os
import re
import shutil
import ssl
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPResponse, InvalidURL, RemoteDisconnected
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from crdtredis.arguments import Arguments
from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError
from crdtredis.kinds import parse_duration
from crdtredis.moving.progress import Progress, say
from crdtredis.moving.whole import ended_in_order, whole

TOKENS = "CRDT_OPERATOR_TOKEN", "CRDT_AUTH_TOKEN"         # the first that is there
PATIENCE = 60.0             # seconds without a byte
PIECE = 1 << 20
MS_FROM = 10 ** 11          # numbers from here on count ms: as seconds they would be the year 5138
MS_MOST = 1 << 47
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEEP = "1d"
KEEP_MOST = 10 * 365 * 86_400


def backup_arguments() -> Arguments:
    p = Arguments("backup", description="""\
Fetches a backup from a running server, into a file for `crdt-redis restore`.

With --follow it goes on after that: what the server writes comes into a directory, and is on
disk there, within a second or two. Kill it at any moment, run it again: it goes on where it was,
through restarts of the server, and takes a new backup by itself where the server no longer has
what came in between. `crdt-redis restore DIRECTORY ...` works at any time. SIGTERM or Ctrl-C end
it with 0. It tells on standard error what it does.""",
                  epilog=f"The server's operator_token is taken from {TOKENS[0]}; where it has "
                         f"none, its auth_token from {TOKENS[1]}.")
    p.add_argument("--from", dest="source", default="127.0.0.1:8080", metavar="ADDRESS",
                   help="the server's http_port: host:port, or https://host:port; without it "
                   "127.0.0.1:8080")
    p.add_argument("--cafile", help="whose certificates are trusted, for https")
    p.add_argument("--to", metavar="FILE",
                   help="-: standard output; without it crdt-redis-REPLICA-TIME.tar here. With "
                   "--follow the directory, made when missing")
    p.add_argument("--history", action="store_true", help="with all of the log that the server "
                   "still has, so that `restore --until` can go further back: it keeps that since "
                   "the checkpoint before its last")
    p.add_argument("--follow", action="store_true", help="go on with what the server writes")
    p.add_argument("--keep", metavar="TIME",
                   help="with --follow: how far back `restore --until` can go, 12h or 7d, say; "
                   "older checkpoints and log are removed. 0: the newest state and what follows "
                   f"it. Without it {KEEP}")
    return p


def backup(args: Sequence[str]) -> int:
    """StartError; then no file is left, and what --follow has fetched is."""
    a = backup_arguments().parse_args(args)
    url = a.source if "://" in a.source else f"http://{a.source}"
    token = next(filter(None, map(os.environ.get, TOKENS)), None)

    def fetch(path: str) -> HTTPResponse:
        request = Request(url + path,
                          headers={"Authorization": f"Bearer {token}"} if token else {})
        context = ssl.create_default_context(cafile=a.cafile) if url.startswith("https:") else None
        return urlopen(request, timeout=PATIENCE, context=context)

    if a.follow and a.history:
        raise StartError("--follow and --history do not go together", EXIT_CONFIG)
    if a.follow and a.to in (None, "-"):
        raise StartError("--follow needs --to DIRECTORY", EXIT_CONFIG)
    if a.keep is not None and not a.follow:
        raise StartError("--keep goes with --follow", EXIT_CONFIG)
    keep = seconds(a.keep or KEEP)
    try:
        if a.follow:
            from crdtredis.moving.following import Refused, follow

            try:
                return follow(fetch, Path(a.to), keep)
            except (Refused, EOFError) as e:
                raise StartError(f"{url}: {e}", EXIT_DATA) from None
        with fetch("/backup?history=1" if a.history else "/backup") as response:
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
    except RemoteDisconnected:
        raise StartError(f"{url}: it closed the connection without a reply: is that its http_port?",
                         EXIT_DATA) from None
    except HTTPException:
        raise StartError(f"{url}: the connection broke before the end", EXIT_DATA) from None
    except (URLError, OSError) as e:
        why = getattr(e, "reason", e)
        raise StartError(f"{getattr(e, 'filename', None) or url}: "
                         f"{getattr(why, 'strerror', None) or why}", EXIT_DATA) from None
    return 0


def save(response, to: Path, size: int) -> None:
    with whole(to) as f, Progress("bytes", size) as progress:
        while piece := response.read(PIECE):
            f.write(piece)
            progress.stand(f.tell())


def seconds(text: str) -> float:
    """StartError where it is no time, or one beyond KEEP_MOST."""
    try:
        found = parse_duration(text) / 1e9
        if not 0 <= found <= KEEP_MOST:
            raise ValueError
    except ValueError:
        raise StartError(f"--keep {text}: expected a time such as 12h or 7d, at most 10 years",
                         EXIT_CONFIG) from None
    return found


def restore_arguments() -> Arguments:
    p = Arguments("restore", description="""\
Makes a data directory of a backup, and checks it; where something is wrong, there is none.

The server that starts there is the same replica, of which no other process may run: it takes on
from its peers all that the backup lacks.

To go back instead, give a new cluster name. What is restored then is a cluster of its own: all
replicas that are to be in it get the same cluster_name, and the others start with empty
directories. With the former cluster it exchanges nothing; each refuses the other, and says so.
With --until it holds what any replica had written by that moment, as far as it had come to the
one that was backed up, with transactions and scripts whole; what was written later is left out.
Deadlines are moments, too: keys whose deadline has passed by now are gone.""")
    p.add_argument("source", metavar="SOURCE", help="the file of a backup, compressed or not; -: "
                   "standard input; the directory that `backup --follow` keeps, while it runs or "
                   "not; or a data directory that no server uses, which goes back as far as its "
                   "older checkpoint")
    p.add_argument("folder", metavar="DIR", help="does not exist, or is empty")
    p.add_argument("--new-cluster", metavar="NAME", help="its cluster_name; not that of the former")
    p.add_argument("--until", metavar="TIME", help="take what was written up to then, the moment "
                   "included, by the clock of who wrote it: 2026-11-29T01:30:00Z, "
                   "2026-11-29T02:30:00.5+01:00, or Unix time in seconds or milliseconds. Where "
                   "SOURCE does not go back so far, the error says how far it does. Needs "
                   "--new-cluster: in the same cluster the rest would come back from the peers")
    return p


def restore(args: Sequence[str]) -> int:
    """0. StartError; then no directory is left."""
    a = restore_arguments().parse_args(args)
    from crdtredis.storage.identity import CLUSTER
    from crdtredis.storage.restore import restore

    if a.until is not None and a.new_cluster is None:
        raise StartError("--until needs --new-cluster NAME: in the same cluster, what is left out "
                         "would come back from the peers that have it", EXIT_CONFIG)
    if a.new_cluster is not None and not re.fullmatch(CLUSTER, a.new_cluster):
        raise StartError(f"--new-cluster {a.new_cluster}: expected 1 to 64 letters, digits and "
                         "._:-", EXIT_CONFIG)
    until = None if a.until is None else moment(a.until)
    try:
        with ended_in_order():
            if a.source == "-":
                return restore(sys.stdin.buffer, Path(a.folder), until, a.new_cluster)
            if os.path.isdir(a.source):
                return restore(Path(a.source), Path(a.folder), until, a.new_cluster)
            with open(a.source, "rb") as f:
                return restore(f, Path(a.folder), until, a.new_cluster)
    except OSError as e:
        raise StartError(f"{e.filename or a.folder}: {e.strerror or e}", EXIT_DATA) from None


def moment(text: str) -> int:
    """ms since 1970. StartError where it is no time, or one without a zone."""
    try:
        if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text):
            whole, _, fraction = text.partition(".")
            if not fraction and int(whole) >= MS_FROM:
                ms = int(whole)
            else:
                ms = int(whole) * 1000 + int(f"{fraction:0<3.3}")
        else:
            found = datetime.fromisoformat(text)
            if found.tzinfo is None:
                raise StartError(f"--until {text}: say of which zone, with Z or +01:00 behind it",
                                 EXIT_CONFIG)
            ms = (found - EPOCH) // timedelta(milliseconds=1)
        if not 0 <= ms <= MS_MOST:
            raise ValueError
    except (ValueError, OverflowError):
        raise StartError(f"--until {text}: expected a time such as 2026-11-29T01:30:00Z, or Unix "
                         "time in seconds or milliseconds", EXIT_CONFIG) from None
    return ms
