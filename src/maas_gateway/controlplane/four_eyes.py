"""Whether whoever releases or promotes a version is another than who uploaded it, where the tenant asks for that.

Rules: an API key is whoever it acts for; a program is also whoever was told its secret or that of an API key of it, a
user also whoever was told a password that the user has not changed since, and so on, because these could have acted in
its place; who that was is bound in the version's manifest when it is uploaded, and looked up again for whoever acts now. Of a version from before
that was noted only the uploader's name is known.

Protects against one person, or one stolen credential, bringing a version from a file into service. Not against two who
agree, nor against an owner who switches the rule off, or makes a second account and has it choose a password of its
own: that is on record.
"""

from typing import Final

from maas_gateway.accounts import store as accounts
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import PermissionDenied
from maas_gateway.identifiers import SubjectId
from maas_gateway.principal import Principal
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.manifest import check_bound
from maas_gateway.registry.model import ModelVersion

_MAX_ACCOUNTS: Final = 64
"""Accounts of which one was told another's secret: where there are more, no further one is looked up."""


async def behind(session: TenantSession, principal: Principal) -> tuple[SubjectId, ...]:
    """Return who may be acting: the principal's own account, then whoever was told its secret, and so on."""
    found = [principal.subject]
    for subject in found:  # which grows meanwhile
        if len(found) < _MAX_ACCOUNTS:
            found += sorted(await accounts.told_to(session, subject) - set(found))
    return tuple(found)


async def require_second_person(
    session: TenantSession, artifacts: Artifacts, principal: Principal, version: ModelVersion
) -> None:
    """Refuse whoever uploaded the version, if the tenant asks for a second person.

    Args:
        session: of the tenant.
        artifacts: verifies the version's manifest, so that no row can name another uploader.
        principal: who releases or promotes it.
        version: as the registry's rows say.

    Raises:
        PermissionDenied: the caller uploaded it, or may have.
        SignatureRejected: the version is not what its manifest says.
    """
    if not (await store.publishing_rules(session)).requires_second_person:
        return
    check_bound(await artifacts.manifest(version), version)
    what = f"this tenant asks for a second person: version {version.version} of '{version.model}'"
    if principal.name == version.created_by or principal.subject in (version.uploaders or ()):
        raise PermissionDenied(f"{what} is your own upload; have somebody else with model:promote do this")
    if not set(await behind(session, principal)).isdisjoint(version.uploaders or ()):
        raise PermissionDenied(
            f"{what} was uploaded by {version.created_by}, and one of you was told the other's secret; change the"
            " password, or have somebody else with model:promote do this"
        )
