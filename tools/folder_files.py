"""What this program keeps in a data folder beside the log's folders and `views` (core/log/FORMAT.md lists it)."""

# None of them holds a text of an event, so forgetting leaves them alone: their own words may well be equal to one.
FILES = frozenset(
    [
        "FORMAT.json",
        "append.lock",
        "maintenance.lock",
        "embed.lock",
        "host.lock",
        "host.sock",
        "tail.shm",
        "paused",
        "backups.json",
        "retention.json",
        "forgetting.json",
        "ignore",
        "ignored",
        "service.probe",
        "access.json",
        "access.lock",
    ]
)
