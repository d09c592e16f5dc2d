"""A clock for code that takes its clock as an argument."""


class ManualClock:
    """Stands still until a test changes `now`."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now
