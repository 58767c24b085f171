"""May this principal do that in the admin API? Asked before anything is parsed; a no is recorded."""

from __future__ import annotations

from hub.audit.recorder import Audit
from hub.identity.principal import Principal
from hub.policy.admission import Admission


def admit(
    admission: Admission, audit: Audit, principal: Principal, action: str, *, operation: str, trace: str = ""
) -> None:
    """Return when `action` is allowed. Raises `Forbidden`, recorded under the operation's name; what may be done is
    recorded by whoever does it.
    """
    if admission.decide(principal, action).allow:
        return
    with audit.recording("admin:denied", principal, target=operation, trace=trace):
        admission.require(principal, action)
