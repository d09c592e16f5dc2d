"""The database that tests use one after another, and the check that each test gets it as the template is.

Rows and the settings of the session are put back. Whatever else a test changes, such as a function or the statistics of
a table, shows in the catalogs, and the database is not used again.
"""

import time
from typing import Final

import psycopg
from psycopg import pq, sql

from tests.database import TestDatabase

# An object that is made or dropped, or a view that is replaced, changes the rows of pg_depend or pg_namespace. Other
# objects that are altered change the rows of their own catalogs. VACUUM and ANALYZE change reltuples in pg_class.
_CATALOGS: Final = (
    "pg_attribute",
    "pg_constraint",
    "pg_depend",
    "pg_index",
    "pg_namespace",
    "pg_proc",
    "pg_trigger",
    "pg_type",
)
_ROWS_OF_A_CATALOG: Final = sql.SQL(
    "SELECT {}::text, count(*), count(*) FILTER (WHERE age(xmin) <= age({}::xid)), NULL::text FROM {}"
)
# Of pg_class what TRUNCATE leaves alone. Below ten pages the planner takes a table that was never vacuumed for ten
# pages large, whatever rows were in it; above, the deleted rows would change plans.
_OTHER_STATE: Final = sql.SQL("""
  SELECT 'pg_class', count(*),
    count(*) FILTER (WHERE oid >= 16384 AND relkind = 'r' AND pg_relation_size(oid) > 10 * 8192),
    string_agg(
      ROW(oid, relname, relnamespace, relowner, relpersistence, relrowsecurity, relforcerowsecurity, relacl, reloptions,
        CASE WHEN relkind = 'r' THEN reltuples END)::text, '' ORDER BY oid) FILTER (WHERE oid >= 16384)
  FROM pg_class
  UNION ALL
  SELECT 'pg_database', NULL, NULL, ROW(datdba, datallowconn, datconnlimit, datacl)::text
  FROM pg_database WHERE datname = current_database()
  UNION ALL
  SELECT 'pg_db_role_setting', s.setrole::bigint, NULL, s.setconfig::text
  FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase WHERE d.datname = current_database()
  UNION ALL
  SELECT 'pg_prepared_xacts', count(*), NULL, NULL FROM pg_prepared_xacts WHERE database = current_database()
""")
_TABLES: Final = """
  SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.oid >= 16384 AND c.relkind = 'r' ORDER BY c.oid
"""
_OTHER_SESSIONS: Final = """
  SELECT FROM pg_stat_get_activity(NULL) AS a JOIN pg_database AS d ON d.oid = a.datid
  WHERE d.datname = current_database() AND a.pid NOT IN (pg_backend_pid(), %s)
"""
# What DISCARD ALL does, without DISCARD PLANS: the plans are what makes a used session fast.
_RESET_SESSION: Final = """
  SET SESSION AUTHORIZATION DEFAULT;
  RESET ALL;
  CLOSE ALL;
  UNLISTEN *;
  SELECT pg_advisory_unlock_all();
  DEALLOCATE ALL;
  DISCARD TEMP;
  DISCARD SEQUENCES;
"""
# For a session of its own: any change of this setting discards all plans of a session.
_WITHOUT_TRIGGERS: Final = "-c session_replication_role=replica"
_RESTORE_CLOCK: Final = sql.SQL(
    "UPDATE testing.clock SET frozen_at = NULL, ahead = '0' WHERE frozen_at IS NOT NULL OR ahead <> '0';"
)
# Clients have disconnected by then; only a forgotten session is still there after the last pause.
_PAUSES_SECONDS: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)


class ReusedDatabase:
    """A copy of the template, a superuser's session of it that its tests share, and one that puts rows back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._admin = TestDatabase(url).admin
        self._restoring = psycopg.connect(url, autocommit=True, options=_WITHOUT_TRIGGERS)
        [(since,)] = self._admin.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        catalogs = [
            _ROWS_OF_A_CATALOG.format(sql.Literal(catalog), sql.Literal(since), sql.Identifier(catalog))
            for catalog in _CATALOGS
        ]
        self._read_state = self._text(sql.SQL(" UNION ALL ").join([*catalogs, _OTHER_STATE]))
        self._state = self._admin.execute(self._read_state).fetchall()
        tables = [sql.Identifier(*names) for names in self._admin.execute(_TABLES)]
        contents = [sql.SQL("(SELECT string_agg(t::text, ',') FROM {} AS t)").format(table) for table in tables]
        self._read_rows = self._text(sql.SQL("SELECT {}").format(sql.SQL(", ").join(contents)))
        [self._rows] = self._admin.execute(self._read_rows)
        deletions = [
            sql.SQL("DELETE FROM {};").format(table)
            for table, content in zip(tables, self._rows, strict=True)
            if content is None
        ]
        self._restore = self._text(sql.SQL("").join([*deletions, _RESTORE_CLOCK]))

    def lend(self) -> TestDatabase:
        """Returns the database for a test, which leaves its connection open."""
        return TestDatabase(self._url, self._admin)

    def restore(self) -> bool:
        """Puts the database back, and returns whether it is as the template is, with no session but these two."""
        try:
            return self._is_alone() and self._is_restored()
        except psycopg.Error:
            return False  # the shared session was lost, or left within a failed transaction

    def close(self) -> None:
        """Disconnects both sessions."""
        self._restoring.close()
        self._admin.close()

    def _text(self, statement: sql.Composable) -> bytes:
        """Composes a statement once: that takes as long as its execution."""
        return statement.as_bytes(self._admin)

    def _is_alone(self) -> bool:
        for pause in _PAUSES_SECONDS:
            if not self._admin.execute(_OTHER_SESSIONS, [self._restoring.info.backend_pid]).rowcount:
                return True
            time.sleep(pause)
        return False

    def _is_restored(self) -> bool:
        if self._admin.info.transaction_status != pq.TransactionStatus.IDLE:
            return False
        self._admin.execute(_RESET_SESSION)
        if self._admin.execute(self._read_state).fetchall() != self._state:
            return False
        self._restoring.execute(self._restore)
        return self._admin.execute(self._read_rows).fetchall() == [self._rows]
