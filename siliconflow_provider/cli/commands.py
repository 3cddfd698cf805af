"""The commands and their arguments."""

from __future__ import annotations

from siliconflow_provider.cli.arguments import Argument, Command, count, number, params, since

_CONN_ID = (
    "Airflow connection; without it, SILICONFLOW_API_KEY has the key; if that is not set, `airflow siliconflow` uses "
    "siliconflow_default"
)
# Those of api/models.py, whose import takes longer than a command.
_STATUSES = "validating, in_queue, in_progress, finalizing, cancelling, completed, failed, expired or cancelled"
_CONNECTION = (
    Argument("--conn-id", metavar="ID", help=_CONN_ID),
    Argument("--base-url", metavar="URL", help="API that SILICONFLOW_API_KEY is for; by default SILICONFLOW_BASE_URL"),
)
_JSON = Argument("--json", action="store_true", help="print JSON")
_BATCH = Argument("batch_id", metavar="BATCH_ID", help="id of the batch")
# These turn items into requests, as in BatchInferenceOperator.
_REQUESTS = (
    Argument("--prompt", metavar="TEXT", help="builds a request from each row; {column} is replaced"),
    Argument("--messages-column", metavar="NAME", help="column with the messages of each row"),
    Argument("--id-column", metavar="NAME", help="column with the custom_id of each row"),
    Argument("--system-prompt", metavar="TEXT", help="for requests without a system message"),
    Argument(
        "--request-params",
        type=params,
        default={},
        metavar="JSON",
        help="default parameters of requests, such as '{\"max_tokens\": 100}'",
    ),
    Argument("--model", help="for requests without a model"),
    Argument("--limit", type=count, metavar="N", help="only the first N items"),
)

COMMANDS = (
    Command(
        "account",
        "show the API's site, and the account's status and balance",
        (*_CONNECTION, _JSON),
    ),
    Command(
        "batches",
        "list batches, newest first",
        (
            Argument(
                "--status", action="append", metavar="STATUS", help=f"with this status: {_STATUSES}; may be repeated"
            ),
            Argument("--running", action="store_true", help="that have not ended"),
            Argument("--failed", action="store_true", help="that failed, expired or were cancelled"),
            Argument("--dag", metavar="DAG_ID", help="of tasks of this DAG"),
            Argument("--text", help="with this text in id, status, file name or metadata, in any case"),
            Argument(
                "--since", type=since, metavar="TIME", help="created since then: a time in UTC, or an age such as 24h"
            ),
            Argument("--limit", type=count, default=50, metavar="N", help="at most N batches; 50 by default"),
            *_CONNECTION,
            _JSON,
        ),
    ),
    Command(
        "cancel",
        "cancel batches; their answered requests are billed",
        (
            Argument("batch_ids", nargs="+", metavar="BATCH_ID", help="id of a batch"),
            Argument("-y", "--yes", action="store_true", help="do not ask"),
            *_CONNECTION,
            _JSON,
        ),
    ),
    Command(
        "check",
        "check input files as a job does before it submits them; needs no key and no network",
        (
            Argument("files", nargs="+", metavar="FILE", help="what input_path of BatchInferenceOperator takes"),
            *_REQUESTS,
            _JSON,
        ),
        needs_client=False,
    ),
    Command(
        "download",
        "write the results of a batch that is over, one row per request",
        (
            _BATCH,
            Argument("--output", required=True, metavar="PATH", help="directory of the results and their report"),
            Argument(
                "--incomplete", action="store_true", help="also write results that the service does not have in full"
            ),
            *_CONNECTION,
            _JSON,
        ),
    ),
    Command(
        "estimate",
        "count the tokens of an input file and estimate its cost; needs no key and no network",
        (
            Argument("file", metavar="FILE", help="what input_path of BatchInferenceOperator takes"),
            *_REQUESTS,
            Argument("--prices", metavar="FILE", help="JSON file with the prices of models"),
            Argument("--tokenizer", metavar="FILE", help="tokenizer.json of the model; the default is a rule of thumb"),
            Argument(
                "--mean-completion-tokens",
                type=number,
                metavar="N",
                help="tokens of a mean answer, from an earlier job",
            ),
            _JSON,
        ),
        needs_client=False,
    ),
    Command(
        "show",
        "show a batch: its task, times, counts, errors, metadata and result files",
        (_BATCH, *_CONNECTION, _JSON),
    ),
)
