"""`account`."""

from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.emulator.server import Emulator


@pytest.mark.usefixtures("settings")
def test_account_shows_site_status_and_balance(run: Any, emulator: Emulator) -> None:
    shown = run("account", "--json").json
    assert shown == {
        "site": emulator.base_url.split("/")[2],
        "status": "normal",
        "charge_balance": "88.00",
        "balance": "0.88",
        "total_balance": "88.88",
    }
    printed = run("account")
    assert "charge balance  88.00" in printed.out.splitlines()
    assert emulator.api_key not in printed.out


@pytest.mark.usefixtures("settings")
def test_a_refused_key_is_a_sentence(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILICONFLOW_API_KEY", "sk-wrong-key")
    printed = run("account")
    assert (printed.code, printed.out) == (2, "")
    assert "check the API key of SILICONFLOW_API_KEY" in printed.err
    assert "sk-wrong-key" not in printed.err


@pytest.mark.usefixtures("listing_settings")
def test_services_without_accounts_tell_the_site(run: Any, service: Any) -> None:
    # It lists files, so it accepts the key.
    service.batches["/user/info"] = None
    assert run("account").out.splitlines()[1] == "status          not shown"
