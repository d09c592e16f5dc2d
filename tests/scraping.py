"""Answers of /metrics, parsed as Prometheus does."""

import httpx2
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """All samples of one answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: list[Metric] = list(text_string_to_metric_families(text))
        self._samples = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Returns the sum of the samples with this name and these labels; None if there is none."""
        found = [
            sample.value for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def labels(self, name: str, label: str) -> set[str]:
        """Returns the values of a label."""
        return {sample.labels[label] for sample in self._samples if sample.name == name}


async def scrape(client: httpx2.AsyncClient) -> Scrape:
    """Scrapes the metrics."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return Scrape(answer.text)


def grown(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    """Returns the increase of a counter."""
    return (after.value(name, **labels) or 0) - (before.value(name, **labels) or 0)
