"""The file of a store: opened, created, migrated, and every failure in one sentence."""

import contextlib
import errno
import itertools
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = ["explained", "new_file", "reading", "reading_export", "try_writing", "writing"]

APPLICATION = 0x4E446361
"""Tells our files from other programs' SQLite files."""

BUSY_S = 10.0
"""How long to wait while another program writes to the store."""

TRIED_BYTES = 8 * 2**20
"""Bytes written and rolled back to test a store: more than SQLite keeps in memory before a commit,
and about the size of a large calibration."""

SCHEMA = (
    """
    CREATE TABLE calibrations (
        id TEXT PRIMARY KEY NOT NULL,
        sample TEXT NOT NULL,
        note TEXT NOT NULL,
        time_s REAL NOT NULL,
        device_id TEXT NOT NULL,
        dwell_time_us REAL,
        flyback_time_us REAL,
        tau_us REAL,
        amplitude_slow_pm REAL,
        amplitude_fast_pm REAL,
        details BLOB NOT NULL,
        sha256 TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE contents (
        id TEXT NOT NULL REFERENCES calibrations (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (id, name)
    )
    """,
)
"""The newest schema; sample and note may be changed later, all else is covered by a checksum."""

MIGRATIONS: tuple[tuple[str, ...], ...] = ()
"""Statements that bring version 1 to 2, 2 to 3, and so on."""


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a store for reading one consistent state of it; a missing one is empty.

    Parameters
    ----------
    path : path
        The file.

    Yields
    ------
    sqlite3.Connection
        Within a transaction that ends without changing anything.

    Raises
    ------
    ValueError
        If the file is damaged, is no store, or cannot be read; in one sentence.
    """
    with explained(path):
        opened = _opened(path, "mode=rw") if _exists(path) else _new_in_memory()
        with closing(opened) as connection:
            if _version(connection, path) <= len(MIGRATIONS):
                _update(connection, path)
            connection.execute("BEGIN")
            yield connection


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a store to change it: all that is done inside becomes part of it, or nothing.

    Parameters
    ----------
    path : path
        The file; made where there is none.

    Yields
    ------
    sqlite3.Connection
        Within a transaction.

    Raises
    ------
    ValueError
        If the file is damaged, is no store, or cannot be written; in one sentence.
    """
    with explained(path):
        if not _exists(path):
            with contextlib.suppress(FileExistsError), new_file(path, journal="WAL"):
                pass
        with closing(_connect(path, "mode=rw")) as connection:
            if _version(connection, path) <= len(MIGRATIONS):
                _update(connection, path)
            with _transaction(connection):
                yield connection


@contextmanager
def new_file(path: Path, *, journal: str = "DELETE") -> Iterator[sqlite3.Connection]:
    """Make a store under a temporary name, and give it its own once it is complete.

    Parameters
    ----------
    path : path
        The new file; its folder is made.
    journal : str, default: "DELETE"
        SQLite's way of making changes safe; "DELETE" keeps all in one file at any time.

    Yields
    ------
    sqlite3.Connection
        Within a transaction.

    Raises
    ------
    FileExistsError
        If there is such a file already; it is left as it is.
    """
    _make_folder(path.parent)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with closing(_connect(part, "mode=rwc")) as connection:
            with _transaction(connection):
                _create(connection)
                yield connection
            connection.execute(f"PRAGMA journal_mode = {journal}")
        _publish(part, path)
    finally:
        _remove(part)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # which would mean that the store itself is there
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file, not a folder") from None


def try_writing(path: Path) -> None:
    """Test whether a store can be written, and leave everything as it was.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    ValueError
        If it cannot be written, or its disk is full; in one sentence.
    """
    with contextlib.suppress(_UndoneError), explained(path):
        opened = writing(path) if _exists(path) else new_file(path)
        with opened as connection:
            connection.execute("CREATE TABLE tried (content BLOB)")
            connection.execute("INSERT INTO tried VALUES (zeroblob(?))", (TRIED_BYTES,))
            raise _UndoneError


class _UndoneError(Exception):
    """Ends a transaction that was a try."""


@contextmanager
def reading_export(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an exported file, or another store, without touching it.

    Parameters
    ----------
    path : path
        The file.

    Yields
    ------
    sqlite3.Connection
        A copy in memory, of the newest schema.

    Raises
    ------
    ValueError
        If it is not there, is damaged, is no store, or cannot be read; in one sentence.
    """
    with explained(path):
        if not _exists(path):
            raise ValueError(f"{path} does not exist")
        with closing(_opened(path, "mode=ro")) as source:
            version = _version(source, path)
            with closing(_connect(None)) as copy:
                source.backup(copy)
                with _transaction(copy):
                    _migrate(copy, version)
                    yield copy


def _connect(path: Path | None, query: str = "") -> sqlite3.Connection:
    place = ":memory:" if path is None else f"{path.absolute().as_uri()}?{query}"
    connection = sqlite3.connect(place, uri=True, timeout=BUSY_S, isolation_level=None)
    connection.text_factory = _as_text  # damaged text must not hide the rows beside it
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _as_text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _opened(path: Path, query: str) -> sqlite3.Connection:
    """Open for reading, also in a read-only folder, where no log can be made beside the file."""
    connection = _connect(path, query)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if _code(error) not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise
        log = path.with_name(f"{path.name}-wal")
        return _connect(path, "mode=ro" if log.exists() else "mode=ro&immutable=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _update(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a store of an older schema up to date, after a copy of it was made."""
    with _transaction(connection):
        version = _version(connection, path)  # again: another program may have been faster
        if version <= len(MIGRATIONS):
            _back_up(path, version)
            _migrate(connection, version)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION or version < 1:
        raise ValueError(
            f"{path} is not a store of calibrations and was left as it is: "
            "move it away, or name another file"
        )
    if version > 1 + len(MIGRATIONS):
        raise ValueError(
            f"{path} was written by a newer version of this program (schema {version}; this one "
            f"knows {1 + len(MIGRATIONS)}) and was left as it is: update the program, or name "
            "another file"
        )
    return int(version)


def _new_in_memory() -> sqlite3.Connection:
    connection = _connect(None)
    _create(connection)
    return connection


def _create(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {1 + len(MIGRATIONS)}")


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring an older schema up to date, within the caller's transaction."""
    for statements in MIGRATIONS[version - 1 :]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {1 + len(MIGRATIONS)}")


def _back_up(path: Path, version: int) -> None:
    """Copy a store before it is changed; the caller's transaction keeps others from writing."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with (
            closing(_connect(path, "mode=ro")) as source,
            closing(_connect(part, "mode=rwc")) as to,
        ):
            source.backup(to)
            to.execute("PRAGMA journal_mode = DELETE")
        for number in itertools.count():  # an earlier copy is kept
            ending = f".{number}" if number else ""
            with contextlib.suppress(FileExistsError):
                _publish(part, path.with_name(f"{path.name}.schema-{version}{ending}"))
                break
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    """Remove a file of ours, and what SQLite leaves beside it where the disk is full."""
    for ending in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            part.with_name(f"{part.name}{ending}").unlink()


def _publish(part: Path, path: Path) -> None:
    """Give a whole file its name, unless there is such a file already."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(path) from None
        part.rename(path)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into one sentence that says what to do.

    Parameters
    ----------
    path : path
        The file that is worked on.

    Yields
    ------
    None
        Within which errors are explained.

    Raises
    ------
    ValueError
        The sentence.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not _code(error):
            raise
        raise ValueError(_sentence(path, error)) from error
    except FileExistsError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"{path} cannot be opened or written: {reason}") from error


def _code(error: sqlite3.Error) -> int:
    """SQLite's code, without its finer distinctions."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _sentence(path: Path, error: sqlite3.DatabaseError) -> str:
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            f"{path} was kept busy by another program for {BUSY_S:g} s and was not changed: "
            "try again"
        )
    if code == sqlite3.SQLITE_FULL:
        return f"the disk that holds {path} is full and nothing was changed: free some space"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return (
            f"{path} is damaged ({error}) and was left as it is: move it away to begin a new "
            "store, or put a good copy in its place"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return (
            f"{path} cannot be written ({error}) and was not changed: allow writing to it and to "
            "its folder, or name another file"
        )
    if code == sqlite3.SQLITE_IOERR:
        return (
            f"{path} cannot be read or written ({error}) and was not changed: see whether its "
            "disk is full or gone"
        )
    return f"{path} cannot be used ({error}) and was not changed: move it away to begin a new store"
