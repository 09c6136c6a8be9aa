"""The decisions of replication, without a byte on any wire."""
import random

import pytest

from crdtredis.clocks import Actor, actor_id
from crdtredis.replication import plan
from crdtredis.replication.wire import PROTOCOL, Refusal, proto


def hello(**change):
    return proto.Hello(**{"version": PROTOCOL, "cluster": "c", "replica": "b", "epoch": 5,
                         "process": 2, "now": 1_000_000} | change)


def check_hello(h, **change):
    plan.check_hello(h, **{"cluster": "c", "replica": "a", "process": 1, "now_ms": 1_000_000,
                     "skew": 60.0} | change)


def actor(replica, epoch):
    return Actor(actor_id(replica, epoch), replica, epoch)


@pytest.mark.parametrize("change, code", [
    ({"version": PROTOCOL + 1}, proto.WRONG_VERSION), ({"cluster": "other"}, proto.WRONG_CLUSTER),
    ({"replica": ""}, proto.MALFORMED), ({"group": 1}, proto.WRONG_VERSION),
    ({"epoch": 0}, proto.MALFORMED), ({"replica": "a"}, proto.SAME_REPLICA),
    ({"now": 1_061_000}, proto.CLOCK_SKEW),
    ({"now": 938_000}, proto.CLOCK_SKEW), ({"replica": "b" * 129}, proto.MALFORMED),
    ({"replica": "b\nc"}, proto.MALFORMED)])
def test_a_wrong_hello_is_refused(change, code):
    check_hello(hello())
    with pytest.raises(Refusal) as e:
        check_hello(hello(**change))
    assert e.value.code == code and len(e.value.text) > 20


def test_a_refusal_is_read_on_both_sides_and_names_them():
    with pytest.raises(Refusal, match="cluster_name is 'other' at b and 'c' at a"):
        check_hello(hello(cluster="other"))
    with pytest.raises(Refusal, match="the wall clock of b is 61.0 s ahead of that of a, more"):
        check_hello(hello(now=1_061_000))


def test_an_epoch_met_elsewhere_is_left():
    own, later = actor("a", 10), actor("a", 17)

    def ask(clock, told, theirs):
        return plan.newer_epoch(own, clock, told, theirs, 100)

    assert ask({own.id: 3}, [own, actor("b", 99)], {own.id: 3}) is None
    assert ask({own.id: 3}, [own, later], {own.id: 3}) == 17            # a later life of ours
    # a dot of ours that we never made
    assert ask({own.id: 3}, [own], {own.id: 4}) == 10
    # an earlier life that our disk has lost: left already
    assert ask({own.id: 3}, [actor("a", 4)], {}) is None


def test_an_epoch_far_in_the_future_is_not_followed():
    own, now = actor("a", 10), 1_700_000_000_000

    def ask(*told):
        return plan.newer_epoch(own, {own.id: 3}, told, {}, now)

    assert ask(actor("a", now + plan.EPOCH_AHEAD)) == now + plan.EPOCH_AHEAD
    for epoch in (now + plan.EPOCH_AHEAD + 1, 2**63 - 2, 2**63, 2**64 - 1):
        assert ask(actor("a", epoch)) is None
        assert ask(actor("a", epoch), actor("a", 17)) == 17


def test_new_epochs_are_few_a_minute_and_few_a_day():
    r = plan.Renewals()
    assert [r.take(float(t)) for t in range(10)] == [True] * 3 + [False] * 7
    assert r.take(61.0) and r.take(62.0)
    r, taken = plan.Renewals(), 0
    for t in range(0, 86_400, 7):
        taken += r.take(float(t))
    assert taken == 30 and r.take(90_000.0)


def test_back_off_grows_to_its_cap_and_is_spread():
    chance = random.Random(4)
    for attempt, most in ((1, 1.0), (2, 2.0), (3, 4.0), (10, 30.0), (1000, 30.0)):
        found = [plan.backoff(attempt, 1.0, 30.0, chance) for _ in range(100)]
        assert most / 2 <= min(found) and max(found) <= most and len(set(found)) > 50
    # a retry_interval above the cap is respected
    assert plan.backoff(3, 60.0, 30.0, chance) >= 30.0


def test_the_window_halves_and_recovers():
    w = plan.Window(4)
    w.refused(), w.refused(), w.refused()
    w.in_flight = 1
    assert not w.open and w.size == 1.0
    for _ in range(12):
        w.succeeded()
    assert int(w.size) == 4 and w.open


def test_the_pace_follows_the_rate():
    s = plan.Settings()

    def settled(rate):
        pace, now, pause = plan.Pace(s), 0.0, 0.01
        for _ in range(2000):
            now += pause
            pace.looked(int(rate * pause), now)
            pause = max(pace.due - now, 0.0)
        return round(pause, 9)

    assert settled(0) == settled(1_900_000) == s.linger                 # 20,000 small ops a second
    assert s.linger < settled(3_000_000) < settled(8_000_000) <= s.linger_cap
    assert abs(settled(100e6) * 100e6 - s.chunk_size) < 0.2 * s.chunk_size  # a chunk a look
    assert settled(1e9) == s.linger


def test_after_a_rest_some_looks_follow_each_other_at_once():
    s = plan.Settings()
    pace, now, looks = plan.Pace(s), 1000.0, 0
    while pace.due <= now:
        pace.looked(100, now)
        looks += 1
    assert looks == plan.BURST + 1
    for _ in range(20):                                         # and then one at a time, spaced
        now = pace.due
        pace.looked(100, now)
        assert abs(pace.due - now - s.linger) < 1e-6
