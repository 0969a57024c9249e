"""Fair share in core-seconds: first between the groups of a VO, then between the users of a group.

Whoever has used least, compared with its share, goes first. Use is forgotten with a half-life. Nobody is kept back
where nobody else waits: only those who wait are compared, and what one leaves idle is divided among the others.
"""

import numpy as np
from numpy.typing import NDArray

from spinor.configuration.work import HALF_LIFE_S as HALF_LIFE_S
from spinor.configuration.work import VOShares

SHARE = 1.0  # Of whoever the operations data do not name.

# What runs now counts as if it had run for so long already. Without it, all that is given before the next look at the
# use would go to one; with it, who has equal shares gets jobs in turns.
LOOK_AHEAD_S = 600.0


def decayed(core_s: float, age_s: float, half_life_s: float) -> float:
    """What is left of a use that was counted so long ago."""
    return core_s * float(0.5 ** (max(0.0, age_s) / half_life_s))


def charged(core_s: float, cores: float, elapsed_s: float, half_life_s: float) -> float:
    """The use after so many cores ran for so long, forgetting meanwhile.

    The integral of cores * 2^(-age/half_life), so that it does not matter how often it is counted.
    """
    rate = np.log(2.0) / half_life_s
    return float(core_s * np.exp(-rate * elapsed_s) - cores * np.expm1(-rate * elapsed_s) / rate)


class Standing:
    """Use and shares of one VO at a moment. A *leaf* is a user in a group; places in the arrays are given by `leaf`."""

    def __init__(self, shares: VOShares | None = None) -> None:
        self.shares = shares or VOShares()
        self._groups: dict[str, int] = {}
        self._leaves: dict[tuple[str, str], int] = {}
        self.group_of: NDArray[np.int64] = np.empty(0, np.int64)
        self._leaf_use: NDArray[np.float64] = np.empty(0)
        self._leaf_share: NDArray[np.float64] = np.empty(0)
        self._group_use: NDArray[np.float64] = np.empty(0)
        self._group_share: NDArray[np.float64] = np.empty(0)
        self.leaf_keys: NDArray[np.float64] = np.empty(0)
        self.group_keys: NDArray[np.float64] = np.empty(0)

    def leaf(self, group: str, user: str) -> int:
        """The place of a leaf, from now on."""
        found = self._leaves.get((group, user))
        if found is None:
            found = self._leaves[group, user] = len(self._leaves)
            if group not in self._groups:
                self._groups[group] = len(self._groups)
                self._group_use = np.append(self._group_use, 0.0)
                self._group_share = np.append(self._group_share, self.shares.groups.get(group, SHARE))
            self.group_of = np.append(self.group_of, self._groups[group])
            self._leaf_use = np.append(self._leaf_use, 0.0)
            self._leaf_share = np.append(self._leaf_share, self.shares.users.get(user, SHARE))
            self._rank()
        return found

    def share_out(self, shares: VOShares) -> None:
        """Other shares from now on."""
        self.shares = shares
        self._group_share = np.array([shares.groups.get(group, SHARE) for group in self._groups], np.float64)
        self._leaf_share = np.array([shares.users.get(user, SHARE) for _, user in self._leaves], np.float64)
        self._rank()

    def tell(self, core_s: NDArray[np.float64], cores: NDArray[np.float64]) -> None:
        """The use of each leaf: core-seconds as forgotten until now, and cores that run now."""
        self._leaf_use = core_s + cores * LOOK_AHEAD_S
        self._group_use = np.bincount(self.group_of, self._leaf_use, len(self._groups)).astype(np.float64)
        self._rank()

    @property
    def leaves(self) -> dict[tuple[str, str], int]:
        """The places by group and user."""
        return self._leaves

    def grant(self, leaf: int, cores: float) -> None:
        """So many cores more run for this leaf (less, when negative)."""
        ahead, group = cores * LOOK_AHEAD_S, self.group_of[leaf]
        self._leaf_use[leaf] += ahead
        self._group_use[group] += ahead
        self.leaf_keys[leaf] = self._leaf_use[leaf] / self._leaf_share[leaf]
        self.group_keys[group] = self._group_use[group] / self._group_share[group]

    def _rank(self) -> None:
        self.leaf_keys = self._leaf_use / self._leaf_share
        self.group_keys = self._group_use / self._group_share
