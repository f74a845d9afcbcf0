"""May this principal do this, here: decided from values alone, refused unless something permits it.

Rules, in this order:
- What the caller may not read does not exist: `NotFound`, with the text of a thing that is not there.
- What it may read and not use so: `PermissionDenied`.
- An act that names no thing: `PermissionDenied`.
- Another tenant's thing does not exist.
"""

from typing import Final

from maas_gateway.errors import InvalidRequest, ModelNotFound, NotFound, PermissionDenied
from maas_gateway.identifiers import ModelRef, TenantId, check_model_reference
from maas_gateway.permissions import Permission
from maas_gateway.policy.roles import ROLES, may_be_bound
from maas_gateway.principal import Principal

_NO_MODELS: Final[frozenset[Permission]] = frozenset()


def is_permitted(principal: Principal, permission: Permission, model: str | None = None) -> bool:
    """Tell whether a binding of the principal gives `permission`, on the tenant or on `model`."""
    if permission in principal.everywhere:
        return True
    return model is not None and permission in principal.on_models.get(model, _NO_MODELS)


def authorize(principal: Principal, permission: Permission) -> None:
    """Refuse an act that names no thing.

    Raises:
        PermissionDenied: no binding on the whole tenant gives `permission`.
    """
    if permission not in principal.everywhere:
        raise PermissionDenied(f"this needs the permission {permission}")


def authorize_model(principal: Principal, permission: Permission, model: ModelRef) -> None:
    """Refuse an act on a model of the principal's tenant.

    Raises:
        ModelNotFound: the principal may not know whether the model exists.
        PermissionDenied: it may, and may not do this.
    """
    if is_permitted(principal, permission, model.name) and is_permitted(principal, Permission.MODEL_READ, model.name):
        return
    if not is_permitted(principal, Permission.MODEL_READ, model.name):
        raise ModelNotFound(f"model '{model}' not found")
    raise PermissionDenied(f"this needs the permission {permission} on model '{model.name}'")


def authorize_binding(principal: Principal, role: str, model: str | None, *, named: str) -> None:
    """Refuse to give somebody a role, on the principal's tenant or on a model.

    Args:
        principal: who gives it.
        role: its name.
        model: one of the tenant's own, or one that is shared with it; None for the whole tenant.
        named: how a refusal begins, the field in which the caller named it first.

    Raises:
        InvalidRequest: there is no such role, it cannot be bound there, or no model can have that name.
        PermissionDenied: it permits more than the principal has.
    """
    if not may_be_bound(role, principal.tenant, to_model=model is not None):
        raise InvalidRequest(f"{named} '{role}' cannot be bound here")
    if not ROLES[role] <= principal.everywhere:
        raise PermissionDenied(f"{named} '{role}' permits more than you are permitted")
    if model is not None:
        check_model_reference(model)


def authorize_thing(principal: Principal, permission: Permission, owner: TenantId, *, absent: NotFound) -> None:
    """Refuse an act on a named thing that `owner` owns.

    Args:
        principal: who asks.
        permission: what the act needs.
        owner: whose the thing is.
        absent: what would be raised if the thing did not exist.

    Raises:
        NotFound: `absent`, where the thing is another tenant's or the principal may not read its kind.
        PermissionDenied: it may read it, and may not do this.
    """
    may_read = Permission(f"{permission.resource}:read") in principal.everywhere
    if owner != principal.tenant or not may_read:
        raise absent
    authorize(principal, permission)
