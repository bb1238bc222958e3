"""
The relay's store: what must outlive the process, on SQLite or PostgreSQL.

`Store` (writer.py) runs plain functions that take a connection; those functions live beside their table, one module per
noun, and the tables themselves in schema.py. Nothing outside this package writes SQL.
"""

from fairlead_relay.store.writer import Store

__all__ = ["Store"]
