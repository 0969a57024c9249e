"""From an element of the operations data to its plugin, and from an order to what the plugin starts pilots with."""

import hashlib
from pathlib import Path

import msgspec

from spinor.errors import SpinorError
from spinor.pilots import bundle
from spinor.pilots.fitting import tags_of
from spinor.pilots.plugin import TIMEOUT_S, ComputingPlugin, ElementSettings, NodeOptions, PilotLaunch, plugin_named
from spinor.pilots.service.factory import Order
from spinor.resources.models import ComputingElement
from spinor.settings import Settings


def plugin_for(element: ComputingElement, settings: Settings) -> ComputingPlugin:
    """The plugin object of an element of the operations data."""
    return plugin_named(element.plugin)(
        ElementSettings(
            name=element.name,
            site=element.site,
            options=element.options,
            directory=settings.ce_dir / element.name,
            url=settings.url,
            secrets=settings.data_dir / "secrets" / "computing",
        )
    )


def launches_for(order: Order, settings: Settings) -> list[PilotLaunch]:
    """What the element needs to start the pilots of an order. Writes the pilot's bundle where it is not there yet."""
    element = order.element
    ca_pem = settings.ca_file.read_text(encoding="ascii") if settings.ca_file else ""
    return [
        PilotLaunch(
            pilot_id=pilot.pilot_id,
            secret=pilot.secret,
            url=settings.url,
            ca_pem=ca_pem,
            vo=pilot.vo,
            cores=element.cores,
            memory_bytes=element.memory_bytes,
            wall_s=element.wall_s,
            tags=[*tags_of(element), *order.tags],
            idle_s=float(element.options.get("idle_s", 15) if order.idle_s is None else order.idle_s),
            grace_s=float(element.options.get("drain_s", 20)),
            node=msgspec.convert(element.options.get("node", {}), NodeOptions),
            bundle=_bundle(settings.ce_dir),
        )
        for pilot in order.pilots
    ]


def _bundle(directory: Path) -> Path:
    """The pilot as one file, below the name of its content: workers of two versions do not disturb each other."""
    data = bundle.content()
    target = directory / "bundles" / hashlib.sha256(data).hexdigest()[:16] / bundle.NAME
    if not target.exists():
        bundle.build(target)
    return target


def words_of(error: BaseException) -> str:
    """What went wrong when an element was called, for people."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    return error.message if isinstance(error, SpinorError) else f"{type(error).__name__}: {error}"
