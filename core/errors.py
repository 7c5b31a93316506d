"""Errors a caller can act on. The class says what to do; `kind` names the failure and is stable; `exit_code` is the
command line's. Messages name what was wrong, where, and the mend. Imported by hooks, so this file imports nothing.
"""


class SessionMgmtError(Exception):
    """Something a person or a program can mend; the message says how."""

    kind = "error"
    exit_code = 1


class InputError(SessionMgmtError):
    """The request itself is wrong: an unknown session, a bad query, a file that is not there."""

    kind = "input"
    exit_code = 2


class DataFolderError(SessionMgmtError):
    """The data folder cannot be used: foreign, unreadable, read-only, or on a network file system."""

    kind = "data_folder"
    exit_code = 3


class FormatTooNewError(DataFolderError):
    """The data folder was written by a newer version."""

    kind = "format_too_new"


class LogCorruptError(SessionMgmtError):
    """Bytes of the log that were on disk no longer check. Nothing was changed."""

    kind = "log_corrupt"
    exit_code = 4


class ForgetUnfinishedError(LogCorruptError):
    """Payloads that are said to be forgotten are still there: the forgetting was interrupted, or is under way."""

    kind = "forget_unfinished"


class AppendError(SessionMgmtError):
    """The event could not be made durable (disk full, I/O error). It was not acknowledged."""

    kind = "append"
    exit_code = 5


class LockTimeoutError(AppendError):
    """Another process holds a lock for longer than this caller can wait."""

    kind = "lock_timeout"


class DestinationError(SessionMgmtError):
    """The place of a backup cannot be reached, written or read. What was there before is unharmed."""

    kind = "destination"
    exit_code = 5


class IdempotencyConflictError(InputError):
    """The caller's key was used before with other content."""

    kind = "idempotency_conflict"


class SettingsFileError(SessionMgmtError):
    """A settings file of an assistant cannot be read or edited safely. It was not changed."""

    kind = "settings_file"
    exit_code = 6


class SettingsError(SessionMgmtError):
    """A setting of ours from the environment is malformed."""

    kind = "settings"
    exit_code = 6


class EmbeddingError(SessionMgmtError):
    """The embedding model cannot be loaded or run. Search goes on without vectors."""

    kind = "embedding"
    exit_code = 6


class ViewsBehindError(SessionMgmtError):
    """So much of the log is in no published view that a question would take minutes and gigabytes. Ask again."""

    kind = "views_behind"


class ViewDamagedError(SessionMgmtError):
    """A published view turned out to be damaged while it was read. It is made anew from the log; ask again."""

    kind = "view_damaged"
