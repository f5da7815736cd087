"""What every session with PostgreSQL is set to."""

STATEMENT_TIMEOUT = 30.0
"""Seconds after which the server ends a statement."""
IDLE_TIMEOUT = 10.0
"""Seconds after which the server ends a transaction whose process stands still: others wait for what it has locked."""
NETWORK = {
    # A peer that vanished without a word is noticed within half a minute.
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
"""What is asked again and again has its index. A plan made while a table was nearly empty would have it read whole each
time, and be kept while the table grows. A bitmap reads again each time what was changed long ago, where an index scan
marks it as dead: the rows of a queue change often. No statement is so long that compiling it would pay, and none so
urgent that it may have all the cores: those that are long only count."""
LIMITS = tuple(str(int(limit * 1000)) for limit in (STATEMENT_TIMEOUT, IDLE_TIMEOUT))
"""What SET_UP is run with."""
