"""When a call that failed for a passing reason is made again."""

from service.database.failures import pauses


def test_pauses_double_and_differ() -> None:
    """Before the second to the fifth attempt; up to half longer by chance, so that calls don't meet again."""
    many = [[*pauses()] for _ in range(50)]
    for taken in many:
        assert [0.1 <= pause / 2**number <= 0.15 for number, pause in enumerate(taken)] == [True] * 4
    assert len({tuple(taken) for taken in many}) == 50
