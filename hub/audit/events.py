"""Every event of the audit: the docstring is its documentation, `name` is what stands in the record.

`server` and `target` of a record mean what the event says here. Arguments, results and secrets are never recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is recorded."""

    name: ClassVar[str]


class ToolCall(Event):
    """A tool was called. `server` has it (`@hub`: the hub itself) as `target`; the detail may tell via what."""

    name = "tool:call"


class PromptGet(Event):
    """A prompt was fetched. `server` and `target` as for a tool."""

    name = "prompt:get"


class ResourceRead(Event):
    """A resource was read or subscribed to. `target` is its URI."""

    name = "resource:read"


class ModelUse(Event):
    """A model was asked for a completion or an embedding. `target` is the model; the detail counts tokens."""

    name = "model:use"


class SessionOpen(Event):
    """A client of the legacy era opened a session. `target` is the endpoint."""

    name = "session:open"


class AccessRefused(Event):
    """A request was refused at the door: a bad key or none, a foreign host, a withheld endpoint. `target`: the path."""

    name = "access:refused"


class AdminDenied(Event):
    """Somebody asked the admin API for what his scopes do not allow. `target` is the operation."""

    name = "admin:denied"


class ServerAdd(Event):
    """A server was registered. `server` is its name."""

    name = "server:add"


class ServerChange(Event):
    """A server's declaration was changed."""

    name = "server:change"


class ServerRemove(Event):
    """A server was removed."""

    name = "server:remove"


class ServerRefresh(Event):
    """A server was asked anew what it offers. The detail says what changed."""

    name = "server:refresh"


class ServerExamine(Event):
    """A server, registered or only declared, was examined by the doctor. The detail names what was found."""

    name = "server:examine"


class ServerCanary(Event):
    """A version of a server began to be tried out, or others get it. The detail says who."""

    name = "server:canary"


class ServerPromote(Event):
    """A version that was tried out took its server's place. The detail names it."""

    name = "server:promote"


class ServerRollback(Event):
    """A version that was tried out was given up. The detail says why, also when the hub did it by itself."""

    name = "server:rollback"


class CollectionChange(Event):
    """A collection was made, changed or removed. `target` is its name."""

    name = "collection:change"


class LimitChange(Event):
    """A limit was made, changed or removed. `target` is its name."""

    name = "limit:change"


class ModelChange(Event):
    """A model was registered, changed or removed. `target` is its name."""

    name = "model:change"


class AgentChange(Event):
    """An agent's manifest was stored or removed. `target` is the agent; the detail says which of the two."""

    name = "agent:change"


class KeyCreate(Event):
    """A key was made. `target` is its id; the detail names its scopes."""

    name = "key:create"


class KeyRevoke(Event):
    """A key was revoked. `target` is its id."""

    name = "key:revoke"


class LinkCreate(Event):
    """A sign-in link was made. `target` is whom it signs in."""

    name = "link:create"


class SignIn(Event):
    """Somebody used a sign-in link. `outcome` is `denied` for a used or old one; of those at most ten a second."""

    name = "signin"


class SignOut(Event):
    """Somebody ended a session."""

    name = "signout"


class Apply(Event):
    """A declaration was applied. The detail counts its changes."""

    name = "apply"


class ReplicasChange(Event):
    """The number of replicas of a child was changed. `target` is the child."""

    name = "replicas:change"


class RunStart(Event):
    """An agent's run began. `target` is the agent, the detail the run."""

    name = "run:start"


class RunFinish(Event):
    """An agent's run ended. `target` is the agent, the detail the run."""

    name = "run:finish"


class RunCancel(Event):
    """A run was asked to stop through the admin API. `target` is the run."""

    name = "run:cancel"


class TaskGet(Event):
    """A caller looked at a task of its own. `server` is where it runs, `target` the task there."""

    name = "task:get"


class TaskUpdate(Event):
    """A caller answered what a task asked. `server` and `target` as for looking."""

    name = "task:update"


class TaskCancel(Event):
    """A caller cancelled a task. `server` and `target` as for looking."""

    name = "task:cancel"


class SegmentOpen(Event):
    """A process began a segment of the spool; links it to the one before. Only in the spool, not in the index."""

    name = "segment:open"


EVENTS: tuple[type[Event], ...] = (
    ToolCall,
    PromptGet,
    ResourceRead,
    ModelUse,
    SessionOpen,
    AccessRefused,
    AdminDenied,
    ServerAdd,
    ServerChange,
    ServerRemove,
    ServerRefresh,
    ServerExamine,
    ServerCanary,
    ServerPromote,
    ServerRollback,
    CollectionChange,
    LimitChange,
    ModelChange,
    AgentChange,
    KeyCreate,
    KeyRevoke,
    LinkCreate,
    SignIn,
    SignOut,
    Apply,
    ReplicasChange,
    RunStart,
    RunFinish,
    RunCancel,
    TaskGet,
    TaskUpdate,
    TaskCancel,
    SegmentOpen,
)
