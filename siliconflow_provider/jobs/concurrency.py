"""Submit the parts of a round a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from siliconflow_provider.inputs import Part

SUBMITTED_AT_ONCE = 4


def submit_all(
    parts: Sequence[Part], submit: Callable[[Part], Exception | None], after_each: Callable[[], None]
) -> list[tuple[Part, Exception]]:
    """Submit parts in threads, and return those that failed.

    :param submit: submits one part, and returns its error
    :param after_each: called in this thread after each part. If it is slow it delays no part, and one call follows
        several parts
    """
    pool = ThreadPoolExecutor(SUBMITTED_AT_ONCE)
    submissions = [pool.submit(submit, part) for part in parts]
    try:
        running = set(submissions)
        while running:
            _, running = wait(running, return_when=FIRST_COMPLETED)
            after_each()
    finally:
        # After execution_timeout, no further part is submitted.
        pool.shutdown(cancel_futures=True)
    errors = (submission.result() for submission in submissions)
    return [(part, error) for part, error in zip(parts, errors, strict=True) if error is not None]
