"""A service on a proxy with two nodes: its callers notice nothing."""

import asyncio
import re
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.acceptance.clients import race, reserves, statuses
from tests.database import NO_DEADLINE, at, reserve_request
from tests.deploy.installation import DEPLOY
from tests.proxy.calls import (
    ADMIN,
    BUSINESSES,
    NUMBERS,
    commit,
    hold,
    make_business,
    one_of_each,
    partitions_with,
    put,
    settings,
)
from tests.proxy.conftest import SETTINGS
from tests.proxy.installation import Installation
from tests.serving import CRON_SECRET, ServiceProcess, run_command, wait_until

pytestmark = pytest.mark.anyio


async def test_two_hundred_requests_for_a_slot_of_each_node(servers: Installation, service: ServiceProcess) -> None:
    """All at the same moment: each slot is granted as often as it has room, and no more."""
    businesses = one_of_each(servers)
    async with service.client(connections=200) as client:
        for business_id in businesses:
            await make_business(client, business_id, capacity=30)
        requests = [reserves(client, 1, businessId=businesses[number % 2])[0] for number in range(200)]
        answers = await race(client, requests)
    for business in range(2):
        assert statuses(answers[business::2]) == {201: 30, 409: 70}
        assert partitions_with(servers, "reservations", businesses[business]) == [business]


async def test_a_key_has_one_effect(servers: Installation, service: ServiceProcess) -> None:
    """Same key and request: the first result; another request: 422. It holds for each node."""
    async with service.client() as client:
        for business_id in one_of_each(servers):
            await make_business(client, business_id, capacity=10)
            key = uuid4().hex
            answers = await race(client, reserves(client, 20, businessId=business_id, idempotencyKey=key))
            assert statuses(answers) == {201: 1, 200: 19}
            assert len({answer.json()["reservationId"] for answer in answers}) == 1
            [other] = reserves(client, 1, 11, businessId=business_id, idempotencyKey=key)
            assert (await client.send(other)).status_code == 422


async def test_a_booking_is_found_by_its_id_alone(servers: Installation, service: ServiceProcess) -> None:
    """The service asks both nodes for an id that it has not made itself, and an unknown id is a 404."""
    async with service.client() as client:
        for partition, business_id in enumerate(one_of_each(servers)):
            await make_business(client, business_id, capacity=10)
            request = reserve_request(10)
            with psycopg.connect(servers.partitions[partition].url("holdfast"), autocommit=True) as node:
                node.execute(
                    "SELECT booking.execute(%s, %s, %s)",
                    [[business_id], [Jsonb({"reserve": [request]})], NO_DEADLINE],
                )
            answer = await client.get(f"/api/booking/reservations/{request['operation_id']}")
            assert answer.json()["businessId"] == business_id
            booked = await commit(client, request["operation_id"])
            assert booked.status_code == 201
            assert (await client.get(f"/api/booking/reservations/{request['operation_id']}")).status_code == 200
        assert (await client.get(f"/api/booking/reservations/{uuid4()}")).status_code == 404
        assert (await commit(client, str(uuid4()))).status_code == 404


async def test_an_appointment_is_changed_and_listed(servers: Installation, service: ServiceProcess) -> None:
    """Optimistic locking, the audit trail, lists, keys and the erasure of a guest work as on one server."""
    async with service.client() as client:
        for business_id in one_of_each(servers):
            await make_business(client, business_id, capacity=10)
            appointment = (await commit(client, await hold(client, business_id))).json()["appointmentId"]
            made = await client.post(
                f"{BUSINESSES}/{business_id}/keys", json={"name": "till", "role": "owner"}, headers=ADMIN
            )
            key = {"Authorization": f"Bearer {made.json()['key']}"}
            url = f"/api/booking/appointments/{appointment}"
            change = {"expectedVersion": 1, "notes": "by the window"}
            assert statuses(
                await race(client, [client.build_request("PATCH", url, json=change, headers=key) for _ in range(5)])
            ) == {200: 1, 409: 4}
            day = {"businessId": business_id, "from": at(0).isoformat(), "to": at(24).isoformat()}
            listed = await client.get("/api/booking/appointments", params=day, headers=key)
            assert [item["appointmentId"] for item in listed.json()["items"]] == [appointment]
            erasing = {"businessId": business_id, "guestEmail": "guest@example.com"}
            erased = await client.post("/api/booking/guests/erase", headers=key, json=erasing)
            assert erased.json() == {"erased": 1}


async def test_the_catalog_of_a_business_is_on_one_node(servers: Installation, service: ServiceProcess) -> None:
    """The list has the businesses of both in the order of their ids, and a refused document changes nothing."""
    businesses = one_of_each(servers)
    async with service.client() as client:
        for partition, business_id in enumerate(businesses):
            await make_business(client, business_id)
            assert partitions_with(servers, "services", business_id) == [partition]
            document = (await client.get(f"{BUSINESSES}/{business_id}/document", headers=ADMIN)).json()
            document["services"]["cut"]["name"] = "Trim"
            document["services"]["dye"] = {"name": "Dye", "durationMinutes": 90, "resourceIds": ["nobody"]}
            refused = await client.put(f"{BUSINESSES}/{business_id}/document", json=document, headers=ADMIN)
            assert refused.status_code == 400
            [cut] = (await client.get(f"{BUSINESSES}/{business_id}/services", headers=ADMIN)).json()["items"]
            assert cut["name"] == "Cut"
        listed = [item["businessId"] for item in (await client.get(BUSINESSES, headers=ADMIN)).json()["items"]]
    assert listed == sorted(listed)
    assert set(businesses) <= set(listed)


async def test_availability_is_that_of_the_node(servers: Installation, service: ServiceProcess) -> None:
    """Slots are listed in the time zone of the business: the nodes and the proxy of these tests are in another."""
    async with service.client() as client:
        for business_id in one_of_each(servers):
            await make_business(client, business_id)
            await hold(client, business_id)
            query = {"businessId": business_id, "serviceId": "cut", "from": at(9).isoformat(), "to": at(12).isoformat()}
            slots = (await client.get("/api/booking/availability", params=query)).json()["slots"]
            assert [one["slotStart"] for one in slots] == [f"{at(hour):%Y-%m-%dT%H:00:00.000Z}" for hour in (9, 11)]
            taken = (await race(client, reserves(client, 1, businessId=business_id)))[0]
            assert taken.status_code == 409
            assert taken.json()["alternatives"]


async def test_a_slug_is_unique_among_the_nodes(servers: Installation, service: ServiceProcess) -> None:
    """It leads to its business from anywhere, whatever node it belongs to by its hash, and is free after a change."""
    first, second = one_of_each(servers)
    async with service.client() as client:
        for slug in (f"rosa-{number}" for number in range(4)):
            await make_business(client, first, slug=slug)
            assert (await put(client, second, slug=slug)).json()["code"] == "SLUG_TAKEN"
            public = await client.get(f"/api/v1/public/{slug}")
            assert public.json()["business"]["businessId"] == first
            assert (await client.get(f"/api/v1/public/{second}")).status_code == 404
        for slug in (f"rosa-{number}" for number in range(3)):
            assert (await put(client, second, slug=slug)).status_code in (200, 201)
        assert (await put(client, "rosa-3")).json()["code"] == "SLUG_TAKEN"
        assert (await put(client, first, slug=second)).json()["code"] == "SLUG_TAKEN"
        for slug in (second, "rosa-2"):
            assert (await put(client, second, slug=slug)).status_code == 200
        assert (await client.delete(f"{BUSINESSES}/{second}", headers=ADMIN)).status_code == 204
        assert (await put(client, "rosa-0", slug="rosa-1")).status_code == 201
        assert (await client.get("/api/v1/public/rosa-1")).json()["business"]["businessId"] == "rosa-0"
        for slug, status in (("rosa-1", 409), ("rosa-2", 200)):
            for business_id in (first, second):  # on the node of the slug, and on the other one
                document = settings(businessId=business_id, slug=slug)
                path = f"{BUSINESSES}/{business_id}/document?dryRun=true"
                answer = await client.put(path, json=document, headers=ADMIN)
                assert answer.status_code == status, answer.text
    assert strays(servers) == []


async def test_of_businesses_that_want_a_slug_at_once_one_gets_it(
    servers: Installation, service: ServiceProcess
) -> None:
    """Whatever the node of the slug: the others are refused, and leave nothing behind."""
    async with service.client(connections=20) as client:
        for slug in ("wanted-0", "wanted-1", "wanted-2", "wanted-3"):
            ids = [f"{slug}-of-{number}" for number in range(8)]
            answers = await asyncio.gather(*(put(client, business_id, slug=slug) for business_id in ids))
            assert statuses(answers) == {201: 1, 409: 7}
    assert strays(servers) == []


async def test_calls_that_set_the_slug_of_a_business_take_turns(servers: Installation) -> None:
    """Otherwise the first one, which gives a slug up, could release the claim that the second one just made of it."""
    [business_id, _] = one_of_each(servers)
    former, latter = (servers.business(1, next(NUMBERS)) for _ in range(2))  # slugs of the other node

    def set_slug(slug: str) -> None:
        business = Jsonb({"name": business_id, "timezone": "UTC", "slug": slug})
        with psycopg.connect(servers.url, autocommit=True) as proxy:
            proxy.execute("SELECT booking.put_business(%s, %s, %s)", [business_id, business, NO_DEADLINE])

    def waiting(kind: str) -> bool:
        query = "SELECT FROM pg_locks WHERE locktype = %s AND NOT granted"
        return any(servers.rows(server, query, kind) for server in (servers.proxy, servers.partitions[0]))

    set_slug(former)
    with psycopg.connect(servers.partitions[0].url("holdfast")) as node:
        node.execute("SELECT FROM booking.businesses WHERE business_id = %s FOR UPDATE", [business_id])
        first = asyncio.create_task(asyncio.to_thread(set_slug, latter))
        await asyncio.to_thread(wait_until, lambda: waiting("transactionid"), "the first to wait for the business")
        second = asyncio.create_task(asyncio.to_thread(set_slug, former))
        await asyncio.to_thread(wait_until, lambda: waiting("advisory"), "the second to wait for the first")
    await asyncio.gather(first, second)
    assert strays(servers) == []
    assert servers.rows(servers.proxy, "SELECT b ->> 'slug' FROM booking.business(%s) AS b", business_id) == [(former,)]


async def test_a_put_that_writes_nothing_leaves_its_slug_free(servers: Installation) -> None:
    """Its lock was taken for too long, or its deadline passed: the claim on the other node is released."""
    [business_id, _] = one_of_each(servers)
    slug = servers.business(1, next(NUMBERS))
    settings = Jsonb({"name": business_id, "timezone": "UTC", "slug": None})
    late = "clock_timestamp() - interval '1 second'"
    with psycopg.connect(servers.url, autocommit=True) as proxy:
        proxy.execute("SELECT booking.put_business(%s, %s, %s)", [business_id, settings, NO_DEADLINE])
        settings.obj["slug"] = slug
        for call in (
            f"booking.put_business(%s, %s, {late})",
            f"booking.put_document(%s, %s, false, {late})",
            "booking.put_business(%s, %s, 'infinity')",
        ):
            with psycopg.connect(servers.partitions[0].url("holdfast")) as node:
                if "infinity" in call:
                    node.execute("SELECT FROM booking.businesses WHERE business_id = %s FOR UPDATE", [business_id])
                with pytest.raises(psycopg.Error) as refused:
                    proxy.execute(f"SELECT {call}".encode(), [business_id, settings])
            assert refused.value.sqlstate == ("55P03" if "infinity" in call else "HF001")
            assert strays(servers) == []


def free_slug(servers: Installation, business_id: str, slug: str) -> None:
    """Runs the statement by which deploy/scaling.md frees a slug."""
    [statement] = re.findall(r"`(SELECT booking\.settle_slugs[^`]*)`", (DEPLOY / "scaling.md").read_text())
    servers.rows(servers.proxy, statement.replace("'salon'", f"'{business_id}'").replace("'lost'", f"'{slug}'"))


async def test_check_reports_a_claim_that_was_left_behind(servers: Installation, service: ServiceProcess) -> None:
    """As after a crash between the claim and the put, or between the put and the release. The statement of the document
    frees it, and takes no slug from the business that has it."""
    [business_id, _] = one_of_each(servers)
    servers.rows(servers.proxy, "SELECT booking.claim_slug('lost', %s)", business_id)
    checked = await asyncio.to_thread(run_command, "check", DATABASE_URL=servers.url, **SETTINGS)
    assert checked.returncode == 1
    assert f"stray_slug lost: {business_id}" in checked.stdout
    free_slug(servers, business_id, "lost")
    assert strays(servers) == []
    async with service.client() as client:
        for slug in ("kept-0", "kept-1", "kept-2"):  # on both nodes
            assert (await put(client, business_id, slug=slug)).is_success
            servers.rows(servers.proxy, "SELECT booking.claim_slug('former', %s)", business_id)
            assert strays(servers) == [("former", business_id)]
            for freed in ("former", slug):
                free_slug(servers, business_id, freed)
            assert strays(servers) == []
            assert (await client.get(f"/api/v1/public/{slug}")).status_code == 200
    checked = await asyncio.to_thread(run_command, "check", DATABASE_URL=servers.url, **SETTINGS)
    assert checked.returncode == 0
    assert "double_booked_resources: 0" in checked.stdout


@pytest.mark.parametrize("partition", [0, 1])
def test_a_clock_that_differs_on_one_node_is_seen(servers: Installation, partition: int) -> None:
    """Whichever node that is: health compares each definition with the shipped one."""
    node, query = servers.partitions[partition], "SELECT settings FROM booking.clock_definition() ORDER BY settings"
    node.execute("ALTER FUNCTION booking.now() SET timezone = 'UTC'", "holdfast")
    try:
        assert servers.rows(servers.proxy, query) == [(["TimeZone=UTC"],), (None,)]
    finally:
        node.execute("ALTER FUNCTION booking.now() RESET ALL", "holdfast")
    assert servers.rows(servers.proxy, query) == [(None,)]


async def test_the_purge_and_health_are_those_of_all_nodes(servers: Installation, service: ServiceProcess) -> None:
    """The numbers are sums; the purge reaches both nodes in one run, and each records it."""
    async with service.client() as client:
        before = (await client.get("/health/reservations")).json()
        for business_id in one_of_each(servers):
            await make_business(client, business_id, capacity=20)
            for _ in range(12):
                await hold(client, business_id)
            live = reserves(client, 1, 12, businessId=business_id)[0]
            assert (await client.send(live)).status_code == 201
            for server in servers.partitions:
                servers.rows(
                    server,
                    "UPDATE booking.reservations SET created_at = created_at - interval '2 days', "
                    "expires_at = expires_at - interval '1 day' WHERE business_id = %s AND slot_start < %s RETURNING 1",
                    business_id,
                    at(12),
                )
                servers.rows(server, "SELECT booking.recount(%s, 'infinity')", business_id)
        purged = await client.post("/cron/cleanup-reservations", headers={"Authorization": f"Bearer {CRON_SECRET}"})
        assert purged.status_code == 200, purged.text
        assert purged.json()["expired"] == 24
        assert purged.json()["remaining"] == 0
        await asyncio.sleep(1)  # health is at most a second old
        health = (await client.get("/health/reservations")).json()
    assert health["live"] == before["live"] + 2
    assert health["status"] == "ok", health
    for server in servers.partitions:
        assert servers.rows(server, "SELECT max(expired) FROM booking.maintenance_runs") == [(24,)]


async def test_faults_of_the_data_are_counted_on_all_nodes(servers: Installation, service: ServiceProcess) -> None:
    """A fault of one kind on each of the two nodes is two."""
    names = one_of_each(servers)
    faults = "SELECT violations FROM booking.invariant_violations(false) WHERE violations > 0"
    zones = "SELECT businesses FROM booking.unknown_timezones()"
    async with service.client() as client:
        for business_id in names:
            await make_business(client, business_id, capacity=5)
            await hold(client, business_id)

    def alter(number: int, zone: str) -> None:
        for node, business_id in zip(servers.partitions, names, strict=True):
            count = "UPDATE booking.occupancy SET claimed = claimed + %s WHERE business_id = %s RETURNING 1"
            servers.rows(node, count, number, business_id)
            move = "UPDATE booking.businesses SET timezone = %s WHERE business_id = %s RETURNING 1"
            servers.rows(node, move, zone, business_id)

    alter(1, "Mars/Olympus")
    assert servers.rows(servers.proxy, faults) == servers.rows(servers.proxy, zones) == [(2,)]
    alter(-1, "Europe/Berlin")
    assert servers.rows(servers.proxy, faults) == servers.rows(servers.proxy, zones) == []


async def test_a_purge_says_what_it_freed_and_left_on_each_node(servers: Installation, service: ServiceProcess) -> None:
    """The service announces the one and tries the other again."""
    names = one_of_each(servers)
    async with service.client() as client:
        for node, business_id in zip(servers.partitions, names, strict=True):
            await make_business(client, business_id)
            await hold(client, business_id)
            expire = "UPDATE booking.reservations SET expires_at = created_at WHERE business_id = %s RETURNING 1"
            servers.rows(node, expire, business_id)
            servers.rows(node, "SELECT booking.recount(%s, 'infinity')", business_id)

    def purge() -> tuple[list[str], list[str]]:
        query = "SELECT freed, busy FROM booking.purge(%s, '1 day', 5, 'infinity')"
        [(freed, busy)] = servers.rows(servers.proxy, query, names)
        return [one["business_id"] for one in freed], busy

    with psycopg.connect(servers.partitions[1].url("holdfast")) as rival:
        rival.execute("SELECT FROM booking.businesses WHERE business_id = %s FOR UPDATE", names[1:])
        assert purge() == (names[:1], names[1:])
    assert purge() == (names[1:], [])


async def test_a_public_call_names_a_business_by_its_slug(servers: Installation, service: ServiceProcess) -> None:
    """The slug is looked up on its node, and the hold is made on that of the business."""
    async with service.client() as client:
        for number, business_id in enumerate(one_of_each(servers)):
            await make_business(client, business_id, slug=f"by-slug-{number}")
            await hold(client, f"by-slug-{number}")
            assert partitions_with(servers, "reservations", business_id) == [number]


async def test_lists_over_all_businesses_have_the_order_of_one_server(
    servers: Installation, service: ServiceProcess
) -> None:
    """Businesses that are equally busy by their ids, and the invariants as a node reports them."""
    ids = [servers.business(partition, next(NUMBERS)) for partition in (0, 1, 0, 1, 0, 1)]
    for server in servers.partitions:  # no other business is as busy
        servers.rows(server, "UPDATE booking.reservations SET created_at = created_at - interval '30 days' RETURNING 1")
        servers.rows(server, "UPDATE booking.appointments SET created_at = created_at - interval '30 days' RETURNING 1")
    async with service.client() as client:
        for business_id in ids:
            await make_business(client, business_id)
            await hold(client, business_id)
        overview = (await client.get("/api/operations/overview", headers=ADMIN)).json()
        health = (await client.get("/health/reservations")).json()
    assert [one["businessId"] for one in overview["businesses"] if one["businessId"] in ids] == sorted(ids)
    [north, _] = servers.partitions
    of_node = servers.rows(north, "SELECT invariant FROM booking.invariant_violations(true)")
    reported = [*health["invariantViolations"]]
    assert reported[: len(of_node)] == [invariant for (invariant,) in of_node]


def strays(servers: Installation) -> list[tuple[str, str]]:
    """Returns the slugs whose claim and business disagree."""
    return servers.rows(servers.proxy, "SELECT slug, business_id FROM booking.stray_slugs()")
