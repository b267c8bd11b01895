"""What a table's cells say about the claims that are made of it."""

from dataclasses import dataclass

from lightning_dws.counting import counted
from lightning_dws.table.published import Claim
from lightning_dws.table.results import Entry, Results
from lightning_dws.table.statistics import Estimate

MARGIN = 1.0  # points of a share that count as no harm


@dataclass(frozen=True)
class Finding:
    """What the cells of one dataset say about a claim.

    Attributes:
        claim: The claim.
        dataset: Where.
        columns: Model and views; ``all`` for the mean over all of them.
        estimate: The difference, above zero where the first row is better.
        decimals: That it is shown with.
    """

    claim: Claim
    dataset: str
    columns: str
    estimate: Estimate
    decimals: int = 1

    @property
    def verdict(self) -> str:
        """Say whether the claim is ``shown``, ``contradicted`` or ``undecided``.

        One seed decides nothing: its interval leaves out how runs differ.
        """
        if self.estimate.num_seeds < 2:
            return "undecided"
        low, high = self.estimate.low, self.estimate.high
        if self.claim.expected == "below":
            low, high = -high, -low
        bound = -MARGIN if self.claim.expected == "harmless" else 0.0
        if high < bound:
            return "contradicted"
        return "shown" if low > bound else "undecided"


def examine_claims(results: Results) -> list[Finding]:
    """Give every claim that the cells on disk say something about: overall, then by column.

    Whether a row is harmless is asked of shares alone: of others no margin is known.
    """
    findings = []
    for claim in results.table.claims:
        for dataset in results.table.datasets:
            pairs = _pairs(claim, dataset, results)
            if len(pairs) > 1 and len({results.score(first) for first, _ in pairs.values()}) == 1:
                pooled = results.difference(list(pairs.values()))
                if pooled is not None:
                    decimals = max(results.decimals(first) for first, _ in pairs.values())
                    findings.append(Finding(claim, dataset, "all", pooled, decimals))
            for columns, pair in pairs.items():
                estimate = results.difference([pair])
                assert estimate is not None
                decimals = results.decimals(pair[0])
                findings.append(Finding(claim, dataset, columns, estimate, decimals))
    return findings


def _pairs(claim: Claim, dataset: str, results: Results) -> dict[str, tuple[Entry, Entry]]:
    """Give the pairs of entries that can be compared, by column."""
    pairs = {}
    for model in results.table.models:
        for views in results.table.views:
            if claim.first_views not in (None, views):
                continue
            pair = (
                Entry(claim.first, model, dataset, views),
                Entry(claim.second, model, dataset, claim.second_views or views),
            )
            has_margin = claim.expected != "harmless" or results.score(pair[0]).kind.in_percent
            if has_margin and results.difference([pair]) is not None:
                name = model if claim.first_views else f"{model}, {counted(views, 'view')}"
                pairs[name] = pair
    return pairs
