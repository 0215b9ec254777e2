"""One job: its states and their moves, and what it says of itself."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import warehouse.actors.control.job_state
from warehouse.actors.control.job_state import (
    FINISHED,
    MOVES,
    PASSED_OVER_MAX,
    STALLED_S,
    JobState,
    State,
)
from warehouse.actors.control.job_table import PAUSED
from warehouse.errors import LinkDown

MIB = 1024 * 1024


def job(
    job_id: int, work: str = "compact", volume_id: int | None = None, origin: str = "operator"
) -> JobState:
    return JobState(job_id, work, volume_id or job_id, "d", "disk-1", origin, created_ms=0)


def way_to(wanted: State) -> list[State]:
    """A shortest sequence of moves from `queued` to a state."""
    ways = {State.QUEUED: [State.QUEUED]}
    for state in (queue := [State.QUEUED]):
        for following in sorted(MOVES[state] - ways.keys()):
            ways[following] = [*ways[state], following]
            queue.append(following)
    return ways[wanted]


def job_in(state: State) -> JobState:
    one = job(1)
    for step in way_to(state)[1:]:
        one.move_to(step)
    return one


# --- states and moves -----------------------------------------------------------------------------


def test_the_names_of_the_states_are_those_on_the_wire() -> None:
    names = ["queued", "copying", "switching", "verifying", "done", "failed", "cancelled"]
    assert [state.value for state in State] == names
    assert type(job(1).seen().state) is str


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_reached(state: State) -> None:
    assert job_in(state).state is state


@pytest.mark.parametrize(("before", "after"), [*product(State, State)])
def test_a_job_makes_the_moves_of_the_table_and_no_other(before: State, after: State) -> None:
    one = job_in(before)
    if after in MOVES[before]:
        one.move_to(after)
        assert one.state is after
    else:
        with pytest.raises(AssertionError, match=f"may not go from {before} to {after}"):
            one.move_to(after)
        assert one.state is before


def test_a_job_changes_its_state_in_no_other_way() -> None:
    with pytest.raises(AttributeError):
        job(1).state = State.DONE  # type: ignore[misc]


@pytest.mark.parametrize("state", State)
def test_a_job_can_end_from_every_state_and_an_end_is_final(state: State) -> None:
    one = job_in(state)
    assert one.is_finished == one.seen().is_finished == (state in FINISHED)
    assert one.is_finished or MOVES[state] & FINISHED
    assert one.is_running == (state in {State.COPYING, State.SWITCHING, State.VERIFYING})


def test_the_diagram_shows_the_moves_of_the_table() -> None:
    diagram = warehouse.actors.control.job_state.__doc__ or ""
    arrows = re.findall(r"^ +(\S+) --> ([^\s:]+)", diagram, re.MULTILINE)
    assert len(arrows) == len(set(arrows)) == len(re.findall("-->", diagram))
    expected = {(before.value, after.value) for before in State for after in MOVES[before]}
    ends = {(state.value, "[*]") for state in FINISHED}
    assert set(arrows) == {("[*]", "queued")} | expected | ends


# --- what a job says of itself --------------------------------------------------------------------


def test_a_verification_yields_to_what_goes_first_and_to_nothing_else() -> None:
    slow, verify = job(1, "verify", origin="policy"), job(2, "verify")
    compact, automatic = job(3), job(4, origin="policy")
    assert slow.yields_to(verify)
    assert slow.yields_to(automatic)
    assert verify.yields_to(compact)
    assert not verify.yields_to(automatic), "what an operator asked for would start again at once"
    assert not verify.yields_to(slow)
    assert not verify.yields_to(job(5, "verify"))
    assert not automatic.yields_to(compact)


WORKS, ORIGINS = st.sampled_from(["compact", "verify"]), st.sampled_from(["operator", "policy"])


@given(st.lists(st.tuples(WORKS, ORIGINS, st.integers(0, 2 * PASSED_OVER_MAX)), min_size=2, max_size=2))
def test_no_job_yields_to_one_that_would_start_after_it(kinds: list[tuple[str, str, int]]) -> None:
    one, other = (job(number, work, origin=origin) for number, (work, origin, _) in enumerate(kinds, 1))
    one.passed_over_count, other.passed_over_count = kinds[0][2], kinds[1][2]
    for running, waiting in ((one, other), (other, one)):
        if running.yields_to(waiting):
            assert waiting.rank < running.rank
            assert not waiting.yields_to(running)


def test_a_job_says_since_when_it_waits_for_the_same() -> None:
    one = job(1)
    one.wait_because(LinkDown("gone"), now_ms=5)
    one.wait_because(LinkDown("gone, and came back, and is gone"), now_ms=9)
    assert (one.wait_since_ms, one.code) == (5, "link_down")
    one.wait_because(None, "jobs are paused", reason=PAUSED, now_ms=11)
    assert one.wait_since_ms == 11
    one.begin_attempt(now_ms=12)
    assert one.seen().wait_since_ms == 0


def test_a_job_that_comes_no_further_is_stalled_and_one_that_only_waits_its_turn_is_not() -> None:
    one = job(1)
    assert not one.look_for_progress(now=0.0, is_excused=False)
    one.move_to(State.COPYING)
    one.begin_attempt(now_ms=1)
    one.progress(10, 100, now=1.0)
    assert not one.look_for_progress(now=STALLED_S, is_excused=False), "it has come further"
    one.begin_attempt(now_ms=2)  # from the start, as often as it likes: no further than before
    assert not one.look_for_progress(now=2 * STALLED_S - 1, is_excused=False)
    assert one.look_for_progress(now=2 * STALLED_S, is_excused=False)
    assert one.seen().is_stalled
    assert not one.look_for_progress(now=3 * STALLED_S, is_excused=False), "it was told once"
    one.progress(11, 100, now=1.0)
    assert not one.look_for_progress(now=3 * STALLED_S, is_excused=False)
    assert not one.is_stalled
    assert not one.look_for_progress(now=9 * STALLED_S, is_excused=True)


def test_the_speed_follows_what_was_done_lately() -> None:
    one = job(1)
    one.move_to(State.COPYING)
    one.begin_attempt(now_ms=1)
    for second in range(60):
        one.progress(second * 10 * MIB, 1000 * MIB, now=float(second))
    assert one.bytes_per_s == pytest.approx(10 * MIB)
    for second in range(60):
        one.progress(600 * MIB + second * MIB, 1000 * MIB, now=60.0 + second)
    assert one.bytes_per_s == pytest.approx(MIB, rel=0.01)
    one.begin_attempt(now_ms=2)
    assert (one.done_bytes, one.bytes_per_s) == (0, 0.0)
