"""How Alembic runs here: on the connection that it is given, in that connection's transaction, and never from a file of settings."""

from alembic import context

from fairlead_relay.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=True,  # SQLite changes a table only by copying it
    transaction_per_migration=False,
)
context.run_migrations()
