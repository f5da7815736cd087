"""PostgreSQL, external or embedded: connections, transactions, notifications, migrations."""
