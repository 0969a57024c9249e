"""Every route names its scope or says why it is public, and is described."""

import re

from spinor import openapi
from spinor.access import SCOPES_BY_PROPERTY, Scope
from spinor.app import all_routes
from spinor.http import Public

PUBLIC = {
    ("GET", "/api/health"),
    ("GET", "/api/openapi.json"),
    ("GET", "/api/docs"),
    ("GET", "/api/config/schema"),
    ("GET", "/api/schemas/job.json"),
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/.well-known/jwks.json"),
    ("POST", "/api/auth/token"),
    ("POST", "/api/auth/revoke"),
    ("GET", "/api/auth/authorize"),
    ("POST", "/api/auth/authorize"),
    ("POST", "/api/auth/device_authorization"),
    ("GET", "/device"),
    ("POST", "/device"),
    ("POST", "/device/decision"),
    ("POST", "/api/auth/introspect"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/oauth-authorization-server/vo/{vo}"),
    ("GET", "/.well-known/openid-configuration/vo/{vo}"),
    ("GET", "/.well-known/oauth-protected-resource"),
    ("GET", "/vo/{vo}/.well-known/openid-configuration"),
    ("GET", "/vo/{vo}/jwks.json"),
    ("POST", "/api/pilot/enrol"),
    ("GET", "/api/x509/ca.pem"),
    ("GET", "/api/x509/crl"),
    ("GET", "/api/x509/signing_policy"),
    ("GET", "/api/x509/namespaces"),
    ("GET", "/api/x509/lsc"),
    ("GET", "/api/identity-providers"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/login/{provider}"),
    ("GET", "/login/{provider}/callback"),
    ("GET", "/logout"),
    ("POST", "/logout"),
    ("GET", "/register"),
    ("POST", "/register"),
    ("GET", "/account"),
    ("GET", "/account/link/{provider}"),
    ("POST", "/account/link/{provider}"),
}


def test_every_route_declares_a_scope_or_why_it_has_none() -> None:
    assert all(isinstance(route.scope, Scope | Public) for route in all_routes())


def test_the_public_routes_are_these_and_no_others() -> None:
    public = {(route.method, route.path) for route in all_routes() if isinstance(route.scope, Public)}
    assert public <= PUBLIC
    assert ("POST", "/api/pilot/enrol") in public


def test_pilot_routes_take_pilot_tokens_only() -> None:
    for route in all_routes():
        if route.path.startswith("/api/pilot/") and route.path != "/api/pilot/enrol":
            assert route.scope is Scope.PILOT_ACT, route.path
        else:
            assert route.scope is not Scope.PILOT_ACT, route.path


def test_no_property_gives_the_scope_of_a_pilot() -> None:
    assert not [name for name, scopes in SCOPES_BY_PROPERTY.items() if Scope.PILOT_ACT in scopes]


def test_every_scope_is_used_by_a_route_or_a_verb() -> None:
    used = {route.scope for route in all_routes()}
    in_verbs = {
        Scope.FILES_MANAGE,
        Scope.JOBS_MANAGE,
        Scope.IDENTITY_MANAGE,
        Scope.RESOURCES_OPERATE,
    }  # Asked for inside verbs, on top of the route's own scope.
    assert set(Scope) - used <= in_verbs


def test_every_route_is_described_once() -> None:
    addresses = [(route.method, route.path) for route in all_routes()]
    assert len(addresses) == len(set(addresses))
    names = [route.verb.__name__ for route in all_routes()]
    assert len(names) == len(set(names)), "operation ids repeat"
    assert all(route.summary for route in all_routes())


def test_the_description_is_openapi_3_1_and_complete() -> None:
    document = openapi.document(all_routes())
    assert document["openapi"].startswith("3.1")
    for route in all_routes():
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.verb.__name__
    text = str(document)
    references = set(re.findall(r"#/components/schemas/([\w.]+)", text))
    assert references <= set(document["components"]["schemas"])


def test_the_docs_page_needs_nothing_from_elsewhere() -> None:
    page = openapi.page(all_routes())
    assert "<script" not in page
    assert "http://" not in page
    assert all(route.path in page for route in all_routes())
