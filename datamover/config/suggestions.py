"""Find what somebody may have meant by a name that does not exist."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``; did you mean "x"?`` with the name that is most like ``name``, or "" if none is."""
    if not isinstance(name, str):
        return ""
    by_folded = {each.casefold(): each for each in known}
    close = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f'; did you mean "{by_folded[close[0]]}"?' if close else ""


def keys_at(model: type[BaseModel], location: Iterable[int | str]) -> tuple[str, ...]:
    """Return the keys of the table at ``location`` in a configuration of ``model``; none where there is no table."""
    kind: Any = model
    for step in location:
        kind = _inside(kind, step)
    table = _table(kind)
    return tuple(table.model_fields) if table else ()


def _table(kind: Any) -> type[BaseModel] | None:
    """Return the model that an annotation stands for, if it stands for one."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if get_origin(kind) in (Union, UnionType, Annotated):
        return next((found for each in get_args(kind) if (found := _table(each))), None)
    return None


def _inside(kind: Any, step: int | str) -> Any:
    """Return the annotation of what ``step`` leads to."""
    table = _table(kind)
    if table is not None:
        field = table.model_fields.get(str(step))
        return field.annotation if field else None
    origin = get_origin(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return get_args(kind)[1]
    return get_args(kind)[0] if isinstance(step, int) and get_args(kind) else None
