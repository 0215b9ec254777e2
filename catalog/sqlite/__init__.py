"""The catalog as one SQLite file.  `catalog.Catalog` reads; `transaction.Transaction` changes."""
