"""The SQLite file that holds the log: its tables, how it is opened, and what is said when it cannot be."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from pathlib import Path

APPLICATION_ID = 0x534B5744
SCHEMA_VERSION = 1

# One row is one event. `position` is the primary key, so the log lies in the file in the order of `$all`, and `message`
# is what readers get, ready for the socket.
TABLES = """
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams (id),
    revision INTEGER NOT NULL,
    type TEXT NOT NULL,
    created INTEGER NOT NULL,
    id BLOB NOT NULL,
    message BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_by_stream ON events (stream, revision);
"""


class DataFileError(Exception):
    """The data file cannot be used. The message is one sentence for whoever started the server."""


class DataFileLock:
    """Keeps the data file for one server: two that append to one log would give the same positions twice.

    It ends with the process, also when that is killed.
    """

    def __init__(self, path: Path) -> None:
        lock = path.with_name(path.name + ".lock")
        try:
            self._file = lock.open("w")
        except OSError as exc:
            raise DataFileError(f"{lock} cannot be written ({exc.strerror}); check its permissions.") from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            self._file.close()
            raise DataFileError(
                f"{path} is in use by another server; stop that one, or choose another --data."
            ) from exc

    def release(self) -> None:
        """Let the next server have it."""
        self._file.close()


def open_data_file(path: Path) -> DataFileLock:
    """Create the file and its tables, or check that it is one of ours; it is locked then. Raises `DataFileError`."""
    if path.is_dir():
        raise DataFileError(f"{path} is a directory; name a file for --data.")
    if not path.parent.is_dir():
        raise DataFileError(f"The directory {path.parent} does not exist; create it or choose another --data.")
    lock = DataFileLock(path)
    try:
        with contextlib.closing(connect(path)) as connection:
            _create_or_check(connection, path)
    except sqlite3.DatabaseError as exc:
        lock.release()
        raise unusable(exc, path) from exc
    except DataFileError:
        lock.release()
        raise
    return lock


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode; transactions are begun and committed by hand.

    What is committed survives a kill of the process and a power cut: the write-ahead log is synced at each commit.
    """
    # Used by one thread at a time, which is not always the one that opened it.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA mmap_size = 1073741824")
    return connection


def _create_or_check(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0:
        # One transaction, since executescript would commit each statement: a half-made file could not be told apart
        # from a foreign one.
        connection.execute("BEGIN IMMEDIATE")
        for statement in TABLES.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
        return
    if application_id != APPLICATION_ID:
        raise DataFileError(f"{path} is a database of another program; choose another --data.")
    if version != SCHEMA_VERSION:
        raise DataFileError(
            f"{path} was written by another version (format {version}, this one reads {SCHEMA_VERSION}); "
            "use that version, or choose another --data."
        )
    # Fails on a file that cannot be written, which is better said now than at the first append.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def unusable(exc: sqlite3.DatabaseError, path: Path) -> DataFileError:
    """What is wrong with the file, in a sentence that says what to do."""
    return DataFileError(_explain(exc, path))


def _explain(exc: sqlite3.DatabaseError, path: Path) -> str:
    name = getattr(exc, "sqlite_errorname", "")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return f"{path} is damaged or no data file of this program; restore it, or choose another --data."
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return f"{path} cannot be opened for reading and writing; check its permissions and those of its directory."
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"{path} is in use by another process; stop that one, or choose another --data."
    if name.startswith("SQLITE_FULL"):
        return f"There is no space left for {path}; free some, or choose another --data."
    return f"{path} cannot be used ({exc}); check the file, or choose another --data."
