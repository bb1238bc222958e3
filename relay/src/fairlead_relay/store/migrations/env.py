"""How Alembic runs here: on the connection it is given, in its transaction, without a settings file."""

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
