"""Convert durations from and to the service's form, and format them for people."""

from __future__ import annotations

from datetime import timedelta

from siliconflow_provider.api.errors import InvalidRequestError

MINIMUM_WINDOW_HOURS = 24
MAXIMUM_WINDOW_HOURS = 336


def parse_completion_window(window: str | timedelta) -> timedelta:
    """Return a completion window as a `timedelta`.

    :param window: `"24h"`, or a `timedelta` (also a `pendulum.duration`) of whole hours
    :raises InvalidRequestError: if it is not 24 to 336 whole hours, the range that the service accepts
    """
    if isinstance(window, timedelta):
        # pendulum's durations cannot be divided by a timedelta.
        hours = window.total_seconds() / 3600
    elif isinstance(window, str) and window.endswith("h") and window[:-1].isascii() and window[:-1].isdigit():
        hours = float(window[:-1])
    else:
        raise _window_error(window)
    if not MINIMUM_WINDOW_HOURS <= hours <= MAXIMUM_WINDOW_HOURS or hours != int(hours):
        raise _window_error(window)
    return timedelta(hours=int(hours))


def completion_window_text(window: str | timedelta) -> str:
    """Return a completion window in the service's form, `"24h"` to `"336h"`.

    :raises InvalidRequestError: if it is not 24 to 336 whole hours
    """
    return f"{parse_completion_window(window) // timedelta(hours=1)}h"


def _window_error(window: object) -> InvalidRequestError:
    shown = repr(window) if isinstance(window, str) else str(window)
    return InvalidRequestError(
        f"completion_window {shown} is not accepted by the service: give {MINIMUM_WINDOW_HOURS} to "
        f"{MAXIMUM_WINDOW_HOURS} whole hours, as '24h' or timedelta(hours=24)"
    )


def format_duration(length: timedelta | float) -> str:
    """Return a duration as text, such as `2d 3h 0m`, `12m 40s` or `7s`.

    :param length: a `timedelta`, or seconds
    """
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h {minutes}m"
    if hours:
        return f"{hours}h {minutes}m {rest}s"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"
