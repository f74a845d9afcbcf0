"""TLS of the gRPC port, from the same files as the HTTP port's.

Rules: each new connection is asked for the certificate in force; with client authorities a client either must bring a
certificate or is not asked for one, since the library knows no third way.

Source: gRPC Python API, `dynamic_ssl_server_credentials`.
"""

from collections.abc import Callable

import grpc

from maas_gateway.web.tls import TLSIdentity


def credentials_of(identity: Callable[[], TLSIdentity], *, requires_client: bool) -> grpc.ServerCredentials:
    """Return credentials that follow a certificate.

    Args:
        identity: returns what is in force; called from a thread of the library's, for each connection.
        requires_client: whether a client must bring a certificate.
    """
    told = identity()
    first = _configured(told, requires_client=requires_client)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        found = identity()
        if found is told:
            return None  # no change
        configured = _configured(found, requires_client=requires_client)
        told = found
        return configured

    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=requires_client)


def _configured(identity: TLSIdentity, *, requires_client: bool) -> grpc.ServerCertificateConfiguration:
    authorities = identity.authorities if requires_client else None
    return grpc.ssl_server_certificate_configuration([(identity.key, identity.chain)], authorities)
