"""May this principal do that? The one seam that filters lists and refuses calls, for every face.

Pure and without I/O: only the principal's scopes decide, compiled once per distinct set. It never looks into
payloads (guardrails do), and it only refuses; nothing here widens what a scope says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.catalog.snapshot import Target
from hub.errors import Forbidden, HubError, InvalidParams, NotFound
from hub.identity.principal import Principal
from hub.policy.actions import ACTIONS
from hub.policy.rules import Rules, compile_rules

COMPILED_SETS = 4096
"""Distinct sets of scopes kept compiled; a set costs about a kilobyte, and compiling one about 10 µs."""

FAMILY = {action.name: action.family for action in ACTIONS}
NOUN = {"tool:call": "tool", "prompt:get": "prompt", "resource:read": "resource", "model:use": "model"}


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, and the rule that said so (for the audit and for `explain`, never for the caller)."""

    allow: bool
    rule: str


class Withheld(InvalidParams):
    """A thing this caller may not know of: on the wire what an unknown name gets; in the audit, a denial."""

    outcome = "denied"


class WithheldModel(NotFound):
    """Likewise for a model, in the words of the model face."""

    outcome = "denied"


DENIED_CALL = Decision(False, "no scope for this server or name")
DENIED_MODEL = Decision(False, "no scope for this model")
DENIED_READ = Decision(False, "no scope admin or admin:read")
DENIED_WRITE = Decision(False, "no scope admin")
DENIED_ACTION = Decision(False, "no such action")
ALL_CALLS = Decision(True, "scope call")
ALL_MODELS = Decision(True, "scope models")
READS = Decision(True, "scope admin or admin:read")
WRITES = Decision(True, "scope admin")


class Admission:
    """Decides, lists and refuses by the same rules."""

    def __init__(self) -> None:
        self._compiled: dict[frozenset[str], Rules] = {}

    def decide(self, principal: Principal, action: str, server: str = "", name: str = "") -> Decision:
        """Whether `principal` may do `action` (a name of `actions.ACTIONS`) with `name` of `server`.

        `name` is the server's own name (`Target.name`), or the model's for `model:use`. An unknown action is refused.
        """
        rules = self.rules(principal)
        family = FAMILY.get(action)
        if family == "call":
            if rules.all_calls:
                return ALL_CALLS
            if server in rules.servers:
                return Decision(True, f"scope call:{server}")
            if (server, name) in rules.names:
                return Decision(True, f"scope call:{server}/{name}")
            return DENIED_CALL
        if family == "models":
            if rules.all_models:
                return ALL_MODELS
            return Decision(True, f"scope models:{name}") if name in rules.models else DENIED_MODEL
        if action == "admin:read":
            return READS if rules.reads else DENIED_READ
        if action == "admin:write":
            return WRITES if rules.writes else DENIED_WRITE
        return DENIED_ACTION

    def visible(self, principal: Principal, targets: Sequence[Target]) -> Sequence[Target]:
        """Those of `targets` that the principal could call: the same object when that is all of them."""
        rules = self.rules(principal)
        if rules.all_calls:
            return targets
        servers, names = rules.servers, rules.names
        return tuple(one for one in targets if one.server in servers or (one.server, one.name) in names)

    def calls(self, principal: Principal) -> bool:
        """Whether the principal may call anything at all behind MCP: what the hub's own tools there ask for."""
        rules = self.rules(principal)
        return rules.all_calls or bool(rules.servers or rules.names)

    def require(
        self, principal: Principal, action: str, server: str = "", name: str = "", exposed: str = ""
    ) -> Decision:
        """The decision when it allows; otherwise raise what the caller may be told.

        Behind MCP and for models that is the error of an unknown name (`exposed` is the name as the caller said it);
        for the admin API it is `Forbidden` with the scope that is needed.
        """
        decision = self.decide(principal, action, server, name)
        if decision.allow:
            return decision
        family = FAMILY.get(action)
        if family == "call":
            raise Withheld(unknown(action, exposed or name).message, reason=f"denied: {decision.rule}")
        if family == "models":
            raise WithheldModel(unknown(action, exposed or name).message, reason=f"denied: {decision.rule}")
        scopes = ["admin"] if action == "admin:write" else ["admin", "admin:read"]
        raise Forbidden(
            f"This needs the scope {' or '.join(scopes)}.",
            hint="Ask an administrator for a key with that scope.",
            reason=f"denied: {decision.rule}",
            data={"scopes": scopes},
        )

    def rules(self, principal: Principal) -> Rules:
        """What the principal's scopes come to; the same object for the same scopes, while it is in use."""
        rules = self._compiled.get(principal.scopes)
        if rules is None:
            if len(self._compiled) >= COMPILED_SETS:
                # Oldest first: a worker sees a handful of sets, so this only bounds what run keys leave behind.
                self._compiled.pop(next(iter(self._compiled)))
            rules = self._compiled[principal.scopes] = compile_rules(principal.scopes)
        return rules


def unknown(action: str, exposed: str) -> HubError:
    """The error of a name that is not there. Callers use it for absent names, so that denied ones look the same."""
    kind = NotFound if FAMILY.get(action) == "models" else InvalidParams
    return kind(f"Unknown {NOUN.get(action, 'name')}: {exposed}")
