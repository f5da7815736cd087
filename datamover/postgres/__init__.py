"""PostgreSQL, given or our own: connections, transactions, notifications, migrations."""
