"""A whole cluster in one process under one seed: simulated time, network and disk around real
Replicas and Executors.

What is real: the kernel, the commands, op and batch bytes, cutting batches by clock, recovery from
the log, the rule by which a replica takes a newer epoch, that a replica whose timestamps run ahead
of its clock takes no writes. What is simulated is only what is outside: wall clocks (skewed, each
its own way, and set now and then), operators (who sometimes accept stamps that are ahead), links
(cut in any shape and direction, losing, doubling, reordering, slow), disks (a power loss takes any
part of what was not synced; a backup can come back; a replica moves to another machine, over a
copy of its disk or over what it left there earlier), what a machine remembers of the process that
ended on it (storage/witness.py), or a peer (replication/keeping.py), and when anything happens.

How ops travel differs by schedule: replicas push their own ops, push all they get (relays), or push
nothing; and now and then one asks another for what it lacks. Lost messages are not repeated;
exchanges make up for them, and for ops that found a causal buffer full: in some schedules it holds
a few ops only. In some, replicas have keys that stay at home, by patterns that differ and change.
And in some, replicas give each other their states (syncs.py): then a log begins
above what it was given, and what only states hold is had by further ones.

While it runs, now and then a command or transaction is executed beside a replica without history
that holds what clients see here: reply and outcome must be the same (views.py, Shadow), whatever
mixture of concurrent writes, hidden types and positions lies underneath. In some schedules replicas
evict keys, by all policies.

What is checked (`World.finish`), after links are healed and everybody is up:
- digests are equal, and so is what clients read of every type (views.py);
- visible keys are what the oracle reads off the bare ops found in the logs (oracle.py): so what was
  deleted stays deleted, and nothing is counted twice or lost; and so it is with the system's
  database, which no command reaches. Who looks there only when Replica.system_changes has grown
  misses nothing;
- every acknowledged op is there, unless a disk that held it lost it, which `appendfsync always`
  prevents;
- a replica recovered from its log has the digest it had before, and so has one that is killed what
  stays at home;
- what stays at home is in no op that others get, and in no state;
- no dot ever stood for two ops;
- after FLUSHALL, and after everybody heard from everybody: no key, no leftover, no op that waits,
  no tombstone but of processes that have ended and of which somebody told of an op that all have
  lost; and when all is freed, memory is back where it was.

Replay one schedule:  python -m tests.simulation.world --seed 4711 --verbose
Many:                 python -m tests.simulation.world --schedules 100000
"""
from __future__ import annotations

import argparse
import gc
import random
import sys
import time

from crdtredis._core import (Replica, StateReader, StateWriter, batch_ranges, probe_members,
                             probe_memory, probe_pack, probe_seal,
                             shared_batch, slice_batch)
from crdtredis._engine import Executor
from crdtredis.clocks import actor_id, observed
from crdtredis.errors import DamagedBatch, UndeclaredActor, CausalBufferFull
from crdtredis.replication import crdtredis_pb2 as pb, plan
from crdtredis.replication.ended import Ended
from crdtredis.replication.keeping import Keeper, as_testimony
from crdtredis.replication.replication_pb2 import Keep
from crdtredis.replication.wire import Actor
from crdtredis.commands.functions import LIBRARIES
from crdtredis.commands.scripting import SCRIPTS
from crdtredis.members import MEMBERS
from crdtredis.settings import POLICIES
from crdtredis.storage.identity import SECRET
from crdtredis.storage.witness import Sighting, is_next, proves
from tests.simulation.commands import DATABASES, KEYS, MEANINGLESS, NAMES, Clients
from tests.simulation.oracle import Ops, told
from tests.simulation.syncs import Joined, Sync
from tests.simulation.views import (Client, Shadow, can_be_shadowed, has_groups, shared,
                                    view)

START = 1_700_000_000_000                 # ms since 1970 when the world begins
EVERY_OP = (1 << 48) - 1
FIRST_HOME = 17                           # of the databases of keys that stay at home
SHADOWED = 0.1                            # of all commands
GRACE = 2000                              # ms of expiry_grace
SYSTEM_DB = 16
SYSTEM = [MEMBERS, LIBRARIES, SCRIPTS]    # hashes there
ROOMS = [64 << 20] * 3 + [20_000, 3000, 800]         # bytes of ops that may wait
FAULTS = (AssertionError, DamagedBatch, UndeclaredActor)


class Disk:
    """The log of one node: records (batches), of which the first `synced` survive a power loss. And
    its identity."""

    def __init__(self):
        self.records: list[bytes] = []
        self.synced = 0
        self.epoch = 0                    # identity.json: durable before the epoch is used
        self.backup: tuple | None = None
        self.secret: bytes | None = None  # by which a peer gives back what was left with it
        self.checkpoint: tuple | None = None      # (messages, records that stood before its walk)
        self.ended = b""                  # durable before it is told

    def copied(self) -> Disk:
        other = Disk()
        other.__dict__ |= self.__dict__ | {"records": list(self.records)}
        return other

    def back_up(self) -> None:
        self.backup = (self.records[:self.synced], self.epoch, self.checkpoint, self.secret,
                       self.ended)

    def append(self, record: bytes, sync: bool) -> None:
        self.records.append(record)
        if sync:
            self.synced = len(self.records)

    def batches(self, begin: int = 0) -> list[bytes]:
        """What others may have of it."""
        return [shared_batch(r) for r in self.records[begin:] if not isinstance(r, Joined)]

    def dots(self) -> set:
        return {(actor, seq) for r in self.batches() for actor, first,
                last in batch_ranges(r) for seq in range(first, last + 1)}


class Node:
    """A replica that can crash: its process (None while down), its disk, its clock on the wall."""

    def __init__(self, world: World, name: str, skew: int):
        self.world, self.name, self.disk = world, name, Disk()
        self.skew = skew
        self.accepted = 0                 # settings
        self.patterns: list[bytes] = []
        self.killed_with: dict | None = None      # what stayed at home as it was killed
        self.witness: Sighting | None = None     # of this machine, until its power goes
        self.keeper = Keeper()                    # of this process
        self.elsewhere: tuple = (None, None)      # disk and witness of another machine
        self.start()

    @property
    def up(self) -> bool:
        return self.replica is not None

    def now(self) -> int:
        return self.world.now + self.skew

    def connected(self, peer: Node) -> bool:
        cut = self.world.cut
        return peer.up and (self.name, peer.name) not in cut and (peer.name, self.name) not in cut

    # ---- process ---------------------------------------------------------------------------------
    def start(self) -> None:
        seen, epoch, self.keeper = self.witness, self.disk.epoch, Keeper()
        if seen is None and self.disk.secret is not None:
            found = [n.keeper.claim(self.name, self.disk.secret) for n in self.world.nodes
                     if n is not self and self.connected(n)]
            seen = next((s for s in found if s is not None), None)
            self.world.given += seen is not None
        self.disk.secret = None
        self.disk.epoch = self.epoch_above(self.disk.epoch)
        self.replica = Replica(self.name, self.disk.epoch, seed=self.world.rng.randrange(1 << 30),
                               expiry_grace=GRACE,
                               pending_limit=self.world.room)
        self.replica.now = self.now()
        self.replica.accepted = self.accepted
        self.replica.local_keys = self.patterns
        self.replica.set_members(set(self.world.names), self.world.patches,
                                 self.world.forms.random() < 0.6)
        # (StateWriter, messages so far, records that stood before), while one is under way
        self.walk: tuple | None = None
        self.sync: Sync | None = None     # another's state that is to be joined here
        self.recover()
        if is_next(seen, epoch):
            made = self.replica.clock_ids().get(actor_id(self.name, seen.actor_epoch), 0)
            if proves(seen, (1, len(self.disk.records)), False, made) and made:
                self.replica.resume(seen.actor_epoch)
                self.world.resumed += 1
        self.declare()
        self.ended = Ended(self.name, self.world.ended_dice.getrandbits(60) | 1, self.disk.ended)
        self.keep_ended()
        self.executor = Executor(self.replica)
        self.sessions = [self.executor.session(2) for _ in range(2)]
        self.reader = Client(self.replica, self.executor)
        self.known = self.replica.system_changes, self.system()
        assert self.killed_with in (None, self.home()), (
            f"at home was {self.killed_with}, and is {self.home()}")
        self.killed_with = None
        self.world.say(f"{self.name} starts, epoch {self.replica.epoch}, clock "
                       f"{self.replica.clock()}")

    def recover(self) -> None:
        """From the checkpoint, if there is one, and every record since its walk began."""
        messages, begin = self.disk.checkpoint or ([], 0)
        self.replica.recovering = True
        reader = StateReader(self.replica)
        for message in messages:
            reader.take(message)
        for record in self.disk.records[begin:]:
            if isinstance(record, Joined):
                record.join(self.replica)
            else:
                self.replica.receive(record)
        self.replica.recovering = False
        assert reader.over or not messages
        assert observed(self.replica.clock_ids(home=True), reader.clock()), (
            "the log ends within the walk")

    def home(self) -> dict:
        """What stays at home here, by place, whether it has expired or not."""
        found = {}
        self.replica.now = 0
        for db in range(DATABASES):
            for k in KEYS:
                state = self.replica.inspect(FIRST_HOME + db, k)
                if state is not None and state["type"] != "none":
                    found[db, k] = (state["writes"], state["deadline"],
                                    state["type"] != "string"
                                    and probe_members(self.replica, FIRST_HOME + db, k),
                                    [c for c in state["counter_entries"] if not c["tombstone"]])
        self.replica.now = self.now()
        return found

    def set_patterns(self) -> None:
        """An operator changes his mind."""
        self.patterns = [k for k in KEYS if self.world.home_dice.random() < 0.4]
        if self.up:
            self.replica.local_keys = self.patterns

    def hides(self) -> bool:
        """Is there a key at home beside a shared one of its name? Clients that remove it see that,
        as they would see it nowhere else."""
        return any((self.replica.inspect(db, k) or {}).get("hides") for db in range(DATABASES)
                   for k in KEYS)

    @property
    def joining(self) -> bool:
        return self.up and self.replica.joining

    def checkpoint(self) -> None:
        """Begins one, or goes on with it a little. It counts when the log is on disk up to its
        end."""
        dice = self.world.dice
        if self.walk is None:
            self.walk = StateWriter(self.replica, home=True), [], len(self.disk.records)
        walk, messages, begin = self.walk
        for _ in range(dice.choice([1, 1, 3, 50])):
            record = walk.next(dice.choice([1, 1, 200, 64 << 10]))
            if not record:
                self.walk = None
                self.disk.synced = len(self.disk.records)
                self.disk.checkpoint = messages, begin
                self.world.say(f"{self.name} has a checkpoint of {len(messages)} messages")
                return
            messages.append(record[8:])

    def epoch_above(self, last: int) -> int:
        """As storage/identity.py chooses it, with a chance that the seed decides."""
        return self.now() if self.now() > last else last + 1 + self.world.rng.randrange(1 << 20)

    def actors(self) -> list:
        """All known here but this process's own, where it goes on as another."""
        return [a for a in self.replica.actors()
                if a[3] or a[1] != self.name or a[0] == self.replica.actor
                or a[2] != self.disk.epoch]

    def declare(self) -> None:
        """As the head of a segment does: every actor known here."""
        actors = [pb.Actor(id=i, replica=r, epoch=e) for i, r, e, _ in self.actors()]
        self.disk.append(pb.Batch(actors=actors).SerializeToString(), True)
        self.testify()

    def testify(self) -> None:
        self.witness = Sighting(self.disk.epoch, self.replica.epoch, self.made(),
                                 (1, len(self.disk.records)))

    def accept(self, ms: int) -> None:
        """An operator's word."""
        self.accepted = max(self.accepted, ms)
        if self.up:
            self.replica.accepted = self.accepted

    def stop(self, power: bool) -> None:
        disk = self.disk
        self.killed_with = self.home() if self.up and not power else None
        self.replica = self.executor = self.sessions = self.reader = None
        self.walk = self.sync = None
        if power:
            self.witness = None
        if power and disk.synced < len(disk.records):
            before = disk.dots()
            del disk.records[self.world.rng.randint(disk.synced, len(disk.records)):]
            self.world.lost |= before - disk.dots()
        self.world.say(f"{self.name} {'loses power' if power else 'is killed'}, "
                       f"{len(disk.records)} records left")

    def leave(self, peer: Node) -> None:
        """An orderly stop, before which a peer is told what the machine would remember."""
        dice = self.world.leave_dice
        self.disk.synced, self.disk.secret = len(self.disk.records), dice.randbytes(SECRET)
        seen, self.witness = self.witness, None
        if self.world.backups and dice.random() < 0.5:
            self.disk.back_up()
        if dice.random() < 0.9:
            peer.keeper.keep(self.name, Keep(secret=self.disk.secret,
                                              testimony=as_testimony(seen)))
        self.stop(False)

    def restore(self) -> None:
        """An older copy of the data directory is put back."""
        disk, before = self.disk, self.disk.dots()
        records, disk.epoch, disk.checkpoint, disk.secret, disk.ended = disk.backup
        self.killed_with = None
        disk.records, disk.synced = list(records), len(records)
        self.world.lost |= before - disk.dots()
        self.world.say(f"{self.name} is restored from a backup of {len(records)} records")

    def move(self) -> None:
        """To another machine, with a copy of the disk, or without: what was there before then."""
        self.stop(self.world.move_dice.random() < 0.3)
        self.killed_with, before = None, self.disk.dots()
        disk, witness = self.elsewhere
        self.elsewhere = self.disk, self.witness
        copied = disk is None or self.world.move_dice.random() < 0.6
        self.disk, self.witness = self.disk.copied() if copied else disk, witness
        self.world.lost |= before - self.disk.dots()
        self.world.say(f"{self.name} moves, {'with' if copied else 'without'} its disk")

    # ---- iterations ------------------------------------------------------------------------------
    def made(self) -> int:
        return self.replica.clock_ids().get(self.replica.actor, 0)

    def execute(self, session: int, *argv) -> bytes:
        argv = [a if isinstance(a, bytes) else str(a).encode() for a in argv]
        self.replica.now = self.now()
        made = self.made()
        reply = self.executor.execute(self.sessions[session], argv)
        assert argv[0] != b"EVAL" or self.made() <= made + 1, "a script is one op"
        if self.world.verbose:
            self.world.say(f"{self.name}.{session} {b' '.join(argv)!r} -> {reply!r}")
        assert not reply.startswith(MEANINGLESS), f"{argv} is no command: {reply}"
        return reply

    def serve(self, session: int, commands: list[tuple]) -> None:
        """A command or a transaction of a client, now and then beside a replica without history,
        which must do the same."""
        self.replica.now = self.now()
        if (self.world.rng.random() >= SHADOWED or not can_be_shadowed(commands)
            or self.replica.runs_ahead or self.hides() or has_groups(view(self.reader))):
            for argv in commands:
                self.execute(session, *argv)
            return
        shadow = Shadow(self.now(), view(self.reader), self.sessions[session].db)
        for argv in commands:
            shadow.compare(argv, self.execute(session, *argv))
        shadow.compare_views(commands, view(self.reader))

    def end_iteration(self) -> None:
        """Log first, then acknowledge and push."""
        batch = self.replica.take_ops()
        if not batch:
            return
        self.disk.append(batch, self.world.always)
        self.testify()
        batch = shared_batch(batch)
        self.world.remember(batch)
        self.world.acknowledged[self.replica.actor] = self.made()
        if self.world.style == "own":
            batch = slice_batch(batch, {a: EVERY_OP for a, r, _, _ in self.replica.actors()
                                        if r != self.name})
        if batch and self.world.style != "none":
            for peer in self.world.nodes:
                if peer is not self:
                    self.send(peer, "ops", [batch])

    def tick(self) -> None:
        self.replica.now = self.now()
        self.replica.tick()
        self.end_iteration()

    def mend(self) -> None:
        """What late ops have touched."""
        self.replica.now = self.now()
        before = self.replica.patches[3]
        self.replica.mend()
        self.world.mended += self.replica.patches[3] - before
        self.end_iteration()

    def evict(self) -> None:
        """As at max_memory, by some policy, of what falls to this one of all replicas."""
        dice, replica = self.world.evict_dice, self.replica
        replica.now = self.now()
        policy = dice.choice(POLICIES)
        replica.set_eviction(policy, samples=dice.choice([1, 5, 16]))
        replica.share_eviction(len(self.world.nodes), self.world.nodes.index(self))
        before, lasting = self.live()
        n = replica.evict(dice.choice([1, 1, 3]))
        assert self.live()[0] == before - n, f"{n} evicted of {before}, {self.live()[0]} are left"
        assert not policy.startswith("volatile") or self.live()[1] == lasting, (
            f"{policy} evicted a key without a deadline")
        self.end_iteration()

    def live(self) -> tuple[int, int]:
        """How many keys there are, and how many without a deadline."""
        live = sum(self.replica.keys(db)[0] for db in range(DATABASES))
        return live, live - sum(self.replica.deadlines(db)[0] for db in range(DATABASES))

    # ---- what the cluster knows of itself --------------------------------------------------------
    def system(self) -> dict:
        return {key: self.replica.system_hash(key) for key in SYSTEM}

    def note(self) -> None:
        """Some fields of one of the hashes are set or removed."""
        dice = self.world.system_dice
        self.replica.now = self.now()
        if not self.replica.runs_ahead:
            values = [None, b"1", b"text", b"%d" % self.now(), b"x" * 3000]
            self.replica.system_set(dice.choice(SYSTEM), {
                name.encode(): dice.choice(values) for name in dice.sample(NAMES, dice.choice(
                    [1, 1, 2, 4]))})
            self.end_iteration()

    def forget(self) -> None:
        for key in SYSTEM:
            self.replica.system_set(key, dict.fromkeys(self.replica.system_hash(key)))
        self.end_iteration()

    def look(self) -> None:
        changes, system = self.replica.system_changes, self.system()
        assert (changes, system) == self.known or changes > self.known[0], (
            f"{self.name} has {system}, had {self.known[1]}, and does not know that it has changed")
        self.known = changes, system

    # ---- processes that have ended ---------------------------------------------------------------
    def keep_ended(self) -> None:
        replica, members = self.replica, set(self.world.names)
        if replica.joining:
            return
        clock, newest = replica.clock_ids(), {}
        for a, r, e, seq in replica.actors():
            if seq or a == replica.actor:
                newest[r] = max(newest.get(r, 0), e)

        def store(data: bytes) -> None:
            self.disk.ended, self.disk.synced = data, len(self.disk.records)

        self.ended.step(replica.actor, members, [a for a, r, e, seq in replica.actors()
                                                 if seq and e < newest[r]], clock,
                        replica.freeze, store)
        replica.close(self.ended.closed(members, clock))
        self.end_iteration()

    def start_anew(self) -> None:
        """It holds what the cluster has agreed not to take any more."""
        self.world.lost |= self.disk.dots()
        self.world.anew += 1
        self.stop(False)
        self.disk, self.killed_with, self.witness = Disk(), None, None
        self.start()

    # ---- messages --------------------------------------------------------------------------------
    def send(self, peer: Node, kind: str, body=None) -> None:
        """Every message says who we are and what we have."""
        self.world.network(self, peer, (kind, self.name, self.replica.actor, self.actors(),
                                        body, self.ended.told()))

    def ask(self, peer: Node) -> None:
        self.send(peer, "pull", self.replica.clock_ids())

    def handle(self, message: tuple) -> None:
        kind, sender, actor, actors, body, told = message
        replica, peer = self.replica, self.world.by_name[sender]
        replica.now = self.now()
        epoch = next(e for a, _, e, _ in actors if a == actor)
        if any(r == sender and e > epoch for _, r, e, _ in replica.actors()):
            return                                    # from a process that has ended since
        self.check_identity(actors)
        known = len(replica.actors())
        for _, r, e, _ in actors:
            replica.declare(r, e)
        if len(replica.actors()) > known:
            self.declare()
        replica.record_clock(actor, {a: seq for a, _, _, seq in actors if seq})
        if told:
            self.ended.hear(told)
            if self.world.ended_dice.random() < 0.5:
                self.keep_ended()
        if self.world.rng.random() < 0.3:
            # at once, while what it now knows of has yet to arrive
            replica.collect(500)
        if kind == "ops":
            for part in body:
                try:
                    replica.receive(part)
                except CausalBufferFull:              # some day an exchange brings it again
                    self.world.refused += 1
            assert replica.pending()["bytes"] <= self.world.room
            self.end_iteration()
            self.send(peer, "ack")
        elif kind == "pull":
            parts = [p for r in self.disk.batches() if (p := slice_batch(r, body))]
            if parts:
                self.send(peer, "ops", parts[:self.world.rng.choice([1, 3, 1 << 30])])

    def check_identity(self, actors: list) -> None:
        """A peer that knows a later life of ours than we do: go on under a newer epoch."""
        replica = self.replica
        above = plan.newer_epoch(Actor(replica.actor, self.name, replica.epoch),
                                 replica.clock_ids(), [Actor(a, r, e) for a, r, e, _ in actors],
                                 {a: seq for a, _, _, seq in actors}, self.now())
        if above is not None:
            self.disk.epoch = self.epoch_above(max(above, self.disk.epoch))
            replica.new_epoch(self.disk.epoch)
            self.declare()
            self.world.say(f"{self.name} takes epoch {self.disk.epoch}")


class World:
    """One schedule."""

    def __init__(self, seed: int, verbose: bool = False):
        self.rng = rng = random.Random(seed)
        self.seed, self.verbose = seed, verbose
        self.now = START
        self.flying: list = []                        # [(due, number, from, to, message)]
        self.sent = 0
        self.cut: set = set()                         # (from name, to name)
        self.lost: set = set()                        # dots that some disk held and lost
        self.acknowledged: dict[int, int] = {}        # actor id -> highest seq told to a client
        self.seen: dict[tuple, bytes] = {}            # dot -> its op's bytes
        self.dice = random.Random(f"checkpoints {seed}")
        self.checkpoints = self.dice.choice([0, 0.02, 0.2, 0.6])     # of the steps of each node
        self.sync_dice = random.Random(f"syncs {seed}")
        self.syncs = self.sync_dice.choice([0, 0, 0.05, 0.2, 0.7])   # of the steps of each node
        self.joins = 0
        self.system_dice = random.Random(f"system {seed}")
        self.notes = self.system_dice.choice([0, 0.02, 0.2])         # of the steps of each node
        self.home_dice = random.Random(f"home {seed}")
        self.homes = self.home_dice.choice([0, 0, 0.02, 0.1])        # of the steps
        self.leave_dice = random.Random(f"leaves {seed}")
        self.leaves = self.leave_dice.choice([0, 0, 0.01, 0.05])     # of the steps
        self.given = 0
        self.move_dice = random.Random(f"moves {seed}")
        self.moves = self.move_dice.choice([0, 0, 0.01, 0.05])       # of the steps
        self.resumed = 0
        self.ended_dice = random.Random(f"ended {seed}")
        self.anew = 0
        self.evict_dice = random.Random(f"evictions {seed}")
        self.pack_dice = random.Random(f"packed {seed}")
        self.packs = self.pack_dice.choice([0, 0.02, 0.3])           # of the steps of each node
        self.seal_dice = random.Random(f"sealed {seed}")
        self.seals = self.seal_dice.choice([0, 0.02, 0.5])           # of the steps of each node
        self.evictions = self.evict_dice.choice([0, 0, 0.01, 0.1])   # of the steps of each node
        # of a process that makes effects in the shorter form, beside others that do not
        self.forms = random.Random(f"forms {seed}")
        # strings are changed by patches; else by SETs, as beside an older version
        self.patches = random.Random(f"patches {seed}").random() < 0.9
        self.mended = 0
        self.always = rng.random() < 0.3
        self.room, self.refused = rng.choice(ROOMS), 0
        # stamps that are ahead are accepted in the end, instead of waiting for the clocks
        self.trusting = rng.random() < 0.3
        self.style = rng.choice(["own", "own", "relay", "none"])
        self.loss, self.double = rng.choice([0, 0, 0.1, 0.5]), rng.choice([0, 0.05, 0.3])
        self.slow = rng.choice([1, 5, 200, 3000])
        self.crashes, self.backups = rng.random() < 0.4, rng.random() < 0.15
        self.skew = rng.choice([0, 5, 500, 20_000, 90_000, 200_000])
        self.positions: dict = {}                     # of list elements, decoded
        self.clients = Clients(rng)
        self.nodes: list[Node] = []
        self.by_name: dict[str, Node] = {}
        self.names = rng.sample("abcde", rng.choice([2, 3, 3, 3, 4, 5]))
        for name in self.names:
            self.now += rng.choice([0, 1, 700])
            self.by_name[name] = Node(self, name, rng.randint(-self.skew, self.skew))
            self.nodes.append(self.by_name[name])
        for node in self.nodes if self.homes else ():
            node.set_patterns()

    def say(self, text: str) -> None:
        if self.verbose:
            print(f"{self.now - START:8d} {text}")

    def remember(self, batch: bytes) -> None:
        """No dot may ever stand for two different ops."""
        for run in pb.Batch.FromString(batch).runs:
            for op in run.ops:
                body = op.SerializeToString(deterministic=True)
                assert self.seen.setdefault((run.actor, op.seq), body) == body, (
                    f"dot {(run.actor, op.seq)} was used twice")

    # ---- network ---------------------------------------------------------------------------------
    def network(self, a: Node, b: Node, message: tuple) -> None:
        rng = self.rng
        for _ in range(2 if rng.random() < self.double else 1):
            if rng.random() >= self.loss:
                self.sent += 1
                self.flying.append((self.now + rng.randint(0, self.slow), self.sent, a.name, b.name,
                                    message))

    def deliver(self) -> None:
        due = sorted((m for m in self.flying if m[0] <= self.now), key=lambda m: m[:2])
        self.flying = [m for m in self.flying if m[0] > self.now]
        for _, _, a, b, message in due:
            if (a, b) not in self.cut and self.by_name[b].up and not self.by_name[b].joining:
                self.by_name[b].handle(message)

    def partition(self) -> None:
        rng, names = self.rng, list(self.by_name)
        shape = rng.choice(["halves", "one out", "one way", "chain", "some links", "all"])
        pairs = [(a, b) for a in names for b in names if a != b]
        one, side = rng.choice(names), {n for n in names if rng.random() < 0.5}
        self.cut = {(a, b) for a, b in pairs if {
            "halves": (a in side) != (b in side), "one out": one in (a, b), "one way": a == one,
            "chain": abs(names.index(a) - names.index(b)) != 1, "some links": rng.random() < 0.5,
            "all": True}[shape]}
        self.say(f"partition, {shape}: {sorted(self.cut)}")

    # ---- what happens ----------------------------------------------------------------------------
    def step(self) -> None:
        rng = self.rng
        self.now += rng.choice([0, 0, 1, 1, 3, 20, 20, 300, rng.choice([1, 1, 1, 1, 3000])])
        self.deliver()
        if self.home_dice.random() < self.homes:
            self.home_dice.choice(self.nodes).set_patterns()
        if self.move_dice.random() < self.moves:
            self.move_dice.choice(self.nodes).move()
        if self.leave_dice.random() < self.leaves:
            node, peer = self.leave_dice.sample(self.nodes, 2)
            if node.up and not node.joining and node.connected(peer) and peer.up:
                node.leave(peer)
        for node in self.nodes:
            if node.up and not node.joining and self.dice.random() < self.checkpoints:
                node.checkpoint()
        for node in self.nodes:
            if node.up and not node.joining and self.evict_dice.random() < self.evictions:
                node.evict()
        for node in self.nodes:
            if node.up and self.pack_dice.random() < self.packs:
                probe_pack(node.replica)
            if node.up and self.seal_dice.random() < self.seals:
                probe_seal(node.replica, self.seal_dice.getrandbits(63))
        for node in self.nodes:
            if node.up and self.sync_dice.random() < self.syncs:
                Sync.step(node)
        for node in self.nodes:
            if node.up and not node.joining and self.ended_dice.random() < 0.05:
                node.keep_ended()
        for node in self.nodes:
            if node.up and not node.joining:
                if self.system_dice.random() < self.notes:
                    node.note()
                node.look()
        node = rng.choice(self.nodes)
        if not node.up:
            if rng.random() < 0.3:
                node.start()
            return
        x = rng.random()
        if node.joining and (x < 0.91 or 0.958 <= x < 0.96):
            node.replica.now = node.now()
            view(node.reader)                         # it can be read all the time
            node.replica.check()
            return
        if x < 0.58:
            session = rng.randrange(2)
            for _ in range(rng.choice([1, 1, 1, 2, 5])):
                node.serve(session, self.clients.next(node.now()))
            node.end_iteration()
        elif x < 0.78:
            node.ask(rng.choice([n for n in self.nodes if n is not node]))
        elif x < 0.84:
            node.tick()
        elif x < 0.88:
            node.replica.collect(500)
            node.replica.fold(rng.choice([1, 3, 1000]))
            node.end_iteration()
        elif x < 0.91:
            node.disk.synced = len(node.disk.records)
        elif x < 0.95:
            self.partition() if rng.random() < 0.5 else self.cut.clear()
        elif x < 0.958:                               # a clock is set
            node.skew = rng.randint(-self.skew, self.skew)
        elif x < 0.960 and self.trusting:
            node.accept(node.replica.newest_stamp >> 16)
        elif x < 0.98 and self.crashes:
            node.stop(power=rng.random() < 0.6)
        elif self.backups:
            if not node.disk.backup:
                node.disk.back_up()
            else:
                node.stop(False)
                node.restore()

    def run(self) -> None:
        for _ in range(self.rng.randint(20, 120)):
            self.step()
        self.finish()

    # ---- the end ---------------------------------------------------------------------------------
    def settle(self, tick: bool = False) -> None:
        """Everybody exchanges with everybody until all have the same; where that does not do,
        since no log holds what a state brought, by states."""
        for turn in range(40):
            for a in self.nodes:
                a.keep_ended()
                if a.ended.parted():
                    a.start_anew()
                if tick:
                    a.tick()
                a.mend()
                self.ask_all(a)
            clocks = [n.replica.clock_ids() for n in self.nodes]
            if all(c == clocks[0] for c in clocks) and not any(
                    n.replica.patches[2] for n in self.nodes):
                return
            if self.joins and turn > 2:
                for a in self.nodes:
                    for b in self.nodes:
                        if not observed(a.replica.clock_ids(), b.replica.clock_ids()):
                            Sync.whole(a, b)
        raise AssertionError(f"clocks do not meet: {[n.replica.clock() for n in self.nodes]}")

    def agree(self) -> None:
        """Everybody hears of everybody what is frozen."""
        for a in self.nodes:
            a.keep_ended()
            self.ask_all(a)

    def ask_all(self, a) -> None:
        """a asks everybody, and all of it arrives."""
        for b in self.nodes:
            if a is not b:
                a.ask(b)
        while self.flying:
            self.now += max(1, self.slow // 10)
            self.deliver()

    def finish(self) -> None:
        self.say("-- everybody up, links healed")
        self.cut.clear()
        self.flying.clear()
        self.loss = self.double = 0
        if not self.trusting:
            # past every skew: what was held back for its timestamp may come
            self.now += 300_000
        for n in self.nodes:
            n.skew = 0
            if not n.up:
                n.start()
        for n in self.nodes:
            Sync.end(n)
        for n in self.nodes:
            if self.trusting:
                # also what is only held, its maker having lost it
                n.accept(self.now + 600_000)
            n.execute(0, "RESET")
            n.execute(1, "RESET")
        self.settle()
        self.compare()
        # held ops are tried again, deadlines that passed become deletes
        self.settle(tick=True)
        # nobody accepted what lies in rooms only
        self.now += 300_000 if any(n.replica.pending()["held"] for n in self.nodes) else 30_000
        self.settle(tick=True)
        found = self.compare()
        self.nothing_acknowledged_is_missing(found)
        self.recovery()
        self.cleared()

    def compare(self) -> Ops:
        for n in self.nodes:
            # the same for all: a deadline has passed or not
            n.replica.now = n.now()
            n.replica.check()
        digests = {n.name: n.replica.digest() for n in self.nodes}
        assert len(set(digests.values())) == 1, f"digests differ: {digests}"
        found = Ops(self.positions)
        if self.joins:
            found.read(self.all_ops())
        for n in self.nodes if not self.joins else ():
            for record in n.disk.batches():
                found.read(record)
        assert found.clock() == self.nodes[0].replica.clock(), (
            "the logs hold something else than the clocks claim")
        there = told(found, self.now)
        expected = {at: t for at, t in there.items() if t.visible(self.now)
                    and at[0] < DATABASES}
        views = [shared_view(n) if self.homes else view(n.reader) for n in self.nodes]
        assert all(shared(v) == shared(views[0]) for v in views), f"reads differ: {views}"
        assert views[0].keys() == expected.keys(), (
            f"there is {views[0]}, but the ops say {expected}")
        for at, (type, content, deadline) in views[0].items():
            assert expected[at].shows(type, content), (
                f"{at} is {type} {content}, but the ops say {expected[at]}")
            assert deadline == expected[at].deadline, (
                f"{at} has the deadline {deadline}, but the ops say {expected[at].deadline}")
        systems = [n.system() for n in self.nodes]
        assert all(x == systems[0] for x in systems), f"of the system they know {systems}"
        for key, fields in systems[0].items():
            at = SYSTEM_DB, key
            assert there[at].shows("hash", fields) if at in there else not fields, (
                f"of the system there is {key} {fields}, but the ops say {there.get(at)}")
        return found

    def all_ops(self) -> bytes:
        """A Batch of all that was ever made, as far as the clocks have come: what a state brought
        may stand in no log."""
        replica, runs = self.nodes[0].replica, []
        for actor, seq in replica.clock_ids().items():
            runs.append(pb.Run(actor=actor, ops=[
                pb.Op.FromString(self.seen[actor, s]) for s in range(1, seq + 1)]))
        return pb.Batch(actors=[pb.Actor(id=i, replica=r, epoch=e)
                                for i, r, e, _ in replica.actors()],
                        runs=runs).SerializeToString()

    def nothing_acknowledged_is_missing(self, found: Ops) -> None:
        clock = {i: found.clock().get(name, 0) for i, name in found.names.items()}
        for actor, seq in self.acknowledged.items():
            for s in range(clock.get(actor, 0) + 1, seq + 1):
                assert (actor, s) in self.lost, (
                    f"acknowledged op {(found.names.get(actor), s)} is gone, and no disk lost it")
                assert not self.always or self.backups or self.moves, (
                    "an op is gone although every write was synced")

    def recovery(self) -> None:
        one = self.rng.choice(self.nodes)
        for n in self.nodes:
            if n.disk.checkpoint is None and n is not one:
                continue
            digest, clock = n.replica.digest(), n.replica.clock()
            n.stop(False)
            n.start()
            n.replica.check()
            assert (n.replica.digest(), n.replica.clock()) == (digest, clock), (
                f"{n.name} came back another")

    def cleared(self) -> None:
        for n in self.nodes if self.homes else ():
            n.patterns = n.replica.local_keys = []
            n.execute(0, "FLUSHALL")
            n.end_iteration()
        for flusher in (self.nodes[0], self.nodes[-1]):
            # every process makes an op: so all know who lives, and what it has seen
            for n in self.nodes:
                n.execute(0, "SET", "seen-by-" + n.name, "x")
                n.end_iteration()
            self.settle()
            flusher.execute(0, "FLUSHALL")
            flusher.end_iteration()
            flusher.forget()
            self.settle()
        # deadlines without content are cleared away as well, counted from their stamp
        self.now += 300_000
        self.settle(tick=True)
        for _ in range(4):
            self.agree()
        # one told of an op and lost it to an old disk, as did all who had it: it may still come
        applied = [n.replica.clock_ids() for n in self.nodes]
        awaited = {actor for n in self.nodes for actor, seq in n.ended.own.last.items()
                   if all(clock.get(actor, 0) < seq for clock in applied)}
        names = {f"{r}/{e}" for n in self.nodes for actor, r, e, _ in n.replica.actors()
                 if actor in awaited}
        for n in self.nodes:
            n.replica.collect(5000)                   # to the end of the round,
            assert n.replica.collect(5000)            # and another one
            n.replica.check()
            left, waiting = [n.replica.keys(db) for db in range(17)], n.replica.pending()
            tombstones = [s for db in range(17) for s in self.tombstones(n, db)]
            assert len(tombstones) == n.replica.stats()["tombstones"]
            assert names.issuperset(tombstones), f"{n.name} keeps tombstones of {tombstones}"
            assert sum(live for live, _ in left) == 0, f"{n.name} keeps keys after FLUSHALL: {left}"
            assert sum(elements for _, elements in left) <= len(tombstones), (
                f"{n.name} keeps leftovers after FLUSHALL: {left}")
            assert waiting["ops"] == 0 or self.lost, (
                f"{n.name} has ops that wait for ever: {waiting}")

    def tombstones(self, n, db: int) -> list[str]:
        """The actors whose tombstones a replica keeps in a database."""
        states = [n.replica.inspect(db, key) for key in KEYS]
        states += [of for key in KEYS for name in NAMES
                   for of in (n.replica.inspect_member(db, key, name.encode()) or {}).values()]
        return [t["actor"] for state in states if state for t in state["counter_entries"]
                if t["tombstone"]]

    def close(self) -> None:
        for n in self.nodes:
            n.replica = n.executor = n.sessions = n.reader = n.walk = n.sync = None


def shared_view(node: Node) -> dict:
    """What a replica that took in the state of this one shows."""
    other = Replica("other", 1, seed=1)
    other.now = node.now()
    reader, walk = StateReader(other), StateWriter(node.replica)
    while record := walk.next():
        reader.take(record[8:])
    assert not any(other.keys(db)[1] for db in range(FIRST_HOME, FIRST_HOME + DATABASES))
    assert other.digest() == node.replica.digest()
    return view(Client(other, Executor(other)))


def check(seed: int, verbose: bool = False) -> int:
    """One schedule, and that it leaves no memory behind. How many states were joined in it."""
    before = probe_memory()[0]
    world = World(seed, verbose)
    try:
        world.run()
        world.close()
        if probe_memory()[0] != before:
            gc.collect()
        assert probe_memory()[0] == before, (
            f"{probe_memory()[0] - before} allocations were not freed")
    except FAULTS as e:
        world.close()
        again = f"python -m tests.simulation.world --seed {seed} --verbose"
        raise AssertionError(f"seed {seed}: {type(e).__name__}: {e}\nagain with: {again}") from e
    return world.joins


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seed", type=int, help="run this one schedule")
    p.add_argument("--verbose", action="store_true", help="tell what happens")
    p.add_argument("--schedules", type=int, default=1000)
    p.add_argument("--first", type=int, default=1)
    a = p.parse_args()
    seeds = [a.seed] if a.seed is not None else range(a.first, a.first + a.schedules)
    start, joins = time.monotonic(), 0
    for seed in seeds:
        try:
            joins += check(seed, a.verbose)
        except AssertionError as e:
            print(e)
            return 1
    print(f"{len(seeds)} schedules held, {joins} joins, {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
