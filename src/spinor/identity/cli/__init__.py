"""`spinor login`, `logout`, `whoami` and `token`.

`login` chooses one of the ways to tokens, each of which has a file: `development`, `in_browser`, `by_device`; that by a
grid proxy is the delegation's.
"""

from spinor.identity.cli.account import logout, token, whoami
from spinor.identity.cli.development import development_login
from spinor.identity.cli.login import login

__all__ = ["development_login", "login", "logout", "token", "whoami"]
