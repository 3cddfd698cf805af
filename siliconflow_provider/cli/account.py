"""`account`: show the API's site, and the account's status and balance."""

from __future__ import annotations

import argparse

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import NotFoundError
from siliconflow_provider.api.models import Account
from siliconflow_provider.api.session import address
from siliconflow_provider.cli.arguments import Outcome
from siliconflow_provider.cli.batch_documents import json_text, table, without_secrets


def run(options: argparse.Namespace, client: SiliconFlowClient) -> Outcome:
    """Return the account of the key. It is an error if the service refuses the key."""
    try:
        account = client.get_account()
    except NotFoundError:
        # Some services do not show accounts; this tells whether they accept the key.
        client.list_files()
        account = Account()
    fields = {
        "site": address(client.base_url),
        "status": account.status,
        "charge_balance": account.charge_balance,
        "balance": account.balance,
        "total_balance": account.total_balance,
    }
    document = without_secrets(fields, client)
    if options.json:
        return Outcome(json_text(document))
    return Outcome(table((name.replace("_", " "), value or "not shown") for name, value in document.items()))
