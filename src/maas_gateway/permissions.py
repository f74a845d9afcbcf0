"""Every permission there is, as `resource:verb`; the text is what tokens and bindings carry."""

from enum import StrEnum


class Permission(StrEnum):
    """One thing a principal may do."""

    TENANT_READ = "tenant:read"
    TENANT_WRITE = "tenant:write"
    TENANT_SUSPEND = "tenant:suspend"
    TENANT_ERASE = "tenant:erase"
    USER_READ = "user:read"
    USER_WRITE = "user:write"
    SERVICE_ACCOUNT_READ = "service-account:read"
    SERVICE_ACCOUNT_WRITE = "service-account:write"
    API_KEY_READ = "api-key:read"
    API_KEY_WRITE = "api-key:write"
    BINDING_READ = "binding:read"
    BINDING_WRITE = "binding:write"
    SHARE_READ = "share:read"
    SHARE_WRITE = "share:write"
    MODEL_READ = "model:read"
    MODEL_WRITE = "model:write"
    MODEL_PROMOTE = "model:promote"
    MODEL_PREDICT = "model:predict"
    MODEL_ERASE = "model:erase"
    POLICY_READ = "policy:read"
    POLICY_WRITE = "policy:write"
    KEYRING_READ = "keyring:read"
    KEYRING_ROTATE = "keyring:rotate"
    KEYRING_RETIRE = "keyring:retire"
    KEYRING_DESTROY = "keyring:destroy"
    OPERATION_READ = "operation:read"
    OPERATION_CANCEL = "operation:cancel"
    USAGE_READ = "usage:read"
    AUDIT_READ = "audit:read"
    AUDIT_EXPORT = "audit:export"

    __hash__ = str.__hash__  # an enumeration's own is Python code, and every request asks for several

    @property
    def resource(self) -> str:
        """The part before the colon."""
        return self.value.partition(":")[0]
