"""Remedies for error responses, by HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

MOVED = (301, 302, 307, 308)
DELETED = "batches and results are deleted after 30 days"
EXPIRED_LINK = "the link to the result file may have expired: try again"
# For requests to signed URLs, which carry no key.
LINK_REMEDIES: Mapping[int, str] = {
    401: EXPIRED_LINK,
    403: EXPIRED_LINK,
    404: DELETED,
}


def api_remedies(base_url: str, label: str | None, url_label: str | None) -> dict[int, str]:
    """Return the remedies for requests to the API.

    :param label: names the setting of the key, such as `connection 'siliconflow_default'`
    :param url_label: names the setting of the base URL
    """
    of = f" of {label}" if label else ""
    of_url = f" of {url_label}" if url_label else ""
    wrong_path = "" if urlsplit(base_url).path.endswith("/v1") else f"the base URL{of_url} does not end in /v1; "
    return {
        **dict.fromkeys(MOVED, f"the API has moved: correct the base URL{of_url}"),
        401: f"check the API key{of}; keys of api.siliconflow.cn and api.siliconflow.com are not interchangeable",
        403: (
            f"the charged balance is too low, or the API key{of} lacks permission: charge the account at "
            f"{billing_page(base_url)}, or verify its identity in the console"
        ),
        404: f"{wrong_path}check the id, which must be of the account of the API key{of}; {DELETED}",
    }


def billing_page(base_url: str) -> str:
    """Return the console's page for charging the account: on .cn for an API on .cn, otherwise on .com."""
    if (urlsplit(base_url).hostname or "").endswith(".cn"):
        return "https://cloud.siliconflow.cn/expensebill"
    return "https://cloud.siliconflow.com/me/expensebill"


def remedy_for_json_mode(error: str) -> str | None:
    """Return what to change if an error says that the model has no JSON mode, else None."""
    words = error.lower()
    if "json mode" not in words and "response_format" not in words:
        return None
    return 'For a model without JSON mode, set request_params={"response_format": None}'
