"""`spinor proxy`: grid proxies here, and those that the service keeps."""

import click

from spinor.identity.delegation.cli import here, kept


@click.group()
def proxy() -> None:
    """Make, look at, delegate and fetch grid proxies.

    A proxy file lies at $X509_USER_PROXY or /tmp/x509up_u<uid>, where all grid software looks for it.
    """


for command in (here.init, here.info, here.destroy, kept.upload, kept.list_kept, kept.download, kept.new, kept.remove):
    proxy.add_command(command)
proxy.add_command(kept.link)
