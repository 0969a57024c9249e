"""The C library with which storages and computing elements verify VOMS attributes; voms-proxy-info only shows them."""

import ctypes
from pathlib import Path

_VERIFY_FULL = 0xFFFFFFFF
_RECURSE_CHAIN = 0


def voms_error(proxy: Path, certificates: Path, vomsdir: Path) -> int:
    """0 when libvomsapi accepts the attributes of a proxy, otherwise the number of its refusal (voms_api.h)."""
    crypto, voms = ctypes.CDLL("libcrypto.so.3"), ctypes.CDLL("libvomsapi.so.1")
    for function in (crypto.BIO_new_file, crypto.PEM_read_bio_X509, crypto.OPENSSL_sk_new_null, voms.VOMS_Init):
        function.restype = ctypes.c_void_p
    bio = ctypes.c_void_p(crypto.BIO_new_file(bytes(proxy), b"r"))
    chain = ctypes.c_void_p(crypto.OPENSSL_sk_new_null())
    read = []
    while certificate := crypto.PEM_read_bio_X509(bio, None, None, None):
        read.append(ctypes.c_void_p(certificate))
    crypto.ERR_clear_error()  # It tells that the file has ended.
    for each in read[1:]:
        crypto.OPENSSL_sk_push(chain, each)
    data = ctypes.c_void_p(voms.VOMS_Init(bytes(vomsdir), bytes(certificates)))
    error = ctypes.c_int(0)
    assert voms.VOMS_SetVerificationType(ctypes.c_uint(_VERIFY_FULL), data, ctypes.byref(error))
    accepted = voms.VOMS_Retrieve(read[0], chain, _RECURSE_CHAIN, data, ctypes.byref(error))
    voms.VOMS_Destroy(data)
    crypto.BIO_free(bio)
    crypto.ERR_clear_error()  # Python's ssl would take what is left for an error of its own.
    return 0 if accepted else error.value
