"""The tree of errors. Every message says what happened; `next_step` says what to do now.

ApplianceError
├── ConfigError                 a setting is wrong (exit code 2)
├── StoreError                  the disk, the database, or what lies in it
│   ├── DiskFullError
│   ├── DamagedError            the file is no database, or a damaged one
│   ├── DatabaseError           the analytics database is not there, refuses, or takes too long
│   └── AuditChainError         the audit log was altered
├── ActionError                 an action was not carried out
│   ├── UnknownActionError
│   ├── InvalidArgumentsError
│   ├── NotAuthorizedError
│   ├── ConfirmationRequiredError
│   ├── PreconditionError
│   ├── ActionTimeoutError
│   └── ConflictError           what it asks for contradicts what is there
├── NotFoundError               no such job, service, user, alert
├── AuthError                   who you are could not be shown
├── AbsentError                 hardware or configuration that is not there
├── InferenceError
│   ├── ImageError              not an image, truncated, too large
│   ├── SoundError              not a recording, damaged, too long
│   ├── SourceError             a camera or stream that gives no frames
│   ├── QueueFullError          too much waits; or dropped for what is more urgent
│   ├── DeadlineError           the answer would have come too late
│   └── ModelError              missing, wrong hash, wrong shape
│       └── DeviceError         the accelerator failed, not the model
│           └── DeviceStalledError   it does not answer
├── StreamError                 a message was not sent, or cannot be used
│   ├── LinkDownError           the broker does not take messages now
│   ├── CommandRefusedError     a command that is not obeyed: unsigned, expired, replayed, …
│   └── RuleError               a rule of the windows that cannot be carried out
├── QueryError                  a question that the analytics store cannot answer
├── MemoryTierError             a tier of the memory did not do its part
│   ├── TierUnavailableError    it does not answer, is hung, or is not mounted
│   │   └── TierAbsentError     it is not there at all
│   ├── TierFullError           it has no room, and nothing may be evicted
│   └── CorruptRecordError      what it gave is not what was written
├── TunnelError                 the VPN's interface could not be read or changed
├── PlanError                   a power plan that cannot be carried out as it is written
├── DeployError                 a service could not be installed, started or stopped on a node
│   └── PortTakenError          something else listens there
├── TaskError                   a task did not do what it was for
├── BackupError                 a backup was not made, not proved or cannot be restored
├── UpdateError                 an update was refused, not installed, or the way back is not there
├── VoiceError                  speech was not recognised or not made: an engine failed, or does not answer
├── ShellError                  a command on another machine was not carried out
│   ├── NotAllowedError         it lets us in and does not let us do that: nothing was done there
│   └── UnreachableError        that machine does not answer: nothing was done there
├── CommandFailedError          a command on another machine ran to its end, and failed
└── NotRunningError             no appliance answers (exit code 3)
"""

from __future__ import annotations


class ApplianceError(Exception):
    """Base of all errors that people see.

    Args:
        message: What happened, in one sentence.
        next_step: What the reader can do about it.
    """

    code = "error"
    exit_code = 1
    others: tuple[ApplianceError, ...] = ()
    """What else is wrong in the same file."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} Next: {self.next_step}" if self.next_step else self.message


class ConfigError(ApplianceError):
    """A setting is unknown, of the wrong type, or out of range."""

    code = "config"
    exit_code = 2


class StoreError(ApplianceError):
    """The store on disk could not be read or written."""

    code = "store"
    begun = True
    """False on an action's error: nothing of it was begun, because it could not be audited."""


class DiskFullError(StoreError):
    """The file system has no room for a write."""

    code = "disk_full"


class DatabaseError(StoreError):
    """The analytics database did not do its part; `sqlstate` is what the server said (PostgreSQL, appendix A), or empty."""

    code = "database"

    def __init__(self, message: str, next_step: str = "", sqlstate: str = "") -> None:
        super().__init__(message, next_step)
        self.sqlstate = sqlstate


class DamagedError(StoreError):
    """The file is no database any more, or parts of it cannot be read."""

    code = "damaged"


class AuditChainError(StoreError):
    """A row of the audit log does not carry the hash that its content demands."""

    code = "audit_chain"


class ActionError(ApplianceError):
    """An action was not carried out."""

    code = "action"


class UnknownActionError(ActionError):
    """No action of that name is registered."""

    code = "unknown_action"


class InvalidArgumentsError(ActionError):
    """The arguments do not fit the action's parameters."""

    code = "invalid_arguments"
    exit_code = 2


class NotAuthorizedError(ActionError):
    """The actor's role is below the one that the action asks for."""

    code = "not_authorized"
    exit_code = 4


class ConfirmationRequiredError(ActionError):
    """The action is dangerous and was not confirmed."""

    code = "confirmation_required"
    exit_code = 5


class PreconditionError(ActionError):
    """Something must hold before this action, and does not."""

    code = "precondition"


class ActionTimeoutError(ActionError):
    """The handler took longer than the action allows and was cancelled."""

    code = "timeout"


class ConflictError(ActionError):
    """What the action asks for contradicts what is there."""

    code = "conflict"


class NotFoundError(ApplianceError):
    """No such job, service, user or alert."""

    code = "not_found"


class AuthError(ApplianceError):
    """The credentials do not prove who is asking."""

    code = "auth"
    exit_code = 4


class AbsentError(ApplianceError):
    """Hardware or configuration that the call needs is not there."""

    code = "absent"


class InferenceError(ApplianceError):
    """An inference produced no result."""

    code = "inference"


class ImageError(InferenceError):
    """The bytes are not a picture that can be taken."""

    code = "image"


class ModelError(InferenceError):
    """The model is missing, altered, or does not fit its manifest."""

    code = "model"


class DeviceError(ModelError):
    """The accelerator failed, not the model: it is gone, refuses, or another program has it."""

    code = "device"


class DeviceStalledError(DeviceError):
    """The accelerator did not answer in time; it is reset."""

    code = "device-stalled"


class SoundError(InferenceError):
    """A recording that cannot be taken."""

    code = "sound"


class SourceError(InferenceError):
    """A camera, stream, folder or file gives no frames."""

    code = "source"


class QueueFullError(InferenceError):
    """Too many requests wait, or this one was dropped for a more urgent one."""

    code = "queue-full"


class DeadlineError(InferenceError):
    """The time until which an answer was wanted has passed."""

    code = "deadline"


class StreamError(ApplianceError):
    """A message was not sent, or cannot be used."""

    code = "stream"


class LinkDownError(StreamError):
    """The broker does not take messages now; what was to be sent waits."""

    code = "link_down"


class CommandRefusedError(StreamError):
    """A command over Kafka is not obeyed.

    Args:
        reason: In two or three words, by which refusals are counted.
        message: What happened.
    """

    code = "command_refused"

    def __init__(self, reason: str, message: str, next_step: str = "") -> None:
        super().__init__(message, next_step)
        self.reason = reason


class RuleError(StreamError):
    """A rule of the windows is wrong, or cannot be applied to an event."""

    code = "rule"


class QueryError(ApplianceError):
    """The analytics store cannot answer the question as it was asked."""

    code = "query"


class MemoryTierError(ApplianceError):
    """A tier of the memory failed."""

    code = "memory"


class TierUnavailableError(MemoryTierError):
    """The tier does not answer in time, refuses, or is not mounted. What is owed to it waits."""

    code = "tier_unavailable"


class TierAbsentError(TierUnavailableError):
    """The tier is not there at all: not mounted, not configured."""

    code = "tier_absent"


class TierFullError(MemoryTierError):
    """The tier has no room, and nothing in it may be evicted."""

    code = "tier_full"


class CorruptRecordError(MemoryTierError):
    """The bytes do not carry the checksum they were written with."""

    code = "corrupt"


class TunnelError(ApplianceError):
    """The interface could not be read or changed."""

    code = "tunnel"


class PlanError(ApplianceError):
    """A plan that names what is not there, or contradicts itself."""

    code = "plan"


class DeployError(ApplianceError):
    """A service could not be installed, started or stopped on a node: the node said so."""

    code = "deploy"


class PortTakenError(DeployError):
    """Something else listens on the port that a replica was to have."""

    code = "port_taken"


class TaskError(ApplianceError):
    """A task did not do what it was for; `final`: it would be the same again, there is no further attempt."""

    code = "task"

    def __init__(self, message: str, next_step: str = "", *, final: bool = False) -> None:
        super().__init__(message, next_step)
        self.final = final


class VoiceError(ApplianceError):
    """Speech was not recognised or not made: an engine failed, or does not answer."""

    code = "voice"


class ShellError(ApplianceError):
    """A command on another machine could not be carried out, or may have been only in part."""

    code = "shell"


class NotAllowedError(ShellError):
    """The machine answers and does not let us do that (sudo, a login shell that runs nothing): nothing was done there."""

    code = "not_allowed"


class UnreachableError(ShellError):
    """The machine does not answer, or its key is another: nothing was done there."""

    code = "unreachable"


class CommandFailedError(ApplianceError):
    """A command on another machine ended with another status than 0; None where what it brought about shows the failure."""

    code = "command_failed"

    def __init__(self, message: str, next_step: str = "", exit_status: int | None = None) -> None:
        super().__init__(message, next_step)
        self.exit_status = exit_status


class NotRunningError(ApplianceError):
    """No appliance answers on the control socket."""

    code = "not_running"
    exit_code = 3


class BackupError(ApplianceError):
    """A backup was not made, was not proved, or cannot be restored."""

    code = "backup"


class UpdateError(ApplianceError):
    """An update was refused or did not succeed, or the boot choice could not be read or written."""

    code = "update"
