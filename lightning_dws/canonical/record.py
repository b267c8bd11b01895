"""Canonical forms as plain data, for the checkpoints of networks that read them."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torch import Tensor

from lightning_dws.canonical.base import CanonicalForm, reference_of, set_reference
from lightning_dws.errors import DataError

_PLAIN = (str, int, float, bool, type(None))


def describe_forms(forms: Sequence[CanonicalForm]) -> dict[str, Any]:
    """Give what forms are, and the INR that they compare with.

    Arguments are read from attributes of their names; where there are none, or they are no plain
    data, those of the form are None.
    """
    return {"forms": [_describe(form) for form in forms], "reference": reference_of(forms)}


def _describe(form: CanonicalForm) -> dict[str, Any]:
    kind = type(form)
    names = list(inspect.signature(kind).parameters)
    arguments = {name: getattr(form, name, form) for name in names}
    is_plain = all(isinstance(value, _PLAIN) for value in arguments.values())
    path = f"{kind.__module__}.{kind.__qualname__}"
    return {"class_path": path, "init_args": arguments if is_plain else None}


def make_forms(record: Any, where: str) -> list[CanonicalForm]:
    """Make the forms that a checkpoint names; None stands for a checkpoint without any.

    Args:
        record: By ``describe_forms``, as it was read from a file.
        where: The file, for errors.

    Raises:
        DataError: It names no canonical form, or one that cannot be made.
    """
    if record is None:
        return []
    try:
        forms = [_make(one["class_path"], one["init_args"]) for one in record["forms"]]
        reference = record["reference"]
        if not isinstance(reference, (Tensor, type(None))):
            raise TypeError(f"the reference is {reference!r}")
    except (LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{where}: its canonical forms cannot be made ({reason})") from error
    set_reference(forms, reference)
    return forms


def _make(path: str, arguments: dict[str, Any] | None) -> CanonicalForm:
    module, _, name = path.rpartition(".")
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, CanonicalForm)):
        raise TypeError(f"{path} is no canonical form")
    if arguments is None:
        raise ValueError(f"the arguments of {path} are not its attributes, or are no plain data")
    return kind(**arguments)
