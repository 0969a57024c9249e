"""What sandboxes may take, in the operations data: faults are found, and the limits in force follow."""

import pytest

from spinor.configuration import service
from spinor.configuration.models import SandboxLimits
from tests.conftest import World

DOCUMENT = """\
vos:
  astro:
    groups:
      admins: {{properties: [configuration_administrator], members: [ada]}}
    sandboxes: {{{}}}
  bio: {{}}
users:
  ada: {{}}
"""


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("limit: 0", "limit", ">= 1"),
        ("limit: soon", "limit", "soon"),
        ("quota: -1GB", "quota", "-1GB"),
        ("user_quota: 1.5B", "user_quota", "whole number"),
        ("quotas: 1GB", "quotas", "did you mean 'quota'"),
        ("limit: [1]", "limit", "Expected"),
    ],
)
def test_what_is_wrong_is_told(text: str, path: str, message: str) -> None:
    (fault,) = service.validate(DOCUMENT.format(text)).faults
    assert (fault.line, fault.path) == (5, f"vos.astro.sandboxes.{path}")
    assert message in fault.message


async def test_the_newest_revision_is_in_force(world: World) -> None:
    for text, limits in (
        ("", SandboxLimits()),
        ("limit: 250MB, quota: 2TB, user_quota: 100GB", SandboxLimits(
            limit_bytes=250 * 10**6, quota_bytes=2 * 10**12, user_quota_bytes=10**11)),
        ("quota: 5GiB", SandboxLimits(quota_bytes=5 * 2**30)),
    ):  # fmt: skip
        async with world.db.transaction() as tx:
            await service.apply(tx, DOCUMENT.format(text), author="tests")
            assert await service.sandbox_limits(tx, world.ada.vo_id) == limits
            assert await service.sandbox_limits(tx, world.bea.vo_id) == SandboxLimits()
