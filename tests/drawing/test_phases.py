"""The phases of batches and their common time axis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from siliconflow_provider.drawing.phases import BatchBar, TimeAxis, phases_of

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
MOMENTS = st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)) | st.just(START)


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def lengths(bar: BatchBar, now: datetime | None = None) -> dict[str, float]:
    return {phase.name: (phase.end - phase.start) / 60 for phase in phases_of(bar, now)}


def test_a_batch_that_is_over_has_all_phases() -> None:
    bar = BatchBar("b", START, after(1), after(8), after(10))
    assert lengths(bar) == lengths(bar, after(99)) == {"queued": 1, "running": 7, "finalizing": 2}


def test_a_running_batch_ends_now() -> None:
    assert lengths(BatchBar("b", START, after(1)), after(5)) == {"queued": 1, "running": 4}


def test_without_now_the_last_known_time_ends_it() -> None:
    assert lengths(BatchBar("b", START, after(1))) == {"queued": 1, "running": 0}


def test_a_batch_that_failed_early_was_only_queued() -> None:
    assert lengths(BatchBar("b", START, ended_at=after(3))) == {"queued": 3}


def test_times_in_reversed_order_are_drawn() -> None:
    assert lengths(BatchBar("b", after(9), after(5), after(1), START)) == {"queued": 0, "running": 0, "finalizing": 0}


def test_a_batch_without_times_has_no_phases() -> None:
    assert lengths(BatchBar("b", ended_at=START), START) == {}
    assert TimeAxis.of([BatchBar("b")], START) == TimeAxis()


def test_the_axis_has_all_batches_and_now() -> None:
    bars = [BatchBar("a", START, ended_at=after(10)), BatchBar("b", after(5))]
    axis = TimeAxis.of(bars, after(20))
    assert [axis.percent(moment.timestamp()) for moment in (START, after(5), after(20))] == [0, 25, 100]
    assert axis.now == after(20).timestamp()


def test_now_is_no_mark_once_all_are_over() -> None:
    axis = TimeAxis.of([BatchBar("a", START, ended_at=after(10))], after(20))
    assert (axis.end, axis.now) == (after(10).timestamp(), None)


def test_the_axis_shows_a_window_that_is_near() -> None:
    near, far = (BatchBar("a", START, expires_at=after(minutes)) for minutes in (40, 41))
    assert TimeAxis.of([near], after(10)).end == after(40).timestamp()
    assert TimeAxis.of([far], after(10)).end == after(10).timestamp()


def test_times_of_other_centuries_do_not_squeeze_the_rest() -> None:
    good = [BatchBar("a", START, ended_at=after(10))] * 3
    odd = [
        BatchBar("b", datetime(1970, 1, 1), ended_at=datetime(9999, 12, 31)),
        BatchBar("c", START, datetime(9999, 1, 1)),
    ]
    axis = TimeAxis.of([*good, *odd])
    assert (axis.start, axis.end) == (START.timestamp(), after(10).timestamp())
    assert axis.percent(datetime(9999, 1, 1).timestamp()) == 100


def test_ticks_are_round_and_few() -> None:
    axis = TimeAxis.of([BatchBar("a", START, ended_at=after(100))])
    assert axis.ticks() == [(0, "0"), (30, "30m"), (60, "1h"), (90, "1h 30m")]
    assert TimeAxis.of([BatchBar("a", START, ended_at=START)]).ticks() == [(0, "0")]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.builds(BatchBar, st.just("b"), *[MOMENTS] * 5), max_size=4), MOMENTS)
def test_any_times_give_an_orderly_picture(bars: list[BatchBar], now: datetime | None) -> None:
    axis = TimeAxis.of(bars, now)
    assert len(axis.ticks()) <= 14
    for bar in bars:
        positions = [axis.percent(moment) for phase in phases_of(bar, now) for moment in (phase.start, phase.end)]
        assert positions == sorted(positions)
        assert all(0 <= position <= 100 for position in positions)
