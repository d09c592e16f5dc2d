"""How many connections to the database a worker process has, in each of its pools."""

from typing import Final

# Calls under way at once in one process. While one waits for its fsync the other works; more lanes would only make
# smaller batches. Without batches each request needs a lane of its own.
LANES: Final = 2
LANES_WITHOUT_BATCHES: Final = 16
# Connections of a process besides those of the lanes: for look-ups that take a millisecond, such as those of keys and
# probes; for lists, which take longer; and for the catalog, the purge and health, which wait for locks. Each kind has a
# pool of its own, so that neither long lists nor a locked catalog delay the look-up of a key.
LOOK_UP_CONNECTIONS: Final = 3
LIST_CONNECTIONS: Final = 3
OTHER_CONNECTIONS: Final = 2


def lanes(max_batch: int) -> int:
    """Returns how many calls with a batch of at most `max_batch` requests are under way at once."""
    return LANES if max_batch > 1 else LANES_WITHOUT_BATCHES


def lane_connections(max_batch: int) -> int:
    """Returns the connections of the lanes: twice as many, because requests are sent again beside the lanes."""
    return 2 * lanes(max_batch)


def connections_of_worker(max_batch: int) -> int:
    """Returns the connections of all pools."""
    return lane_connections(max_batch) + LOOK_UP_CONNECTIONS + LIST_CONNECTIONS + OTHER_CONNECTIONS
