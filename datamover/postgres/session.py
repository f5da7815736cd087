"""The settings of every session with PostgreSQL."""

STATEMENT_TIMEOUT = 30.0
"""Seconds after which the server ends a statement."""
IDLE_TIMEOUT = 10.0
"""Seconds after which the server ends a transaction whose process sends nothing: others wait for its locks."""
NETWORK = {
    # A peer that is gone without closing the connection is noticed within half a minute.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "datamover",
}
SET_UP = (
    "SELECT current_setting('transaction_read_only') AS read_only,"
    " set_config('timezone', 'UTC', false), set_config('statement_timeout', %s, false),"
    " set_config('idle_in_transaction_session_timeout', %s, false),"
    " set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),"
    " set_config('jit', 'off', false), set_config('max_parallel_workers_per_gather', '0', false)"
)
"""The statement that sets a session up.

Every frequent statement has an index. Sequential scans are off because a plan that was made while a table was nearly
empty would be kept while the table grows. Bitmap scans are off because they do not mark dead index entries as index
scans do, and the rows of a queue change often. No statement is long enough for JIT to pay off; the long ones only count
rows, and must not take all cores."""
LIMITS = tuple(str(int(limit * 1000)) for limit in (STATEMENT_TIMEOUT, IDLE_TIMEOUT))
"""The parameters of SET_UP."""
