"""The server: its parts, put together, started in order and stopped in order.

    main thread     the engine's loop (no GIL on its hot path), recovery in slices, the log's
                    rotation
    sync            replication and HTTP (replication/service.py)
    fdatasync       the log's durability (storage/segments.py)
    io_1, ...       calls on clients' sockets, with io_threads (engine/threads.pxi)

Start: data directory and lock; identity, which makes a new epoch durable (on a full disk the log
does so later, and refuses writes until then); the witness of the process before, which says whether
this one may go on as its actor; replica, executor, loop; listening sockets. From here
on clients are replied to, with -LOADING, while the log is replayed in slices inside the loop. Then
the log is opened for writing and the doors open. What replication and HTTP are made of takes most
of the time of a start to load, so that is done meanwhile, in a thread; then the sync thread starts,
at the latest when a command asks for it. Nothing is written under the new epoch before it is
durable and the log is whole.

Stop (SIGTERM, SIGINT, SHUTDOWN): the loop iteration under way is logged and its replies go out, the
sync thread ends what is in flight, the log is forced to disk, the lock is released, exit code 0. A
second signal cuts that short; what comes at once is the same signal, sent to the process and its
group, as timeout(1) and many supervisors do. SIGHUP opens the log file of the messages again.

What cannot start says why in one line and with an exit code of errors.py. What fails later is
refused to clients and shown by /health.

Settings that change at run time are applied in the main thread, whoever changed them: `apply` is
Config's observer.
"""
from __future__ import annotations

import contextlib
import errno
import faulthandler
import functools
import gc
import logging
import os
import resource
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crdtredis import __version__, audit, logs
from crdtredis._core import Replica, SegmentWriter
from crdtredis._engine import Bridge, Executor, Loop
from crdtredis.acl import FileError
from crdtredis.certificates import (PeerCertificates, clients_tls, ending, ends, http_tls,
                                    trusted)
from crdtredis.clocks import Clock, actor_id, lacking
from crdtredis.commands.shared_users import SharedUsers
from crdtredis.config import Config
from crdtredis.errors import EXIT_ADDRESS, EXIT_CONFIG, EXIT_DATA, EXIT_FORCED, StartError
from crdtredis.info import memory_limit
from crdtredis.members import MEMBERS
from crdtredis.replication.delivering import Mode
from crdtredis.settings import ENCODING_LIMITS, EVICTION, SETTINGS, TLS, TLS_OF_PEERS
from crdtredis.sockets import (check_socket_path, hosts, listening, may_be_missing, remove_socket,
                               show)
from crdtredis.storage.checkpoint import Checkpoints
from crdtredis.storage.exchange import StateExchange
from crdtredis.storage.followers import Followers
from crdtredis.storage.followers import warnings as follower_warnings
from crdtredis.storage.identity import (SECRET, Left, newer_epoch, read_identity,
                                        store_identity, take_identity)
from crdtredis.storage.lock import DirectoryLock
from crdtredis.storage.reader import LogReader
from crdtredis.storage.recovery import Recovered, recovery
from crdtredis.storage.retention import Retention
from crdtredis.storage.segments import SegmentLog
from crdtredis.storage.stage import remove_strays
from crdtredis.storage.witness import Sighting, Witness, is_next, lasts, open_witness, proves
from crdtredis.tracing import Tracing, provider_of

if TYPE_CHECKING:
    import ssl

    from crdtredis.http.serving import Loading
    from crdtredis.moving.mirror import Mirror, Target
    from crdtredis.replication.agreement import Agreement
    from crdtredis.replication.service import Service
    from crdtredis.storage.format import LogPosition

log = logging.getLogger("crdtredis.server")

# µs without progress after which a service manager may take the start for failed
START_PATIENCE = 60_000_000
PROGRESS = 2.0          # s between two lines about recovery
# s of loading after which /health is replied to meanwhile: a short start needs no thread for it
LOADING_AFTER = 0.25
ONE_SIGNAL = 0.5        # s within which signals to stop are one
OWN_FILES = 64          # descriptors for the log, the sync thread, listening sockets
PEER_FILES = 8          # ... and for the connections to one peer
WAITING_LONG = 10       # s of that after which /health warns
EVICTION_LAG_MS = 5000  # a peer that lags more takes no share in eviction
CLIENTS_LEAST = 128 << 10      # bytes: maxmemory_clients is not taken for less
MEMORY_LOW = 0.9        # part of max_memory in use from which on it does
# processes in the clocks from which on somebody should know: 65535 are the end
ACTORS_MANY = 16_384


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Server:
    """One server. Python commands reach it as session.server.

    config, replica, executor, engine (the loop), bridge; from the end of recovery on also log
    (storage.SegmentLog) and sync, None before. started: Unix time in ms. recovered: what recovery
    found. health() says what is wrong.
    """

    def __init__(self, config: Config) -> None:
        """Builds everything that needs no recovery. StartError where that is impossible; nothing is
        left behind then."""
        self.config = config
        self.started = now_ms()
        self.log: SegmentLog | None = None
        self.last_save = self.started // 1000           # for info.Parts, as those below
        self.saves: Any = None
        self.snapshots: Any = None
        self.mirror: Mirror | None = None
        self.followers = Followers()
        self.disk_free = -1                             # bytes; -1: not looked yet
        self.disk_low = False                           # less than disk_free_warning
        self.checkpoints: Checkpoints | None = None
        self.retention: Retention | None = None
        self._sync: Service | None = None
        self._known: tuple | None = None                # of whom, as the kernel was told
        self._starting: threading.Thread | None = None  # loads what `sync` needs
        self._claiming: threading.Thread | None = None  # asks for what was left with a peer
        self._logged: Clock = {}                        # the clock as recovered
        self.recovered: Recovered | None = None
        self.failed: StartError | None = None
        self.stop_reason = ""
        # when the first signal to stop came (monotonic)
        self._signalled = 0.0
        # what a repaired log holds and could not apply: it waits for what was lost
        self._unapplied: Clock = {}
        self._stops: list[Callable[[], Any]] = []       # undone in reverse order
        self._http: list[socket.socket] = []
        self.certificate_ends: dict[str, float] = {}
        self._http_tls: Callable[[ssl.SSLContext | None], None] | None = None
        self._loading: Loading | None = None
        # replicas whose stamps lie too far ahead, as last told in the log
        self._ahead: set[str] = set()
        # the records of members, as told to the sync thread
        self._members: dict[bytes, bytes] = {}
        self.agreement: Agreement | None = None         # on processes that have ended
        # s for which received ops have waited for others
        self._waiting = 0
        self._actors_told = ACTORS_MANY

        self.output = start_logging(config)
        try:
            self.tls = http_tls(config)
            self._peer_certificates = self._wanted_of_peers()
            self.certificate_ends = ends(config)
            self.folder = open_folder(config.data_dir)
            lock = DirectoryLock(self.folder)
            self._stops.append(lock.release)
            self.writer = SegmentWriter()
            last = self._last = read_identity(self.folder)
            self.identity = take_identity(self.folder, config.replica_id, self.started,
                                          cluster=config.cluster_name)
            self.tracing = provider_of(self.identity.replica_id) if config.tracing else None
            self._witness = self._find_witness(last.epoch if last else 0)
            self.replica = Replica(self.identity.replica_id, self.identity.epoch,
                                   max_clock_skew=config.ms("max_clock_skew"))
            self.replica.now = self.started
            # with peers there is somebody, who is not known yet
            self.replica.set_members(None if config.peer_urls else {self.replica.id})
            self.executor = Executor(self.replica, self)
            self.executor.loading = True
            self.executor.give(Mode.NOTHING, [])        # until it is known who is linked
            self.shared_users = SharedUsers(self.executor)
            self.bridge = Bridge()
            self.engine = Loop(self.executor, self.writer, self.bridge, self._log_tick)
            self.http_limit = http_limit(config)
            self.engine.reserve = OWN_FILES + self.http_limit + PEER_FILES * len(config.peers)
            self._stops += [self.engine.close, self.engine.see_off]
            try:
                self.engine.io_threads = config.io_threads
            except OSError as e:
                raise StartError(f"io_threads {config.io_threads}: {e.strerror}",
                                 EXIT_CONFIG) from None
            if config.tls_port:
                try:
                    self.engine.tls = clients_tls(config)
                except ValueError as e:
                    raise StartError(str(e), EXIT_CONFIG) from None
            for s in SETTINGS:
                if s.live:
                    self.apply(s.name, config.values[s.name])
            users = "replicate_acl"     # last: they are not undone with a change that is refused
            config.observe([s.name for s in SETTINGS if s.live and s.name != users], self._changed)
            config.observe([users], self._changed)
            self._load_users()
            self.engine.on_users_change = self._heed_users
            self._listen()
        except BaseException:
            self._undo()
            raise

    def _load_users(self) -> None:
        try:
            self.executor.users.load_configured(self.config)
        except FileError as e:
            name = "aclfile" if self.config.aclfile else "users"
            raise StartError(f"{name} ({self.config.origin(name)}): {e}", EXIT_CONFIG) from None

    def _share_users(self, on: bool) -> None:
        users = self.executor.users
        if on and users.shared is None:
            users.shared = self.shared_users
            if not self.executor.loading:               # else at its end
                closed = self.shared_users.begin()      # the caller, too, and after its reply
                self.engine.call_soon(functools.partial(self._close_clients, closed))
        elif not on:
            users.shared = None                         # those there are stay, as its own

    def _heed_users(self) -> None:
        if self.executor.users.shared is not None and not self.executor.loading:
            self._close_clients(self.shared_users.refresh())

    def _close_clients(self, ids: list[int]) -> None:
        for i in ids:
            self.engine.kill_client(i)

    # ---- life ------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop. Returns the exit code; StartError when the start fails after
        all (damaged log, HTTP port in use)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)
        faulthandler.enable(2)                          # a crash in compiled code says where
        log.info("connect with: %s", how_to_connect(self.config))
        log.info("crdt-redis %s, replica %s, epoch %d, process %d, data in %s", __version__,
                 self.identity.replica_id, self.identity.epoch,
                 os.getpid(), self.folder)
        for warning in self.config.warnings:
            log.warning("%s", warning)
        limit, wanted = memory_limit(), self.config.max_memory
        if limit and not 0 < wanted <= MEMORY_LOW * limit:
            log.warning("max_memory is %s, and at %d MB the kernel ends the server (the memory "
                        "limit of its control group): set it well below",
                        f"{wanted >> 20} MB" if wanted else "0, no limit", limit >> 20)
        log.info("clients: %s", ", ".join(self.engine.addresses()))
        self._recovery = self._recover()
        self.engine.add_work(lambda: next(self._recovery, False))
        self.engine.every_second(self._each_second)
        if is_watched():
            self.engine.on_life = functools.partial(notify, "WATCHDOG=1")
        try:
            self.engine.run()
            self._leave_testimony()
        finally:
            self._undo()
        if self.failed:
            raise self.failed
        log.info("stopped%s", f" ({self.stop_reason})" if self.stop_reason else "")
        return 0

    def stop(self, reason: str = "") -> None:
        """Begin an orderly stop. From any thread, and from a signal handler."""
        self.stop_reason = self.stop_reason or reason
        notify("STOPPING=1\nSTATUS=Stopping")
        self.engine.stop()

    def _on_stop_signal(self, number: int, frame: object) -> None:
        if self._signalled:
            if time.monotonic() - self._signalled < ONE_SIGNAL:
                return
            log.warning("second signal: leaving at once")
            os._exit(EXIT_FORCED)
        self._signalled = time.monotonic()
        log.info("%s: stopping", signal.Signals(number).name)
        self.stop(signal.Signals(number).name)

    def _on_hangup(self, number: int, frame: object) -> None:
        try:
            logs.reopen()
        except OSError as e:
            log.error("log_file %s cannot be opened again: %s; going on with the old one",
                      self.config.log_file, e.strerror)
        else:
            log.info("SIGHUP: log file opened again")
        if self.config.tls_port or self.config.enable_tls:
            try:
                self._renew_tls()
            except ValueError as e:
                log.error("TLS goes on with the certificates it has: %s", e)
            else:
                log.info("SIGHUP: certificates read again")

    def _undo(self) -> None:
        while self._stops:
            try:
                self._stops.pop()()
            except Exception:
                log.exception("while stopping")

    def _fail(self, error: StartError) -> None:
        self.failed = error
        # else the command line's own message says it, on standard error
        if self.output.path:
            log.error("%s", error)
        self.engine.stop()

    # ---- sockets ---------------------------------------------------------------------------------

    def _listen_at(self, port: int, tls: bool = False) -> None:
        config, found = self.config, 0
        for host, may_fail in hosts(config.bind if port else ()).items():
            try:
                self.engine.listen_tcp(host, port, config.tcp_backlog, tls)
                found += 1
            except OSError as e:
                if not may_be_missing(may_fail, e):
                    raise StartError(f"cannot listen on {show(host, port)} "
                                     f"({'tls_port' if tls else 'port'}): {e.strerror or e}",
                                     EXIT_ADDRESS) from None
        if port and not found:
            raise StartError(f"none of the addresses {', '.join(config.bind)} can "
                             "be listened on", EXIT_ADDRESS)

    def _move_tls(self, port: int) -> None:
        """Listens for TLS at another port, or at none. ValueError where that is impossible: then
        nothing has changed."""
        if port == self._tls_port:
            return
        before = self.engine.tls_listeners()
        if port:
            self._renew_tls()                           # there may be none yet
        try:
            self._listen_at(port, tls=True)
        except StartError as e:
            self.engine.leave(set(self.engine.tls_listeners()) - set(before))
            raise ValueError(str(e)) from None
        self.engine.leave(before)
        self._tls_port = port
        log.info("clients: %s", ", ".join(self.engine.addresses()))

    def _listen(self) -> None:
        config = self.config
        self._listen_at(config.server_port)
        self._listen_at(config.tls_port, tls=True)
        self._tls_port = config.tls_port
        if config.unixsocket:
            path = config.unixsocket
            try:
                check_socket_path(path)
                self.engine.listen_unix(path, config.unixsocketperm, config.tcp_backlog)
            except OSError as e:
                raise StartError(f"cannot listen on {path}: {e.strerror or e}",
                                 EXIT_ADDRESS) from None
            self._stops.append(functools.partial(remove_socket, path, os.stat(path).st_ino))
        if config.http_port:
            # Nobody accepts here yet: until the log is loaded a thread of its own does, when that
            # takes long; then replication's.
            self._stops.append(lambda: [s.close() for s in self._http])
            for host, address in hosts(config.http_addresses).items():
                try:
                    self._http.append(listening(host, config.http_port, config.tcp_backlog))
                except OSError as e:
                    if not may_be_missing(address, e):
                        raise StartError(f"cannot listen on {show(host, config.http_port)} "
                                         f"(http_port): {e.strerror or e}",
                                         EXIT_ADDRESS) from None
            if not self._http:
                raise StartError(f"none of the addresses {', '.join(config.http_addresses)} can "
                                 "be listened on", EXIT_ADDRESS)

    # ---- recovery --------------------------------------------------------------------------------

    def _recover(self) -> Iterator[bool]:
        """The start's slow part, a slice per step. False ends it."""
        shown = begun = time.monotonic()
        self._claim_testimony()
        steps = recovery(self.folder, self.replica.id, self.replica)
        try:
            while True:
                try:
                    done, total = next(steps)
                except StopIteration as e:
                    self.recovered = e.value
                    break
                if (self._http and self._loading is None and time.monotonic() - begun
                    >= LOADING_AFTER):
                    self._reply_loading()
                if time.monotonic() - shown >= PROGRESS:
                    shown = time.monotonic()
                    notify(f"EXTEND_TIMEOUT_USEC={START_PATIENCE}\nSTATUS=Loading: "
                           f"{100 * done // max(total, 1)}%")
                    log.info("loading: %d%% of %d MB in %.0f s", 100 * done // max(total, 1),
                             total >> 20, shown - begun)
                yield True
            while self._claiming is not None and self._claiming.is_alive():
                self._claiming.join(0.01)
                yield True
            alone = not self.config.peer_urls and not self.replica.system_hash(MEMBERS)
            if alone:                                   # there is nobody of an older version
                self.replica.set_members({self.replica.id}, True, True)
            self._open_log()
            if self.executor.users.shared is not None:
                self._close_clients(self.shared_users.begin_serving())
        except Exception as e:
            self._start_failed(e)
        else:
            self._logged = self.replica.clock_ids()
            self._starting = threading.Thread(target=self._load_replication, name="start",
                                              daemon=True)
            self._stops.append(self._starting.join)
            self._starting.start()
            if alone:
                self.executor.give(Mode.ALL, [])        # there is nobody else
            else:
                # there may be somebody of an older version: see knows_patches
                self.replica.set_members(None, not self._logged)
            self.executor.loading = False
        yield False

    def _load_replication(self) -> None:
        try:
            import crdtredis.http.app
            import crdtredis.http.serving
            import crdtredis.moving.mirror
            import crdtredis.replication.service  # noqa: F401
        finally:                                        # should that fail, it fails again there
            self.engine.call_soon(self._finish_start)

    def _finish_start(self) -> None:
        loading, self._starting = self._starting, None
        if loading is None:
            return                                      # a command was quicker
        loading.join()
        try:
            if self._loading is not None:
                self._loading.stop()
            self._start_sync()
        except Exception as e:
            self._start_failed(e)
        else:
            # what is here stays: no collection need look at it again
            gc.freeze()
            notify("READY=1\nSTATUS=Serving clients")
            log.info("ready, %.0f ms after the start", now_ms() - self.started)

    def _start_failed(self, e: Exception) -> None:
        if isinstance(e, StartError):
            self._fail(e)
        elif isinstance(e, OSError):
            self._fail(StartError(f"{e.filename or self.folder}: {e.strerror}", EXIT_DATA))
        else:
            log.error("the start failed", exc_info=e)
            self._fail(StartError(f"the start failed: {e!r}", 1))

    @property
    def sync(self) -> Service | None:
        """The replication.Service. Whoever asks for it in the main thread while it is about to
        start waits until it has."""
        if self._starting is not None and threading.current_thread() is threading.main_thread():
            self._finish_start()
        return self._sync

    def _open_log(self) -> None:
        found, config = self.recovered, self.config
        for truncation in found.truncations:
            log.warning("%s: a torn tail of %d bytes was cut off at offset %d (%s)",
                        truncation.path,
                        truncation.lost, truncation.offset, truncation.reason)
        if found.waiting:
            log.warning("%d operations wait for others that this log no longer has; peers may "
                        "still have them", found.waiting)
        if found.left_out:
            log.warning("%d records were left out, for the log no longer says whose they are; "
                        "peers may still have them", found.left_out)
        if found.ignored:
            log.warning("the newest checkpoint is not used: %s", found.ignored)
        self._unapplied = found.unapplied
        keys = sum(self.replica.keys(db)[0] for db in range(16))
        log.info("loaded %d keys from %s%d records, %.1f MB in %d segments, in %.2f s", keys,
                 f"{found.checkpoint.name} and " if found.checkpoint else "", found.records,
                 found.bytes / 1e6, found.segments, found.seconds)
        if not keys:
            self._offer_import()
        self._go_on(found)
        claim = None if self.identity.stored else lambda: store_identity(self.folder, self.identity)
        self.log = SegmentLog(self.folder, self.replica.id, self._describe, position=found.position,
                              unsynced=found.unsynced, unapplied=found.unapplied, claim=claim,
                              may_shorten=lambda: self.replica.makes_compact,
                              policy=config.appendfsync, max_segment_size=config.max_segment_size,
                              writer=self.writer)
        self._stops.append(self._close_log)
        self._bind_witness(found.position)
        self.log.start()
        self.retention = Retention(self.folder, self.log, config.replication_log_size,
                                   self._peers_logged)
        self.checkpoints = Checkpoints(self.folder, self.replica, self.log, self.retention,
                                       found.begun_with, self.engine.call_soon,
                                       self.engine.add_work)
        self._stops.append(self.checkpoints.stop)
        remove_strays(self.folder, found.stages)
        self._exchange = StateExchange(self.folder, self.replica, self.log, self.checkpoints,
                                       self.engine, lambda why: self._fail(StartError(why, 1)))

    # who this process is, beside those before it: see storage/witness.py

    def _find_witness(self, last: int) -> Witness | None:
        """last: the epoch of the process before."""
        self._seen: Sighting | None = None
        witness = open_witness(self.folder, self.identity.replica_id)
        if witness is not None:
            self._stops.append(lambda: (self.writer.testify(None), witness.close()))
            seen = witness.testimony()
            if is_next(seen, last) and self.identity.stored:
                self._seen = seen
                witness.move(self.identity.epoch)
            else:
                witness.release()
        return witness if self.identity.stored else None

    def _go_on(self, found: Recovered) -> None:
        """As the actor that the last process was, where that is proven."""
        seen = self._seen
        if seen is None:
            return
        made = self.replica.clock_ids().get(actor_id(self.replica.id, seen.actor_epoch), 0)
        if proves(seen, found.position, found.repaired, made):
            if made:
                self.replica.resume(seen.actor_epoch)
                log.info("all that epoch %d made is here: going on as the same", seen.actor_epoch)
        elif self._witness is not None:
            # before the log is longer than what it has seen
            self._witness.release()

    def _bind_witness(self, recovered: LogPosition | None) -> None:
        if self._witness is not None:
            own = self.replica.clock_ids().get(self.replica.actor, 0)
            self._witness.bind(self.folder, self.identity.epoch, self.replica.epoch, own,
                               max(recovered or (0, 0), self.writer.position()))
            self.writer.testify(self._witness.words)

    # where the page will not be there for the next process: see replication/keeping.py

    def _leave_testimony(self) -> None:
        """All is written that will be."""
        witness, how = self._witness, self.config.leave_with_peer
        own = self.replica.clock_ids().get(self.replica.actor, 0)
        if (self.failed or self._sync is None or self.executor.misconf or not own
                or not self.identity.stored or how == "no"
                or how == "auto" and witness is not None and lasts()):
            return
        secret = secrets.token_bytes(SECRET)
        if witness is not None:
            witness.release()
        try:
            url = self._sync.leave(
                secret, Sighting(self.identity.epoch, self.replica.epoch, own,
                                 self.writer.position()),
                lambda url: store_identity(self.folder, replace(self.identity,
                                                                left=Left(url, secret))))
        except OSError as e:
            log.info("no peer said that it keeps the proof that all is here: the next start is a "
                     "new actor (%s)", e)
        else:
            if url:
                log.info("%s keeps the proof that all is here", url)
            elif witness is not None:
                witness.renew()

    def _claim_testimony(self) -> None:
        left = self._last.left if self._last else None
        if self._seen is not None or left is None or not self.identity.stored:
            return

        def claim() -> None:
            import asyncio

            from crdtredis.replication import keeping
            from crdtredis.replication.runtime import Runtime
            from crdtredis.replication.service import settings_of

            runtime = Runtime(self.identity.replica_id, settings_of(self.config))
            seen = asyncio.run(keeping.claim(left, runtime, self.tls[1]))
            if is_next(seen, self._last.epoch):
                self._seen = seen

        self._claiming = threading.Thread(target=claim, name="claim", daemon=True)
        self._claiming.start()

    def _offer_import(self) -> None:
        from crdtredis.moving.legacy import store_path

        if store := store_path(self.folder):
            log.info("%s is the JSON store of an earlier server; `crdt-redis import %s --to "
                     "127.0.0.1:%d` takes it in", store, store, self.config.server_port)

    def _peers_logged(self) -> dict[str, Clock]:
        service = self._sync
        return {"a peer": {}} if service is None else service.logged()      # not known yet

    def _reply_loading(self) -> None:
        from crdtredis.http.serving import Loading

        self._loading = Loading(self._http, self.tls[0])
        self._stops.append(self._loading.stop)

    def _describe(self) -> tuple[list[tuple[int, str, int]], dict[int, int]]:
        return self.replica.declared(), self.replica.clock_ids()

    def _close_log(self) -> None:
        failure = self.log.close()
        if failure:
            self.failed = StartError(f"{failure}: what was written since then may be lost",
                                     EXIT_DATA)
            log.error("%s", self.failed)

    def _log_tick(self) -> None:
        if self.log is not None:
            self.log.tick()

    # ---- replication -----------------------------------------------------------------------------

    def _start_sync(self) -> None:
        from crdtredis.moving.mirror import Mirror
        from crdtredis.replication.agreement import Agreement
        from crdtredis.replication.service import Service, local_replica_of, settings_of

        def renew(above: int) -> None:
            if self.engine.joining:
                raise OSError(errno.EBUSY, "a full sync is being joined")
            self.identity = newer_epoch(self.folder, self.identity, above, now_ms())
            self.replica.new_epoch(self.identity.epoch)
            self._bind_witness(None)
            log.warning("this replica's id was met under another epoch: going on as epoch %d",
                        self.identity.epoch)

        async def serve(service: Service) -> Any:
            from crdtredis.http import serving
            from crdtredis.http.app import application, unwanted

            served = await serving.serve(application(service, self), self._http, self.http_limit,
                                         self.tls[0], unwanted=functools.partial(unwanted, self))
            self._http_tls = served.renew_tls
            served.renew_tls(self.tls[0])               # it may have changed meanwhile
            return served

        config = self.config
        local = local_replica_of(self.replica, renew, lambda: not self.executor.misconf,
                                 self.executor.give)
        # clients may have written since, even in this iteration
        local.clock = self._logged
        service = Service(local, self.bridge, self._call_soon,
                      LogReader(self.folder, self.writer.position, first=lambda: self.log.first),
                      settings_of(config),
                      config.peer_urls, serve if self._http else None, self.tls[1],
                      [s.getsockname()[:2] for s in self._http], self._exchange,
                      "https" if config.enable_tls else "http", trusted(config))
        service.on_meeting = self._keep_members
        self.agreement = Agreement(self.replica, self.folder, service, self._make_durable)
        service.runtime.hear_ended = lambda told: self.engine.call_soon(
            functools.partial(self._hear_ended, told))
        # whoever was removed is to be refused from the first request on
        self._members = self.replica.system_hash(MEMBERS)
        service.take_members(self._members)
        self.mirror = Mirror(self.replica, service.engine.call)
        self.mirror.configure(self._mirrored())
        service.beside.append(self.mirror.run)
        if self.tracing is not None:
            service.beside.append(Tracing(self.tracing, service, self.executor.slowlog,
                                          lambda: self.config.ms("tracing_interval") / 1000).run)
        service.start()
        self._sync = service
        self.engine.on_system_change = self._keep_members
        self._stops.append(service.stop)
        if self._http:
            log.info("HTTP: %s", ", ".join(show(*s.getsockname()[:2]) for s in self._http))

    def _mirrored(self) -> Target | None:
        from crdtredis.moving.mirror import Target

        c = self.config
        return (Target(c.redis_addr, c.redis_db, c.redis_user, c.redis_password) if c.redis_addr
                else None)

    def _call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        self.engine.call_soon(functools.partial(function, *args) if args else function)

    # ---- now and then ----------------------------------------------------------------------------

    def _each_second(self) -> None:
        if self.log is not None:
            if self._witness is not None:
                self._witness.beat()
            self._count_actors()
            self._watch_disk()
            if self._unapplied:
                self._unapplied = lacking(self.replica.clock_ids(), self._unapplied)
            self._watch_clock()
            self._agree()
            if self.checkpoints.due(self.config.compaction_threshold):
                self.checkpoints.begin()
            if self.executor.misconf:
                self.retention.relieve()
            waiting = self.replica.pending()
            self._waiting = self._waiting + 1 if waiting["ops"] > waiting["held"] else 0
        self._share_eviction()

    def _share_eviction(self) -> None:
        """Among the replicas that are connected and keep up, which order themselves alike."""
        names = {self.replica.id}
        if self.sync is not None and self.config.max_memory:
            names |= {p.replica for p in self.sync.peers()
                      if p.state == "up" and p.lag_ms < EVICTION_LAG_MS}
        self.replica.share_eviction(len(names), sorted(names).index(self.replica.id))

    def _watch_disk(self) -> None:
        """Before writes are refused for it."""
        try:
            space = os.statvfs(self.folder)
        except OSError:                 # the next write says it
            return
        self.disk_free = space.f_bavail * space.f_frsize
        # a little more must be free before that is over: it goes up and down with every segment
        low = self.disk_free < self.config.disk_free_warning * (1.05 if self.disk_low else 1.0)
        if low != self.disk_low:
            self.disk_low = low
            if low:
                log.warning("%s", self._disk_warning())
            else:
                log.info("%d MB are free again at %s", self.disk_free >> 20, self.folder)

    def _disk_warning(self) -> str:
        return (f"{self.disk_free >> 20} MB are free at {self.folder}, less than "
                f"disk_free_warning ({self.config.disk_free_warning >> 20} MB): where nothing is "
                "left, writes are refused")

    def _count_actors(self) -> None:
        actors = self.replica.stats()["actors"]
        if actors >= self._actors_told:
            self._actors_told = actors + ACTORS_MANY // 8
            log.warning("%s", many_actors(actors))

    def _keep_members(self) -> None:
        """Tells the sync thread who belongs to the cluster, and writes down what it finds there is
        to say of that. Called where either may have changed."""
        if self._sync is None:
            return
        records = self.replica.system_hash(MEMBERS)
        if records != self._members:
            self._members = records
            self._sync.take_members(records)
        if not (self.executor.misconf or self.replica.runs_ahead or self.engine.joining):
            records = self._sync.records_to_write(now_ms())
            if records:
                self.replica.system_set(MEMBERS, records)

    def _hear_ended(self, told: bytes) -> None:
        self.agreement.hear(told)
        self._agree()

    def _agree(self) -> None:
        """On processes that have ended, and on what has to be remembered for whom."""
        if self._sync is not None:
            known = (self._sync.replicas_there(), self._sync.knows_patches(not self._logged),
                     self._sync.knows_compact(), self.replica.stats()["actors"])
            if known != self._known:
                self._known = known
                self.replica.set_members(*known[:3])
            self.replica.set_apart(self._sync.is_apart())
        if (self.agreement is not None and not self.engine.joining and not self.executor.misconf
                and self.agreement.step()):
            self.engine.next_collect = 0

    def _make_durable(self) -> bool:
        position = self.writer.position()
        self.log.sync(all_policies=True)
        return self.log.durable_to(position)

    def _watch_clock(self) -> None:
        """Tells the log when stamps begin and cease to lie too far ahead of the clock: ours,
        and those of what is held."""
        found = held(self.replica)
        if self.replica.runs_ahead:
            found[self.replica.id] = ahead_of_clock(self.replica)
        for name in found.keys() - self._ahead:
            (log.error if name == self.replica.id else log.warning)("%s", found[name])
        for name in self._ahead - found.keys():
            log.info("stamps of replica %s are no longer too far ahead of the clock here", name)
        self._ahead = set(found)

    def health(self) -> tuple[list[str], list[str]]:
        """(reasons why this server should not be given clients, warnings); none when all is well.
        In the engine thread. That others are stamped ahead is no reason, for whose clock is wrong
        cannot be told from here, and all who hold them back would be out of service."""
        reasons: list[str] = []
        lost: list[str] = []
        if self.executor.loading:
            reasons.append("loading the log")
        if self.executor.misconf:
            reasons.append(self.executor.misconf)
        if self.log is not None and (missing := self.log.status().missing):
            reasons.append(missing)
        if unapplied := self._unapplied:
            text = (f"acknowledged operations of {len(unapplied)} actors in the repaired log wait "
                    "for others that it lost")
            if self.sync is not None and any(p.state != "self" for p in self.sync.peers()):
                reasons.append(f"{text}: start the peers, which may have them")
            else:
                # nothing will change that: no reason to keep clients away for ever
                lost.append(f"{text}, and there is no peer that could have them")
        if self.replica.runs_ahead:
            reasons.append(ahead_of_clock(self.replica))
        if self.sync is not None:
            reasons += self.sync.registry.faults()
            if self.agreement.ended.parted():
                reasons.append("data_dir holds operations of processes that have ended which the "
                               "cluster has agreed not to take any more, and which later ones "
                               "depend on: start it with an empty data_dir and another "
                               "replica_id, and CRDT.PEER REMOVE this one")
            lost += [v.text for v in self.sync.verifier.differences()]
            lost += self.agreement.warnings()
            if error := self.sync.full_syncs().error:
                lost.append(f"the last full sync failed and is tried again: {error}")
        warnings = [*lost, *held(self.replica).values(), *ending(self.certificate_ends)]
        if self.checkpoints is not None and (error := self.checkpoints.status().error):
            warnings.append(f"the last checkpoint failed ({error}): a start will take longer")
        if self.retention is not None:
            warnings += self._outrun()
            if error := self.retention.status().error:
                warnings.append(error)
        waiting = self.replica.pending()
        if self._waiting >= WAITING_LONG and waiting["ops"] > waiting["held"]:
            warnings.append(f"{waiting['ops'] - waiting['held']} received operations have waited "
                            f"for others for {self._waiting} s")
        stats = self.replica.stats()
        used = stats["memory"]
        if (self.config.max_memory and self.config.maxmemory_policy == "noeviction"
                and used >= MEMORY_LOW * self.config.max_memory):
            warnings.append(f"used memory is {100 * used // self.config.max_memory}% of "
                            "max_memory: "
                            "at 100% commands that need more are refused")
        if self.disk_low:
            warnings.append(self._disk_warning())
        if self.mirror is not None:
            warnings += self.mirror.warnings()
        if self.log is not None:
            warnings += follower_warnings(self.followers.lags(self.replica.now,
                                                              self.log.bytes_since))
        if stats["actors"] >= ACTORS_MANY:
            warnings.append(many_actors(stats["actors"]))
        return reasons, warnings

    def _outrun(self) -> list[str]:
        """The peers for whom the log was not kept any longer, but those whose own line says it."""
        told = {p.replica for p in self.sync.peers() if p.state == "needs full sync"} if (
            self.sync is not None) else set()
        return [f"the log no longer holds operations that {name} may lack: it has been away for "
                "more than replication_log_size, and needs a full sync"
                for name in self.retention.given_up() if name not in told]

    # ---- settings --------------------------------------------------------------------------------

    def _changed(self, name: str, value: Any) -> None:
        """Config's observer: in the main thread at once, else in its next iteration."""
        if name == "requirepass" and self.executor.users.is_shared(b"default"):
            raise ValueError("the default user is replicated: ACL SETUSER sets its password")
        if name in TLS or name in TLS_OF_PEERS:
            self._renew_tls()
        elif name == "tls_port":
            self._move_tls(value)                       # changed by clients: in the main thread
        elif threading.current_thread() is threading.main_thread():
            self.apply(name, value)
        else:
            self.engine.call_soon(functools.partial(self.apply, name, value))

    def _renew_tls(self) -> None:
        """For those who connect from now on. From any thread. ValueError where a file will not do:
        then nothing has changed."""
        try:
            http = http_tls(self.config)
            peers = self._wanted_of_peers()
            clients = clients_tls(self.config) if self.config.tls_port else None
        except StartError as e:
            raise ValueError(str(e)) from None
        self.tls, self._peer_certificates = http, peers
        self.certificate_ends = ends(self.config)
        if self._http_tls is not None:
            self._http_tls(http[0])
        if self._sync is not None:
            self._sync.renew_tls(http[1], trusted(self.config))
        if threading.current_thread() is threading.main_thread():
            self.engine.tls = clients
        else:
            self.engine.call_soon(functools.partial(setattr, self.engine, "tls", clients))

    def _wanted_of_peers(self) -> PeerCertificates | None:
        return PeerCertificates(self.config) if self.config.tls_auth_peers != "no" else None

    def refuses_peer(self, connection: ssl.SSLObject | None) -> str:
        wanted = self._peer_certificates
        return wanted.refuses(connection) if wanted is not None else ""

    def apply(self, name: str, value: Any) -> None:
        """Bring one setting into force."""
        executor, engine, config = self.executor, self.engine, self.config
        if name == "requirepass":
            executor.requirepass = value.encode() or None
        elif name == "acl_pubsub_default":
            executor.users.all_channels = value == "allchannels"
        elif name == "replicate_acl":
            self._share_users(value)
        elif name == "acllog_max_len":
            executor.users.limit_log(value)
        elif name == "max_connections":
            engine.max_clients = value
        elif name in ("timeout", "tcp_keepalive"):
            setattr(engine, name, int(config.seconds(name)))
        elif name == "tls_handshake_timeout":
            engine.handshake_timeout = config.ms(name)
        elif name == "tls_auth_clients_user":
            engine.on_certificate = executor.users.login_by_certificate if value == "CN" else None
        elif name in TLS or name in TLS_OF_PEERS or name == "tls_port":
            pass                                        # see _renew_tls, _move_tls
        elif name in ("max_memory", "maxmemory_clients"):
            executor.max_memory = config.max_memory
            most = config.maxmemory_clients
            if most < 0:
                most = config.max_memory * -most // 100
            # with less, nobody could say anything
            engine.clients_most = max(most, CLIENTS_LEAST) if most else 0
        elif name in EVICTION:
            executor.set_eviction(*(config.values[n] for n in EVICTION))
        elif name == "sync_interval":
            executor.consumer_patience = max(config.ms(name), 200)
        elif name == "gc_interval":
            engine.collect_every, engine.next_collect = config.ms(name), 0
        elif name in ("hz", "protected_mode"):
            setattr(engine, name, value)
        elif name == "client_query_buffer_limit":
            engine.query_limit = value
        elif name == "proto_max_bulk_len":
            engine.max_bulk = value
        elif name == "client_output_buffer_limit":
            limits = {v[0]: v[1:] for v in value}
            (engine.output_hard, engine.output_soft,
             engine.output_soft_seconds) = limits["normal"]
            # what clients of MONITOR do not read is bounded in any case
            engine.monitor_hard = limits["normal"][0] or limits["replica"][0]
            (engine.pubsub_hard, engine.pubsub_soft,
             engine.pubsub_soft_seconds) = limits["pubsub"]
        elif name == "notify_keyspace_events":
            executor.notify = value
        elif name == "pubsub_local":
            executor.set_pubsub_local([p.encode("utf-8", "surrogateescape") for p in value])
        elif name == "local_keys":
            self.replica.local_keys = [p.encode("utf-8", "surrogateescape") for p in value]
        elif name in ("busy_reply_threshold", "script_memory", "tracking_table_max_keys",
                      "latency_tracking"):
            setattr(executor, name, value)
        elif name.startswith(("slowlog_", "commandlog_")):
            executor.set_commandlogs(config)
        elif name == "latency_monitor_threshold":
            executor.set_latency_threshold(value)
        elif name == "moving_endpoint":
            engine.moving_to = value.encode()
        elif name in ENCODING_LIMITS:
            executor.set_encoding_limits(**{n: config.values[n] for n in ENCODING_LIMITS})
        elif name == "max_clock_skew":
            self.replica.max_clock_skew = config.ms(name)
            if self.sync is not None:
                self.sync.configure(config)
        elif name == "accept_stamps_until":
            self.replica.accepted = value * 1000
        elif name in ("redis_addr", "redis_db", "redis_user", "redis_password"):
            if self.mirror is not None:
                self.mirror.configure(self._mirrored())
        elif name == "log_level":
            logs.set_level(value)
        elif name == "audit_log":
            audit.enable(value)
        elif name == "log_format":
            logs.set_style(value)
        elif name == "replication_log_size":
            if self.retention is not None:
                self.retention.most = value
        elif name in ("appendfsync", "max_segment_size"):
            if self.log is not None:
                self.log.configure(policy=config.appendfsync,
                                   max_segment_size=config.max_segment_size)
        elif self.sync is not None:
            self.sync.configure(config)


# ---- helpers -------------------------------------------------------------------------------------


def ahead_of_clock(replica: Replica) -> str:
    """Why writes are refused, and what an operator may do, where replica.runs_ahead."""
    until = replica.newest_stamp >> 16
    return (f"stamps here are {(until - replica.now) / 1000:.0f} s ahead of the clock, more "
            "than max_clock_skew: writes are refused. This "
            "clock, or that of a replica whose operations were accepted, has been wrong. When all "
            "clocks are right, wait until they get "
            f"there, or say CONFIG SET accept-stamps-until {until // 1000 + 1} at every replica")


def held(replica: Replica) -> dict[str, str]:
    """{replica id: what to say of it} of those whose ops wait here because they are stamped too far
    ahead."""
    ops: dict[str, tuple[int, int]] = {}
    for name, _, n, ms in replica.held():
        before, latest = ops.get(name, (0, 0))
        ops[name] = before + n, max(latest, ms)
    return {name:
                  f"operations of replica {name} are held ({n}): they are stamped "
                  f"{(ms - replica.now) / 1000:.0f} s ahead of the clock here, more "
                  "than max_clock_skew. If that replica's clock is right, its own /health says how "
                  "to go on; if not, it wants to be set"
            for name, (n, ms) in ops.items()}


def many_actors(n: int) -> str:
    """Each process that made an operation, and did not go on with the one before it, stays in the
    clocks, and there is room for 65535."""
    return (f"the replicas of this cluster have made operations as {n} actors: 65535 are the end. "
            "Give processes a RUNTIME_DIRECTORY on a tmpfs that outlives them (operation.md)")


def how_to_connect(config: Config) -> str:
    """The redis-cli command that reaches this server."""
    words = ["redis-cli"]
    port = config.server_port or config.tls_port
    if port:
        words += [] if config.server_port else ["--tls"]
        host = config.bind[0].lstrip("-")
        words += ["-h", host] if host not in ("127.0.0.1", "localhost", "*", "0.0.0.0") else []
        words += ["-p", str(port)] if port != 6379 else []
    else:
        words += ["-s", config.unixsocket]
    return " ".join(words + (["--askpass"] if config.requirepass else []))


def notify(state: str) -> None:
    """Tell the service manager, where one asks to be told (systemd's Type=notify; sd_notify(3) has
    the words). It may have gone meanwhile."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] in ("/", "@"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s, contextlib.suppress(OSError):
            s.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


def is_watched() -> bool:
    """Whether the service manager ends this process when it is no longer told of its life
    (systemd's WatchdogSec=, which must be some seconds; sd_watchdog_enabled(3))."""
    of = os.environ.get("WATCHDOG_PID", "")
    return "WATCHDOG_USEC" in os.environ and of in ("", str(os.getpid()))


def http_limit(config: Config) -> int:
    """HTTP connections at a time; where few descriptors are allowed, a quarter of them. 0: HTTP is
    off."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = (config.http_max_connections if files == resource.RLIM_INFINITY
            else min(config.http_max_connections, max(files // 4, 8)))
    return most if config.http_port else 0


def start_logging(config: Config) -> logs.Output:
    try:
        output = logs.start(config.log_level, config.log_file, config.log_format)
        sys.unraisablehook = logs.unraisable
        return output
    except OSError as e:
        raise StartError(f"log_file ({config.origin('log_file')}): {config.log_file} cannot be "
                         f"opened: {e.strerror}", EXIT_CONFIG) from None


def open_folder(path: str) -> Path:
    """The data directory, made when missing."""
    folder = Path(path).absolute()
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError as e:
        problem = ("is no directory" if isinstance(e, FileExistsError)
                   else f"cannot be made: {e.strerror}")
        raise StartError(f"data_dir {folder} {problem}", EXIT_DATA) from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise StartError(f"data_dir {folder} cannot be read and written: {os.strerror(13)}",
                         EXIT_DATA)
    mode = state.st_mode & 0o777
    # Where it is another's (a volume of Kubernetes with fsGroup) it is ours by its group.
    if mode & (0o077 if state.st_uid == os.geteuid() else 0o007):
        log.warning("data_dir %s is open to other users of this machine (mode %o): chmod 700 it",
                    folder, mode)
    return folder
