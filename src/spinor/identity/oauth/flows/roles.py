"""What a person can let a program do, in plain words."""

from collections.abc import Sequence

import msgspec

from spinor.access import Scope, scopes_of
from spinor.db import Tx
from spinor.identity import rules, store
from spinor.identity.models import Member, Person
from spinor.identity.oauth.flows.models import Allowed
from spinor.identity.oauth.flows.requests import granted_scope

WORDS: dict[str, str] = {
    Scope.SELF_READ: "see who you are and which roles you have",
    Scope.SELF_WRITE: "end your sign-ins, and link or unlink your logins",
    Scope.PROXIES_USE: "keep a grid proxy of yours, and get proxies from it",
    Scope.TOKENS_CREATE: "get tokens that open storages and computing elements to you",
    Scope.MEMBERS_MANAGE: "let people into the VO and suspend them there",
    Scope.IDENTITY_MANAGE: "let people into every VO, suspend and ban them",
    Scope.CONFIG_READ: "read the service's operations data",
    Scope.CONFIG_WRITE: "change the service's operations data",
    Scope.RESOURCES_READ: "see sites, computing and storage elements",
    Scope.RESOURCES_MANAGE: "ban, drain and test the sites that you look after",
    Scope.RESOURCES_OPERATE: "ban, drain and test every site",
    Scope.FILES_READ: "find and read files of the VO",
    Scope.FILES_WRITE: "register, change and remove files where you may",
    Scope.FILES_MANAGE: "change and remove any file of the VO",
    Scope.JOBS_READ: "see jobs of the VO, their logs and outputs",
    Scope.JOBS_SUBMIT: "submit jobs as you, and kill or reschedule yours",
    Scope.JOBS_MANAGE: "kill and reschedule any job of the VO",
    Scope.PILOTS_READ: "see pilots of the VO and their logs",
    Scope.PILOTS_MANAGE: "cancel pilots of the VO",
    Scope.PAYLOAD_ACT: "act as the payload of one job",
    Scope.PAYLOAD_PROXY: "get a limited grid proxy for the payload of one job",
    Scope.PILOT_ACT: "act as a pilot",
}


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One of a person's roles, as a choice on a page."""

    member: Member
    words: list[str]  # What it lets the program do.
    usual: bool  # Chosen unless the person chooses another.

    @property
    def name(self) -> str:
        return f"{self.member.vo}/{self.member.group}"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The roles in which a person can let a program in; when there is none, why."""

    roles: list[Role]
    refusal: str = ""

    @property
    def shared_words(self) -> list[str]:
        """What it may do in each of the roles."""
        return [word for word in self.roles[0].words if all(word in role.words for role in self.roles)]

    def more_words(self, role: Role) -> list[str]:
        """What it may do in this role beside that."""
        return [word for word in role.words if word not in self.shared_words]

    def role(self, name: str) -> Role:
        """The role of this name; NoSuchRole when it is none of the choices."""
        for role in self.roles:
            if role.name == name:
                return role
        raise rules.NoSuchRole("Choose one of the roles that the page offers.")


async def choice_for(tx: Tx, person: Person, vo: str, group: str, scope: str) -> Choice:
    """The roles that fit what a program asks."""
    members = await store.list_members_of_user(tx, person.user)
    try:
        rules.chosen_role(members, vo, group)
    except rules.RoleUnclear:
        usual = False  # Roles in several VOs, none of which is more usual than the other.
    except (rules.NoSuchRole, rules.Suspended) as error:
        return Choice(roles=[], refusal=error.message)
    else:
        usual = True
    fitting = [m for m in members if not m.suspended and vo in ("", m.vo) and group in ("", m.group)]
    return _choice(fitting, granted_scope(scope), usual=usual)


def _choice(members: Sequence[Member], asked: str, *, usual: bool) -> Choice:
    able = [(m, rules.narrowed_scopes(asked, _scopes(m))) for m in members]
    roles = [(m, scopes) for m, scopes in able if scopes is not None]
    if not roles:
        unknown = [word for word in asked.split() if word not in WORDS]
        if unknown:
            return Choice(roles=[], refusal=f"It asks for {', '.join(unknown)}, which this service does not know.")
        return Choice(roles=[], refusal="It asks for more than any of your roles may do.")
    first = rules.chosen_role([m for m, _ in roles], roles[0][0].vo, "") if usual else None
    offered = [Role(member=m, words=in_words(scopes), usual=m == first) for m, scopes in roles]
    return Choice(roles=sorted(offered, key=lambda role: not role.usual))


def _scopes(member: Member) -> frozenset[str]:
    return frozenset(scope.value for scope in scopes_of(member.properties))


def in_words(scopes: frozenset[str]) -> list[str]:
    """What these scopes let a program do, in the order of the table."""
    return [words for scope, words in WORDS.items() if scope in scopes]


def allowed_by(person: Person, member: Member) -> Allowed:
    return Allowed(
        user_id=member.user_id,
        vo_id=member.vo_id,
        group_id=member.group_id,
        signed_in_by=person.signed_in_by,
        signed_in_at=person.signed_in_at,
    )
