"""The page over https: the certificate and key that the settings name, tried before anything is served."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import NoReturn

from i2v.messages import UserError
from i2v.settings.settings import Settings


def certificate(settings: Settings) -> tuple[Path, Path] | None:
    """The files of the certificate and its key, which work together; None for http. Raises UserError where one is
    missing, cannot be read, or is not what it should be."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, missing = ("tls_key", "tls_cert") if cert is None else ("tls_cert", "tls_key")
        raise UserError("ui.tls_half", given=given, missing=missing)
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UserError("ui.tls_missing", key=name, file=str(path), reason=reason) from error
    try:
        # Asked for a passphrase, OpenSSL would stop and wait for somebody at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_passphrase)
    except (ssl.SSLError, _Passphrase, OSError) as error:
        problem = getattr(error, "reason", None) or str(error)
        raise UserError("ui.tls_wrong", cert=str(cert), key=str(key), problem=problem) from error
    return cert, key


class _Passphrase(Exception):
    """The key asks for one."""


def _no_passphrase() -> NoReturn:
    raise _Passphrase("the key asks for a passphrase")
