"""Cancel a batch for a user: with a question before, and only at a request that this user's own page has sent."""

from __future__ import annotations

import hmac
from hashlib import sha256
from time import time
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.tokens import get_signing_key
from airflow.configuration import conf
from fastapi import HTTPException, Request

from siliconflow_provider.drawing.bars import describe_progress
from siliconflow_provider.drawing.markup import Markup, element
from siliconflow_provider.plugins.rows import Row

TOKEN_SECONDS = 3_600


def new_token(user_id: str, action: str) -> str:
    """Return a token for a form of this user's page. Another site cannot know it.

    :param action: identifies the form's action and its object
    """
    return _signed(user_id, action, int(time()) + TOKEN_SECONDS)


def check_form(request: Request, user_id: str, action: str, token: str) -> None:
    """Raise HTTPException 403 unless a form was sent from this user's own page, not long ago.

    A browser sends Airflow's cookie with the forms of other sites too.
    """
    end, _, _ = token.partition(".")
    is_known = end.isdecimal() and len(end) < 12 and int(end) >= time()
    if not is_known or not hmac.compare_digest(token.encode(), _signed(user_id, action, int(end)).encode()):
        raise HTTPException(403, "This form is too old, or is not yours. Open the page of batches again.")
    if not _is_same_origin(request):
        raise HTTPException(
            403, "This form comes from another site. If it does not, set [api] base_url to the address of Airflow."
        )


def _signed(user_id: str, action: str, end: int) -> str:
    key = get_signing_key("api", "secret_key")
    key_bytes = key if isinstance(key, bytes) else key.encode()
    message = "\0".join(("siliconflow", user_id, action, str(end)))
    return f"{end}.{hmac.new(key_bytes, message.encode(), sha256).hexdigest()}"


def _is_same_origin(request: Request) -> bool:
    # Browsers send this header to HTTPS and localhost only.
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("origin", ""))
    own = {request.headers.get("host", ""), urlsplit(conf.get("api", "base_url", fallback="") or "").netloc}
    return origin.netloc in own - {""}


def question_parts(row: Row, token: str, action: str, back: str) -> list[Markup]:
    """Return the parts of the page that asks before a batch is cancelled.

    :param action: the address that the answer is sent to
    :param back: the address of the page before
    """
    counts = row.batch.request_counts
    done = describe_progress(counts.completed, counts.total, counts.failed) if counts else "its progress is not known"
    task = (
        f" It belongs to {row.task.label}; only clearing that task submits its open requests again." if row.task else ""
    )
    return [
        element("h1", "Cancel this batch?"),
        element("p", "Batch ", element("code", row.batch.id), f" is {row.batch.status}: {done}.{task}"),
        element("p", "Answered requests are billed, and their answers are kept. A cancelled batch cannot be resumed."),
        element(
            "div",
            element(
                "form",
                element("input", type="hidden", name="token", value=token),
                element("button", "Cancel the batch", class_="sf-danger"),
                method="post",
                action=action,
            ),
            element("a", "Let it run", href=back, class_="sf-button"),
            class_="sf-actions",
        ),
    ]
