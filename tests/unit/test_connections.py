"""The bounds on the connections of an address and of a process, and on the answers that were not taken."""

import resource
from ipaddress import ip_network
from typing import Any

import pytest

from service.http import connections
from service.http.connections import Connections


class Connection:
    """A connection that records whether it was dropped."""

    def __init__(self) -> None:
        self.dropped = False
        self.transport: Any = self

    def abort(self) -> None:
        self.dropped = True


def test_an_address_has_its_share() -> None:
    """Addresses of IPv6 count by the network of one customer."""
    bounded = Connections(of_address=2)
    assert [bounded.add(Connection(), "192.0.2.1") for _ in range(4)] == [0, 0, 1, 2]
    assert bounded.add(Connection(), "192.0.2.2") == 0
    assert [bounded.add(Connection(), f"2001:db8::{n}") for n in (1, 2, 3)] == [0, 0, 1]
    assert bounded.add(Connection(), "2001:db8:0:1::1") == 0


def test_all_addresses_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few connections each address has. Of the two bounds the one that is exceeded by more counts."""
    monkeypatch.setattr(connections, "CONNECTIONS", 3)
    bounded = Connections(of_address=2)
    assert [bounded.add(Connection(), f"192.0.2.{n}") for n in range(5)] == [0, 0, 0, 1, 2]
    assert [bounded.add(Connection(), "192.0.2.0") for _ in range(2)] == [3, 4]


@pytest.mark.parametrize("host", ["192.0.2.1", ""])
def test_a_connection_that_ended_leaves_its_place(host: str) -> None:
    """It counts no longer, also if its end is reported twice. One that was reset before it was accepted has no host."""
    bounded = Connections(of_address=1)
    first = Connection()
    assert bounded.add(first, host) == 0
    bounded.remove(first)
    bounded.remove(first)
    assert [bounded.add(Connection(), host) for _ in range(2)] == [0, 1]


def test_proxies_are_bounded_in_all_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """They bring the requests of all clients. Without limits, each address is treated so."""
    monkeypatch.setattr(connections, "CONNECTIONS", 3)
    trusting = Connections([ip_network("10.0.0.0/8")], of_address=1)
    assert [trusting.add(Connection(), "10.1.2.3") for _ in range(5)] == [0, 0, 0, 1, 2]
    unlimited = Connections(of_address=None)
    assert [unlimited.add(Connection(), "192.0.2.1") for _ in range(4)] == [0, 0, 0, 1]


def test_a_request_belongs_to_the_client_for_which_a_proxy_asks() -> None:
    """Only a trusted proxy is believed. The client of any other connection is its address."""
    forwarded = [(b"x-forwarded-for", b"192.0.2.9, 2001:db8::1")]
    for trusted, host, client in (
        ("10.0.0.0/8", "10.1.2.3", "2001:db8::/64"),
        ("fd00::/8", "fd00::1", "2001:db8::/64"),
        ("10.0.0.0/8", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.0/8", "fd00::1", "fd00::/64"),
    ):
        bounded = Connections([ip_network(trusted)])
        connection = Connection()
        bounded.add(connection, host)
        assert bounded.client(connection, forwarded) == client


@pytest.mark.parametrize(("files", "served"), [(1000, 936), (100, 36), (100_000, 4000), (resource.RLIM_INFINITY, 4000)])
def test_files_are_left_for_the_rest_of_the_process(monkeypatch: pytest.MonkeyPatch, files: int, served: int) -> None:
    """A process without a free file accepts no connection, and opens none to the database."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    bounded = Connections(of_address=None)
    excess = [bounded.add(Connection(), "192.0.2.1") for _ in range(served + 1)]
    assert excess == [0] * served + [1]


def with_little_room(monkeypatch: pytest.MonkeyPatch) -> tuple[Connections, Connection, list[Connection]]:
    """Returns connections with room for 100 bytes of unread answers: one of a client and three of another."""
    monkeypatch.setattr(connections, "MAX_UNSENT_BYTES", 100)
    bounded = Connections()
    honest, *greedy = (Connection() for _ in range(4))
    bounded.add(honest, "192.0.2.1")
    for connection in greedy:
        bounded.add(connection, "192.0.2.2")
    return bounded, honest, greedy


def test_unsent_answers_are_dropped_where_there_are_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes few bytes at a time keeps its answer, whatever another one leaves unread."""
    bounded, honest, greedy = with_little_room(monkeypatch)
    bounded.unsent(honest, 35)
    for connection, size in zip(greedy, (20, 30, 15), strict=True):
        bounded.unsent(connection, size)
    assert [connection.dropped for connection in (honest, *greedy)] == [False, False, False, False]
    bounded.unsent(greedy[0], 21)
    assert [connection.dropped for connection in (honest, *greedy)] == [False, False, True, False]
    bounded.taken(greedy[0])
    bounded.unsent(greedy[2], 60)
    assert [connection.dropped for connection in (honest, *greedy)] == [False, False, True, False]


def test_as_many_answers_are_dropped_as_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that ended leaves none behind."""
    bounded, honest, greedy = with_little_room(monkeypatch)
    for connection in greedy:
        bounded.unsent(connection, 30)
    bounded.unsent(honest, 55)
    assert [connection.dropped for connection in (honest, *greedy)] == [False, True, True, False]
    bounded.remove(greedy[2])
    bounded.unsent(honest, 100)
    assert not honest.dropped
