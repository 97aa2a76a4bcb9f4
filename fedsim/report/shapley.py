"""What each member brings to a federation: its Shapley value, from runs of every coalition.

Source: Shapley, "A Value for n-Person Games", Contributions to the Theory of Games II, 1953. The game is
v(S) = the metric of the model that coalition S trained. A player's value is the mean, over all orders of
joining, of what v rises by when the player joins; all 2^n coalitions are needed, and the values add up to
v(all) - v(none).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import factorial, fsum

from fedsim.base import require
from fedsim.report.rows import Key, NoRuns, Rows, Value
from fedsim.report.spec import Shapley, TableSpec
from fedsim.report.values import observe

JOINED = "+"  # between the members in a coalition's label
MOST = 10  # players: 1,023 coalitions

Coalition = frozenset[str]


def members(label: Value) -> Coalition:
    """The coalition that a label names."""
    return frozenset(str(label).split(JOINED))


def values(game: Mapping[Coalition, float]) -> dict[str, float]:
    """Each player's Shapley value.

    Args:
      game: v of every coalition of the players, the empty one too.
    """
    players = sorted(frozenset().union(*game))
    n = len(players)
    found = {}
    for player in players:
        others = [p for p in players if p != player]
        found[player] = fsum(
            factorial(k) * factorial(n - k - 1) / factorial(n) * (game[rest | {player}] - game[rest])
            for k in range(n)
            for rest in map(frozenset, combinations(others, k))
        )
    return found


def by_player(
    shapley: Shapley, dimensions: Sequence[str], found: Mapping[Key, Mapping[Value, float]]
) -> dict[Key, dict[Value, float]]:
    """Values of coalitions by seed -> values of players by seed, each of one seed's runs alone.

    A seed is undefined where one of its coalitions is, and left out where one of them has no run.

    Raises:
      RequestError: too many players; NoRuns: a coalition has no run at all.
    """
    at = dimensions.index(shapley.over)
    games: dict[Key, dict[Value, dict[Coalition, float]]] = {}
    for key, seeds in found.items():
        for seed, value in seeds.items():
            game = games.setdefault(key[:at] + key[at + 1 :], {}).setdefault(
                seed, {frozenset(): shapley.empty}
            )
            game[members(key[at])] = value
    players = players_of(key[at] for key in found)
    need = coalitions(players)
    made: dict[Key, dict[Value, float]] = {}
    for rest, seeds_of in games.items():
        lacking = need - frozenset().union(*seeds_of.values())
        if lacking:
            raise NoRuns(
                f"shapley: no finished run of {shapley.over}={_listed(lacking)}; run it, or keep fewer"
            )
        for seed, game in seeds_of.items():
            if need <= game.keys():
                for player, value in values(game).items():
                    made.setdefault((*rest[:at], player, *rest[at:]), {})[seed] = value
    if found and not made:
        raise NoRuns(
            f"shapley: no seed has a finished run of every coalition in {shapley.over}; run the rest"
        )
    return made


def players_of(labels: Iterable[Value]) -> list[str]:
    """Everyone in some coalition. Raises RequestError where these are too many."""
    players = sorted(frozenset().union(*map(members, labels)))
    require(
        len(players) <= MOST, f"shapley is exact for at most {MOST} players, got {len(players)}; keep fewer"
    )
    return players


def coalitions(players: Sequence[str]) -> frozenset[Coalition]:
    """Every coalition, the empty one too."""
    return frozenset(frozenset(c) for k in range(len(players) + 1) for c in combinations(players, k))


def runs_of(
    shapley: Shapley, dimensions: Sequence[str], behind: Mapping[Key, Mapping[Value, str]], key: Key
) -> dict[Value, str]:
    """{`coalition/seed`: id} of the runs behind a player's cell: those of every coalition."""
    at = dimensions.index(shapley.over)
    rest = key[:at] + key[at + 1 :]
    return {
        f"{other[at]}/{seed}": run
        for other, seeds in behind.items()
        if other[:at] + other[at + 1 :] == rest
        for seed, run in seeds.items()
    }


def same_rows(rows: Rows, spec: TableSpec, shapley: Shapley, dimensions: Sequence[str]) -> None:
    """Raise RequestError unless all coalitions of a seed are judged on as many rows: else v is no game."""
    kept = [d for d in dimensions if d != "metric"]
    sizes = observe(rows, level=spec.level, metrics=["n"], dimensions=kept, where=spec.where, at=spec.round)
    place = kept.index(shapley.over)
    first: dict[tuple[Key, Value], tuple[Value, float]] = {}
    for key, seeds in sizes.items():
        for seed, n in seeds.items():
            label, usual = first.setdefault((key[:place] + key[place + 1 :], seed), (key[place], n))
            require(
                n == usual,
                f"shapley: {shapley.over}={key[place]} is judged on {n:g} rows and {label} on {usual:g} "
                f"(seed {seed}); judge all coalitions on the same rows, such as an external site's",
            )


def note(shapley: Shapley) -> str:
    """What the values are."""
    return (
        "Shapley values: what a member adds to the metric, mean over all orders of joining, exact from every "
        f"coalition of {shapley.over} within each seed. Without anyone it is {shapley.empty:g} by "
        "definition; members' values add up to what all have together, less that."
    )


def _listed(lacking: Iterable[Coalition]) -> str:
    return ", ".join(sorted(JOINED.join(sorted(c)) for c in lacking))
