"""
What attacks look like, and what honest days look like: each thing that is counted, up to its threshold and beyond.

Whole months of calls are in tests/guard/test_sense.py and `python -m bench sense`.
"""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core import sense
from ivrguard.core.sense import (
    BITS,
    BUCKETS,
    CELLS,
    DAY_MS,
    FLOOD_TIMES,
    SHARE_USUAL_PPM,
    SUBJECTS_MAX,
    TAGS_MAX,
    Answers,
    Attack,
    Bucket,
    Calls,
    Sense,
    Sketch,
    Threshold,
    answered,
    bucket_of,
    called,
    cell_of,
    flooded,
    mark_of,
    marked,
    met,
    sprayed,
    spread,
    stuffed,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
TWENTY = Threshold(20, 3600)
EIGHT = Threshold(8, 3600)
A_MINUTE, AN_HOUR = Threshold(100, 60), Threshold(100, 3600)
PINS = [f"{pin:06d}" for pin in range(0, 1_000_000, 331)]


def sketch_of(wrong, key=KEY):
    """A sketch of (account, answer)."""
    return marked(Sketch(), ((cell_of(key, answer), mark_of(key, account)) for account, answer in wrong))


def spray(accounts, answer="271828"):
    return [(f"acc_{number}", answer) for number in range(accounts)]


def slips(count):
    """Wrong answers of honest callers: each account its own."""
    return [(f"hon_{number}", PINS[number % len(PINS)]) for number in range(count)]


# ── one wrong answer on many accounts ────────────────────────────────────────────────────────────────────


def test_a_spray_is_found_among_what_honest_callers_get_wrong():
    """The same answer on 40 accounts stands out of 500 that are all different; 500 alone do not."""
    hot = cell_of(KEY, "271828")
    finding = sprayed(TWENTY, sketch_of([*slips(500), *spray(40)]), [hot])
    assert finding.count >= finding.need == 20
    quiet = sketch_of(slips(500))
    assert all(found.count < found.need for cell in range(CELLS) if (found := sprayed(TWENTY, quiet, [cell])))


def test_who_tries_one_wrong_answer_again_and_again_is_one_account():
    """Owners of an old PIN key it five times. That is no spray."""
    finding = sprayed(TWENTY, sketch_of([("acc_1", "1234")] * 300), [cell_of(KEY, "1234")])
    assert finding.count == 1


def test_a_busy_flow_needs_more():
    """Callers' favourites alone make 3 % of many wrong answers, and chance fills cells unevenly: `need` grows with both."""
    needs = [
        sprayed(TWENTY, sketch_of(slips(count)), [cell_of(KEY, "271828")]).need
        for count in (0, 1_000, 5_000, 20_000)
    ]
    assert needs[0] == 20
    assert all(less <= more for less, more in pairwise(needs))
    assert needs[-1] > 300


def test_no_cell_was_met_so_there_is_nothing_to_find():
    """Right answers have no cell."""
    assert sprayed(TWENTY, sketch_of(spray(100)), []) is None


def test_a_full_cell_says_as_many_as_it_can_tell():
    """No division by nothing: all its bits are taken."""
    full = Sketch((2**BITS - 1, *[0] * (CELLS - 1)))
    assert sprayed(TWENTY, full, [0]).count > 1_000


def test_a_window_has_cells_of_its_own():
    """Law 1: under the next window's key the same answers fall into other cells, so sketches cannot be put together."""
    cells = [(cell_of(KEY, pin), cell_of(OTHER_KEY, pin)) for pin in PINS[:500]]
    assert sum(one == other for one, other in cells) < 20


def test_a_cell_tells_little_of_an_answer():
    """Law 1: of the million PINs of six digits about one in 256 falls into a cell, for who has the key and tries them."""
    in_cell = sum(cell_of(KEY, pin) == 7 for pin in PINS)
    assert 2 <= in_cell <= 30  # of 3,022


def test_a_sketch_is_of_one_size_whatever_is_put_in():
    """Law 2."""
    sketch = sketch_of([(f"a{number}", str(number)) for number in range(20_000)])
    assert len(sketch.cells) == CELLS
    assert all(0 <= cell < 2**BITS for cell in sketch.cells)


@given(st.lists(st.tuples(st.integers(0, CELLS - 1), st.integers(0, 2**BITS - 1)), max_size=20), st.data())
def test_nodes_sketches_make_one_picture_in_any_order(marks, data):
    """Law 3."""
    cut = data.draw(st.integers(0, len(marks)))
    here_then_there = marked(marked(Sketch(), marks[:cut]), marks[cut:])
    assert here_then_there == marked(marked(Sketch(), marks[cut:]), [*marks[:cut], *marks[cut:]])


# ── one account from many numbers, one number over many accounts ─────────────────────────────────────────


def bucket_with(name, wrong=(), right=(), bucket=None):
    bucket = bucket or Bucket()
    for others, verdict in ((wrong, False), (right, True)):
        for other in others:
            bucket = met(bucket, name, other, right=verdict)
    return bucket


def numbers(count, first=0):
    return [f"num_{number}" for number in range(first, first + count)]


def test_wrong_from_many_is_found():
    """At `count`, and not before; each other one counts once."""
    seven, eight = (bucket_with("acc_1", numbers(count) * 3) for count in (7, 8))
    assert spread(EIGHT, seven, ["acc_1"]).count == 7
    finding = spread(EIGHT, eight, ["acc_1"])
    assert (finding.count, finding.need, finding.subject) == (8, 8, "acc_1")


def test_who_answered_right_in_the_end_had_only_mistyped():
    """He does not count; and where more answered right than wrong, it is a switchboard, or a company's account."""
    bucket = bucket_with("num_1", numbers(12), numbers(12))
    assert spread(EIGHT, bucket, ["num_1"]) is None
    switchboard = spread(EIGHT, bucket_with("num_1", numbers(9), numbers(30, first=100)), ["num_1"])
    assert switchboard.count < switchboard.need
    guesser = spread(EIGHT, bucket_with("num_1", numbers(9), numbers(3, first=100)), ["num_1"])
    assert guesser.count >= guesser.need


def test_only_who_was_met_just_now_is_looked_at():
    """What was raised an hour ago is not seen again because somebody else called."""
    bucket = bucket_with("acc_2", numbers(1), bucket=bucket_with("acc_1", numbers(20)))
    assert spread(EIGHT, bucket, ["acc_2"]).subject == "acc_2"
    assert spread(EIGHT, bucket, ["acc_3"]) is None


def test_a_flood_of_others_does_not_hide_the_one_under_attack():
    """Law 2: a bucket is bounded and forgets the lightest. Whoever wants to hide must bring more than he hides."""
    bucket = bucket_with("acc_victim", numbers(4))
    for number in range(SUBJECTS_MAX * 20):
        bucket = met(bucket, f"acc_{number}", "num_0", right=False)
    bucket = bucket_with("acc_victim", numbers(4, first=4), bucket=bucket)
    assert len(bucket.subjects) == SUBJECTS_MAX
    assert spread(EIGHT, bucket, ["acc_victim"]).count == 8


def test_of_one_subject_so_many_are_told_apart_and_no_more():
    """Law 2."""
    (subject,) = bucket_with("acc_1", numbers(1_000)).subjects
    assert len(subject.wrong) == TAGS_MAX


def test_subjects_are_spread_over_all_buckets():
    """No bucket is the bottleneck."""
    assert {bucket_of(name) for name in numbers(2_000)} == set(range(BUCKETS))


# ── more than usual ──────────────────────────────────────────────────────────────────────────────────────


def days_of_answers(windows, wrong, judged, tally=None):
    tally = tally or Answers()
    for _ in range(windows):
        tally = an_hour_later(tally, wrong, judged)
    return tally


def an_hour_later(tally, wrong, judged):
    return answered(tally, AN_HOUR, (tally.window + 1) * 3_600_000, wrong=wrong, judged=judged)


def test_what_is_usual_is_learned():
    """From 10 % at the beginning to the 4 % that callers really get wrong."""
    tally = days_of_answers(24 * 7, 40, 1_000)
    assert abs(tally.usual_ppm - 40_000) < 2_000


def test_stuffing_is_found_by_the_share_and_not_by_the_rush():
    """An outage makes ten times as many call, and get as much wrong as ever. 150 guesses beside 1,000 answers show."""
    usual = days_of_answers(24 * 7, 40, 1_000)
    rush = stuffed(AN_HOUR, an_hour_later(usual, 400, 10_000))
    assert rush.count < rush.need
    attack = stuffed(AN_HOUR, an_hour_later(usual, 190, 1_150))
    assert attack.count >= attack.need


def test_a_quiet_window_teaches_nothing():
    """Three wrong of four at night are no share."""
    assert days_of_answers(24, 3, 4).usual_ppm == SHARE_USUAL_PPM


def test_an_attacker_needs_patience_to_teach_the_guard():
    """Law 4: five days of nothing but wrong answers do not double what is usual; what raises no alert teaches in a day."""
    usual = days_of_answers(24 * 7, 40, 1_000)
    taught = days_of_answers(24 * 5, 5_000, 5_000, usual)
    assert taught.usual_ppm < usual.usual_ppm * 2
    honest = days_of_answers(24, 90, 1_000, usual)
    assert honest.usual_ppm > usual.usual_ppm * 1.5


def test_a_slow_spray_on_a_quiet_line_does_not_teach_that_everything_is_wrong():
    """Law 4: 80 wrong answers an hour raise no `stuffing`, and hardly anybody else calls."""
    taught = days_of_answers(24 * 30, 80, 84)
    assert taught.usual_ppm == sense.SHARE_USUAL_PPM_MAX
    attack = stuffed(AN_HOUR, an_hour_later(taught, 300, 310))
    assert attack.count >= attack.need


def minutes(tally, counts, first_ms):
    for minute, count in enumerate(counts):
        tally = called(tally, A_MINUTE, first_ms + minute * 60_000, count)
    return tally


def test_a_flood_is_three_times_the_busiest_minute_of_a_week():
    """What a Monday brings is no flood; the count alone decides where nothing is known yet."""
    assert flooded(A_MINUTE, minutes(Calls(), [100], DAY_MS)).count >= 100
    week = Calls()
    for day in range(8):
        week = minutes(week, [20, 90, 40], day * DAY_MS)
    week = minutes(week, [250], 8 * DAY_MS)
    assert flooded(A_MINUTE, week).need == FLOOD_TIMES * 90
    assert flooded(A_MINUTE, week).count < flooded(A_MINUTE, week).need
    assert flooded(A_MINUTE, called(week, A_MINUTE, 8 * DAY_MS, 20)).count >= FLOOD_TIMES * 90


def test_a_flood_does_not_become_what_is_usual():
    """Law 4: an hour of a thousand calls a minute moves the week's peak by half at most, and a week forgets it."""
    week = Calls()
    for day in range(8):
        week = minutes(week, [30, 20], day * DAY_MS)
    flood = minutes(week, [1_000] * 60, 8 * DAY_MS)
    assert max(flood.peaks) == 45
    for day in range(9, 18):
        flood = minutes(flood, [50], day * DAY_MS)
    assert max(flood.peaks) == 50
    assert max(minutes(Calls(), [1_000] * 60, 8 * DAY_MS).peaks) == A_MINUTE.count // FLOOD_TIMES
    assert len(flood.peaks) <= sense.DAYS + 1


def test_calls_of_one_window_are_added():
    """Law 3: two nodes' counts."""
    assert called(called(Calls(), A_MINUTE, DAY_MS, 3), A_MINUTE, DAY_MS + 1, 4).count == 7


def test_a_node_whose_clock_is_behind_adds_to_what_is_under_way():
    """It does not begin an old window anew."""
    now = answered(Answers(), AN_HOUR, 8 * 3_600_000, wrong=1, judged=1)
    assert answered(now, AN_HOUR, 7 * 3_600_000, wrong=1, judged=2) == replace(now, wrong=2, judged=3)


def test_everything_is_looked_for_unless_it_is_switched_off():
    """And each kind says in words what it is."""
    assert all(Sense().of(attack) for attack in Attack)
    assert Sense(spray=None).of(Attack.SPRAY) is None
    assert set(sense.SAID) == set(Attack)
    assert Threshold(1, 60).window(119_999) == 1
    assert Threshold(1, 60).ends_ms(119_999) == 120_000
