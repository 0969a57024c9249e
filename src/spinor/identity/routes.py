"""Who one is, over HTTP."""

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.http import Routes
from spinor.identity import service
from spinor.identity.delegation.routes import routes as delegation_routes
from spinor.identity.federation.routes import routes as federation_routes
from spinor.identity.models import WhoAmI
from spinor.identity.oauth.routes import routes as oauth_routes
from spinor.identity.people.routes import routes as people_routes

routes = Routes("identity")


@routes.get("/api/auth/whoami", scope=Scope.SELF_READ)
async def whoami(tx: Tx, caller: Caller) -> WhoAmI:
    """Say who you are, what you may, and which roles you could take."""
    return await service.who_am_i(tx, caller)


routes.all += [*oauth_routes.all, *people_routes.all, *delegation_routes.all]
routes.all += federation_routes.all
