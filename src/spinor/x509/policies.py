"""What a certificate authority may name: the two forms in which IGTF publishes signing policies.

`.signing_policy` (Globus, EACL) has shell patterns, `.namespaces` (EUGridPMA) has regular expressions. Where both are
there for one authority, both must allow a subject.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spinor.x509.dn import canonical_dn

_WORD = re.compile(r"""'[^']*'|"[^"]*"|\S+""")
_RULE = re.compile(
    r"""TO\s+ISSUER\s+(?:"(?P<issuer>[^"]*)"|(?P<self>SELF))\s+(?P<verb>PERMIT|DENY)\s+SUBJECT\s+"(?P<subject>[^"]*)\"""",
    re.IGNORECASE,
)


class PolicyMalformed(ValueError):
    """A signing policy that cannot be read; the authority it stands for then signs nothing here."""


@dataclass(frozen=True)
class Policy:
    """The subjects that one file lets one authority name."""

    permitted: tuple[re.Pattern[str], ...] = ()
    denied: tuple[re.Pattern[str], ...] = ()

    def allows(self, subject: str) -> bool:
        if any(pattern.fullmatch(subject) for pattern in self.denied):
            return False
        return any(pattern.fullmatch(subject) for pattern in self.permitted)


NOTHING = Policy()


@dataclass
class _Draft:
    permitted: list[re.Pattern[str]] = field(default_factory=list)
    denied: list[re.Pattern[str]] = field(default_factory=list)


def read_signing_policy(text: str) -> dict[str, Policy]:
    """The policies of a `.signing_policy` file, by the authority's name."""
    drafts: dict[str, _Draft] = {}
    current: _Draft | None = None
    positive = False
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = [word.strip("'") for word in _WORD.findall(line)]
        if len(words) < 3:
            raise PolicyMalformed(f"{line.strip()!r} is not understood")
        kind, authority, value = words[0].lower(), words[1].lower(), words[2]
        if kind.startswith("access_id"):
            current, positive = None, False
            if kind == "access_id_ca" and authority == "x509":
                current = drafts.setdefault(canonical_dn(value.strip('"')), _Draft())
        elif kind in ("pos_rights", "neg_rights"):
            positive = kind == "pos_rights" and value.upper() == "CA:SIGN"
        elif kind == "cond_subjects":
            if current is not None and positive:
                current.permitted += map(_shell_pattern, _listed(value))
        else:
            raise PolicyMalformed(f"{words[0]!r} is not understood")
    return {name: Policy(tuple(draft.permitted)) for name, draft in drafts.items()}


def _listed(value: str) -> Iterable[str]:
    """The patterns of one value: one, or several in double quotes."""
    return re.findall(r'"([^"]*)"', value) or [value.strip('"')]


def _shell_pattern(pattern: str) -> re.Pattern[str]:
    # Only * and ? are special in these files, so the brackets of fnmatch are quoted.
    return re.compile(fnmatch.translate(canonical_dn(pattern).replace("[", "[[]")))


def read_namespaces(text: str, own_names: Iterable[str]) -> dict[str, Policy]:
    """The policies of a `.namespaces` file, by the authority's name; SELF stands for `own_names`."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\s*\n", " ", "\n".join(lines))
    drafts: dict[str, _Draft] = {}
    position = 0
    for match in _RULE.finditer(whole):
        if whole[position : match.start()].strip():
            raise PolicyMalformed(f"{whole[position : match.start()].strip()[:80]!r} is not understood")
        position = match.end()
        try:
            pattern = re.compile(canonical_dn(match["subject"]))
        except re.error as error:
            raise PolicyMalformed(f"the pattern {match['subject']!r} is not understood: {error}") from None
        for name in own_names if match["self"] else [canonical_dn(match["issuer"])]:
            draft = drafts.setdefault(name, _Draft())
            (draft.permitted if match["verb"].upper() == "PERMIT" else draft.denied).append(pattern)
    if whole[position:].strip():
        raise PolicyMalformed(f"{whole[position:].strip()[:80]!r} is not understood")
    return {name: Policy(tuple(draft.permitted), tuple(draft.denied)) for name, draft in drafts.items()}


def all_allow(policies: Iterable[Policy], subject: str) -> bool:
    """Whether each policy allows the subject; true when there is none."""
    return all(policy.allows(canonical_dn(subject)) for policy in policies)


def merged(parts: Iterable[Mapping[str, Policy]]) -> dict[str, tuple[Policy, ...]]:
    """By authority: every policy of every file."""
    collected: dict[str, tuple[Policy, ...]] = {}
    for part in parts:
        for name, policy in part.items():
            if policy not in collected.get(name, ()):
                collected[name] = (*collected.get(name, ()), policy)
    return collected
