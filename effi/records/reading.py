"""What a function takes from outside itself: code, values and data, so that none of it can change unnoticed."""

from __future__ import annotations

import dis
import inspect
import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import partial
from itertools import pairwise
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from effi.errors import ParameterError
from effi.records.identity import UNCOUNTED, canonical
from effi.records.source import imported, is_ours, significant
from effi.spec import Spec


@dataclass
class Reads:
    """Code outside effi by name, plain values by name, names of modules of effi, and checksums of data sets by name."""

    code: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    data: dict[str, str] = field(default_factory=dict)

    def check_named(self, what: str, *places: Any) -> None:
        """ParameterError unless one of the data sets that may be used has its checksum in one of the places."""
        text = json.dumps([canonical(place) for place in places])
        if self.data and not any(checksum in text for checksum in self.data.values()):
            raise ParameterError(
                f"{what} uses {' or '.join(self.data)}, and its settings do not say which data they are; "
                'put the checksum into them, for example "data": one.checksum'
            )


def reads(function: Callable[..., Any], *, closely: bool = False) -> Reads:
    """All that a function reads, with what its helpers, classes, bound objects and enclosing functions hold.

    Functions of effi count by their module and all that it imports; `closely` by their own text alone. What says
    `counted` counts as that, and what has a `checksum` by it. ParameterError when a source cannot be read, and for
    a value that can be told from no other.
    """
    reader = _Reader(closely, inspect.unwrap(_bare(function)))
    reader.count(reader.name, function)
    return reader.found


class _Reader:
    """Goes from one thing that is read to the next; `home` is the module whose code is followed."""

    def __init__(self, closely: bool, first: Any) -> None:
        if not isinstance(first, FunctionType) or not _source(first):
            raise ParameterError(f"the source of {first!r} cannot be read; write it with def in a cell or a file")
        self.closely, self.home, self.name = closely, first.__module__, first.__name__
        self.found = Reads()
        self.followed: list[Any] = []
        self.inside: list[Any] = []

    def count(self, name: str, value: Any) -> None:
        """Take in a value that is read under a name."""
        if isinstance(value, partial):
            self._all((f"{name}.{key}", getattr(value, key)) for key in ("func", "args", "keywords"))
        elif isinstance(value, MethodType):
            self._all([(name, value.__func__), (f"{name}.self", value.__self__)])
        elif isinstance(value, ModuleType):
            self.found.modules |= {value.__name__} if is_ours(value.__name__) else set()
        elif isinstance(value, type) or _is_function(value):
            self._code(name, inspect.unwrap(value))
        elif not any(value is outer for outer in self.inside):  # it may hold itself
            self.inside.append(value)
            self._value(name, value)
            self.inside.pop()

    def _all(self, pairs: Iterable[tuple[str, Any]]) -> None:
        for name, value in pairs:
            self.count(name, value)

    def _code(self, name: str, value: Any) -> None:
        home = getattr(value, "__module__", None) or ""
        if not (home == self.home or is_ours(home)) or any(value is known for known in self.followed):
            return
        self.followed.append(value)
        if is_ours(home) and not self.closely:
            self.found.modules.add(home)
            self._all(_enclosed(value, name))
        elif isinstance(value, type):
            self._all(_members(value, name))
        elif source := _source(value):  # a dataclass's own __init__ has none: its fields speak for it
            key = name if home == self.home else f"{home}.{value.__qualname__}"
            while key in self.found.code:  # two lambdas, or two closures of one name
                key += "'"
            self.found.code[key] = significant(source)
            self.found.modules |= set(imported(source))
            self._all(self._outside(value, key))

    def _outside(self, value: FunctionType, name: str) -> Iterator[tuple[str, Any]]:
        """Name and value of what a function takes from outside, its defaults included."""
        given = inspect.signature(value).parameters.values()
        yield from ((f"{name}({each.name})", each.default) for each in given if each.default is not each.empty)
        enclosed = dict(_enclosed(value, name))
        for key, attribute in sorted(_loaded(value.__code__), key=str):
            if f"{name}.{key}" in enclosed:
                yield self._part(f"{name}.{key}", enclosed[f"{name}.{key}"], attribute)
            elif key in value.__globals__ and key not in UNCOUNTED:
                yield self._part(key, value.__globals__[key], attribute)

    def _part(self, name: str, value: Any, attribute: str | None) -> tuple[str, Any]:
        """What `name.attribute` takes of a value: of a spec what can change a result, of a module one function."""
        if isinstance(value, Spec):
            return name, value.row if attribute in (None, "row") else None
        if self.closely and isinstance(value, ModuleType) and is_ours(value.__name__) and attribute:
            return f"{name}.{attribute}", getattr(value, attribute)
        return name, value

    def _value(self, name: str, value: Any) -> None:
        if isinstance(value, Spec):
            self.count(name, value.row)
        elif hasattr(type(value), "counted"):
            self.count(name, value.counted)
        elif isinstance(getattr(value, "checksum", None), str):
            self.found.data[name] = value.checksum
        elif isinstance(value, Mapping):
            self._all((f"{name}[{key!r}]", item) for key, item in value.items())
        elif isinstance(value, list | tuple):
            self._all((f"{name}[{index}]", item) for index, item in enumerate(value))
        elif isinstance(value, AbstractSet):
            self._all((f"{name}{{{index}}}", item) for index, item in enumerate(sorted(value, key=repr)))
        elif value is None or isinstance(value, bool | int | float | str | Enum | PurePath):
            self.found.values[name] = repr(value) if isinstance(value, float) else canonical(value, name)
        elif type(value).__module__ == self.home or is_ours(type(value).__module__):
            self._code(type(value).__name__, type(value))
            self._all((f"{name}.{key}", item) for key, item in _held(value).items())
        else:
            shown = name.removeprefix(f"{self.name}.")
            raise ParameterError(
                f"{self.name} reads {shown}, a {type(value).__name__}, and nothing says when it changes; pass what it "
                "stands for in the arm's settings, or make it inside the function"
            )


def _bare(function: Any) -> Any:
    """The function inside partials and methods."""
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    return function


def _is_function(value: Any) -> bool:
    """Whether it is a function of Python or of an extension; an object that can be called is none."""
    if isinstance(value, BuiltinFunctionType):
        return value.__self__ is None or isinstance(value.__self__, ModuleType | type)
    return isinstance(value, FunctionType) or (hasattr(value, "__name__") and callable(value))


def _held(value: Any) -> dict[str, Any]:
    """Attributes of an object; a dataclass's field that is left out of comparisons does not count."""
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value) if each.compare}
    return dict(vars(value))


def _enclosed(value: Any, name: str) -> list[tuple[str, Any]]:
    """What a function has from the function that made it."""
    held = inspect.getclosurevars(value).nonlocals if isinstance(value, FunctionType) else {}
    return [(f"{name}.{key}", each) for key, each in held.items()]


def _members(owner: type, name: str) -> Iterator[tuple[str, Any]]:
    """Bases, methods and plain attributes of a class; its other descriptors are made by Python."""
    yield from ((f"{name}({index})", base) for index, base in enumerate(owner.__bases__))
    if issubclass(owner, Enum):
        yield from ((f"{name}.{each.name}", each.value) for each in owner)
        return
    for key, member in vars(owner).items():
        for each in (getattr(member, part, None) for part in ("__func__", "func", "fget", "fset")):
            if each is not None:
                yield f"{name}.{key}", each
        if _is_function(member) or not (hasattr(type(member), "__get__") or key.startswith(("__", "_abc_"))):
            yield f"{name}.{key}", member


def _source(value: Any) -> str:
    """Source of a function; empty for a class (its members speak for it) and for generated functions."""
    if not isinstance(value, type):
        with suppress(OSError, TypeError):
            return textwrap.dedent(inspect.getsource(value))
    return ""


def _loaded(code: CodeType) -> set[tuple[str, str | None]]:
    """Names from outside that a function or the functions inside it load, and which attribute is taken at once."""
    steps = list(dis.get_instructions(code))
    found = {
        (step.argval, after.argval if after.opname in ("LOAD_ATTR", "LOAD_METHOD") else None)
        for step, after in pairwise(steps)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
    }
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return found.union(*(_loaded(constant) for constant in inner))
