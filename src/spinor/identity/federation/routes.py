"""Federation over HTTP: pages for people, and what programs ask."""

from spinor.http import Routes
from spinor.identity.federation import account, api, joining, login

routes = Routes("federation")
routes.all += login.routes.all + joining.routes.all + account.routes.all + api.routes.all
