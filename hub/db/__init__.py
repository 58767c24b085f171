"""The database: engine, types, migrations. Never touched on the data path."""
