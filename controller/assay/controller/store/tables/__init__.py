"""What each group of tables promises, as functions on an open transaction.

:class:`assay.controller.store.sql.SqlStore` opens the transaction, these do the work; nothing here
commits. The statements hold on SQLite and PostgreSQL alike: rows that are about to change are
locked with FOR UPDATE, which SQLite (one writer at a time) leaves out.
"""
