"""The methods of the original Data Mover, with its signatures, statuses and messages, for its unchanged clients.

They answer ``{'id', 'status', 'reason'?}`` and, where ``jobs.*`` would Fault, ``{'status': 'REJECTED', 'reason'}``.
"""

from typing import Any

from datamover.api.context import CallContext, Caller
from datamover.api.methods.moves import NO_ALA, Moves, Rejected, invalid, is_lsid, missing, pulled
from datamover.api.methods.table import MethodTable
from datamover.datasets.ala.section import AlaSection
from datamover.errors import ExpiredJob, RequestError, UnknownJob
from datamover.jobs.values import JobRecord, State
from datamover.requests.coercion import integer, text, told
from datamover.text.quantities import count

TABLE = MethodTable()

_MOVING = {State.PENDING: "PENDING", State.PREPARING: "IN_PROGRESS", State.IN_PROGRESS: "IN_PROGRESS"}
_DOWNLOADING = {State.PENDING: "PENDING", State.PREPARING: "DOWNLOADING", State.IN_PROGRESS: "DOWNLOADING"}
_WORDS = {UnknownJob: "Job does not exist", ExpiredJob: "Job has expired"}
"""The original's words for refusals that have others at ``jobs.*``."""


def rejected(error: RequestError) -> dict[str, Any]:
    """Return a refusal in the form that the original's clients expect."""
    reason = next((words for kind, words in _WORDS.items() if isinstance(error, kind)), error.message)
    return {"status": "REJECTED", "reason": reason}


@TABLE.method("pullOccurrenceFromALA", "struct string", "struct string string", lenient=True, refuse=rejected)
async def pull_occurrence_from_ala(context: CallContext, caller: Caller, lsid: Any, destination: Any = None) -> Any:
    """Fetch the occurrences of a taxon from ALA: pullOccurrenceFromALA(lsid, destination) -> {id, status}.

    lsid: the taxon's Life Science Identifier, urn:lsid:….
    destination: the name of a registered place; [ala] destination of the configuration, if it is left out.
    Returns the job's id and PENDING. <lsid>.csv, <lsid>.json and <lsid>.dataset.json arrive in the directory [ala]
    path.
    Faults: none for what is refused: that is {status: 'REJECTED', reason}, without an id.
    Example: pullOccurrenceFromALA('urn:lsid:biodiversity.org.au:afd.taxon:31a9b8b8-4e8f-4343-a15f-2ed24e0bf1ae')
    -> {'id': 12, 'status': 'PENDING'}
    """
    return await _pull(context, caller, lsid, destination)


@TABLE.method("checkALAJobStatus", "struct id", lenient=True, refuse=rejected)
async def check_ala_job_status(context: CallContext, caller: Caller, id: Any) -> Any:
    """Return the status of a pullOccurrenceFromALA: checkALAJobStatus(id) -> {id, status, reason?}.

    id: the job, an int or a text of digits.
    Returns the id and the status, PENDING, DOWNLOADING, COMPLETED or FAILED, and for FAILED the reason.
    Faults: none for what is refused: that is {status: 'REJECTED', reason}, without an id.
    Example: checkALAJobStatus(12) -> {'id': 12, 'status': 'DOWNLOADING'}
    """
    return await _status(context, caller, id, _DOWNLOADING)


@TABLE.method(
    "move",
    "struct string string",
    "struct string string boolean",
    "struct array string",
    "struct array string boolean",
    "struct struct struct",
    "struct struct struct boolean",
    many=True,
    lenient=True,
    refuse=rejected,
)
async def move(context: CallContext, caller: Caller, source: Any, destination: Any, zip: Any = None) -> Any:  # noqa: A002
    """Move files, as the original Data Mover does: move(source, destination, zip) -> {id, status}.

    source: a URL (http, https, scp, swift+http, swift+https, ala), an array of URLs, or a struct: {type: 'url', url},
    {type: 'scp', host, path}, {type: 'ala', lsid}, {type: 'mixed', sources: [struct…]}. At most 1000 sources.
    destination: scp://HOST/PATH, HOST being the name of a registered place, or a struct {host, path, zip?}. Structs may
    come in either order. swift+https://HOST/CONTAINER/OBJECT is the registered Swift container at that host.
    zip: a boolean: true puts all files into one zip. False, if it is left out.
    Returns the job's id and PENDING. What is at the destination already is replaced.
    Faults: none for what is refused: that is {status: 'REJECTED', reason}, without an id.
    Example: move('https://data.example.org/climate.tif', 'scp://visualiser/datasets/') -> {'id': 12, 'status':
    'PENDING'}
    """
    return await _move(context, caller, source, destination, zip)


@TABLE.method("checkMoveStatus", "struct id", lenient=True, refuse=rejected)
async def check_move_status(context: CallContext, caller: Caller, id: Any) -> Any:
    """Return the status of a move: checkMoveStatus(id), or check_move_status(id) -> {id, status, reason?}.

    id: the job, an int or a text of digits.
    Returns the id and the status, PENDING, IN_PROGRESS, COMPLETED or FAILED, and for FAILED the reason.
    Faults: none for what is refused: that is {status: 'REJECTED', reason}, without an id.
    Example: checkMoveStatus(12) -> {'id': 12, 'status': 'COMPLETED'}
    """
    return await _status(context, caller, id, _MOVING)


TABLE.method("check_move_status", "struct id", lenient=True, refuse=rejected)(check_move_status)


async def _pull(context: CallContext, caller: Caller, lsid: Any, destination: Any) -> dict[str, Any]:
    if not is_lsid(lsid):
        raise missing("source ALA LSID")
    named = text(destination)
    if destination is not None and named not in context.registry.names():
        raise Rejected(f"Unknown destination {told(named or destination)}")
    settings = context.config.declared.get("ala")
    if not isinstance(settings, AlaSection) or "ala" not in context.datasets.by_scheme:
        raise Rejected(NO_ALA)
    name = settings.destination if named is None else named
    caller.check_destination(name)
    [answer] = await context.submit([pulled(context.rules(caller), lsid, name, settings.path)])
    return {"id": answer.id, "status": _DOWNLOADING.get(answer.state, answer.state.value)}


async def _move(context: CallContext, caller: Caller, source: Any, destination: Any, zipped: Any) -> dict[str, Any]:
    moves = Moves(context.registry, context.rules(caller), caller)
    job = await context.in_slices(moves.read(source, destination, zipped))
    [answer] = await context.submit([job])
    return {"id": answer.id, "status": _MOVING.get(answer.state, answer.state.value)}


async def _status(context: CallContext, caller: Caller, id: Any, words: dict[State, str]) -> dict[str, Any]:
    number = _id(id)
    await context.place.take()
    record = await context.store.job(number, caller.owner)
    if record.state is State.COMPLETED:
        return {"id": number, "status": "COMPLETED"}
    if record.state in words:
        return {"id": number, "status": words[record.state]}
    return {
        "id": number,
        "status": "FAILED",
        "reason": f"Move has failed for job with id {number}. Reason: {_reason(record)}",
    }


def _id(value: Any) -> int:
    """Return a job's id from an int or a string of digits."""
    if value is None:
        raise missing("id")
    number = integer(value)
    if number is None:
        raise invalid("id must be an int")
    return number


def _reason(record: JobRecord) -> str:
    if record.state is State.CANCELLED:
        return "The job was cancelled."
    message = (record.error or {}).get("message") or "unknown"
    if record.state is State.PARTIAL:
        return f"{record.files_failed} of {count(record.files_total, 'file')} failed. {message}"
    return str(message)
