"""What jsonargparse says of a wrong option, in one line instead of a page."""

import ast
import re
from dataclasses import is_dataclass
from typing import Any, NoReturn

import jsonargparse

from lightning_dws.help_texts import HelpFormatter
from lightning_dws.program import program
from lightning_dws.suggestions import suggest


def _is_settings(kind: type) -> bool:
    """Whether configs give a class by its settings, never by a path: our dataclasses are."""
    return is_dataclass(kind) and kind.__module__.startswith(f"{__package__}.")


jsonargparse.set_parsing_settings(subclasses_disabled=[_is_settings])

_KEY = re.compile(r'Parser key "([^"]*)":\s*(.*)')
_TYPE = re.compile(r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|(?:\w+\.)*(\w+\b.*))")
_FOUND = re.compile(r"Given value: (.*)")
_GOT = re.compile(r"(.*)\. Got value: (.*)")
_NO_REASON = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value type:|Expected a path but |"
    r"Expected a <class 'NoneType'>|Subclass types expect|a class path \(str\)|a dict with"
)
_CALLABLE = re.compile(r"Type typing\.Callable\[.*?\] expects a function or a callable class: (.*)")
_CLASS_PATH = re.compile(r"class_path='([\w.]+)'")
_OF_CLASS = re.compile(r"Problem with given class_path '[^']*':")
_PATH = re.compile(r"dot import path string: (.*)")
_INSIDE = re.compile(r": Problem with given class_path '[^']*': (?=[\w.]+: )")
_PARTIAL_RECIPE = re.compile(r"\brecipe: .*arguments are required: ")
_HINT = "; to change settings of a named recipe: recipe_changes: {steps: 20}"
_NO_FILE = re.compile(r"Unexpected import path format: (\S+\.ya?ml)$")
_SUBCOMMAND = re.compile(r"^Subcommand '(\w+)'(?= does not accept option)")
_LITERAL = re.compile(r"Literal(\[[^\]]*\])")
_PLAIN = {"Sequence": "a list", "Mapping": "settings by name"}
_ONE_OF = "one of"  # some values, named by a literal
_LONGEST = 120  # characters of a value that is shown


class ArgumentParser(jsonargparse.ArgumentParser):
    """jsonargparse's parser without abbreviations, which says in one line what is wrong."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *args, **{"allow_abbrev": False, "formatter_class": HelpFormatter, **kwargs}
        )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = _SUBCOMMAND.sub(self._name_subcommand, shorten(message))
        meant = suggest(text, self)
        super().error(text.removesuffix(".") + meant if meant else text, ex)

    def _name_subcommand(self, found: re.Match[str]) -> str:
        """Name a command in full: there is ``fit``, and ``inrs fit``."""
        group = self.prog.removeprefix(f"{program()} ")
        return f"'{found[1]}'" if group in (self.prog, "") else f"'{group} {found[1]}'"


def shorten(message: str) -> str:
    """Give the option's name, what was found and what was expected, of jsonargparse's message.

    Example:
        >>> print(shorten('''Parser key "trainer.max_epochs":
        ...   Does not validate against any of the Union subtypes
        ...   Subtypes: [<class 'int'>, <class 'NoneType'>]
        ...   Errors:
        ...     - Expected a <class 'int'>
        ...     - Expected a <class 'NoneType'>
        ...   Given value type: <class 'str'>
        ...   Given value: x'''))
        trainer.max_epochs: found x, expected int
    """
    lines = [line for line in message.splitlines() if line.strip()]
    if len(lines) < 2:
        return message.strip()
    said = _Said()
    for line in lines:
        said.take(line.strip().removeprefix("- "), len(line) - len(line.lstrip(" -")))
    return str(said)


class _Said:
    """Collects what the lines of a message say."""

    def __init__(self) -> None:
        self.names: list[tuple[int, str]] = []  # with their indentation, outermost first
        self.reasons: list[str] = []
        self.types: list[str] = []
        self.choices: list[str] = []  # of all literals
        self.found: str | None = None  # the innermost comes first
        self._class = ""  # that the next line is about

    def take(self, text: str, indentation: int) -> None:
        if match := _KEY.fullmatch(text):
            if not self.names or indentation > self.names[-1][0]:
                self.names.append((indentation, match[1]))
                self.reasons = []  # only where it is, such as the class of a part
            if match[2]:
                self.take(match[2], indentation)
        elif match := _FOUND.fullmatch(text):
            self.found = self.found or match[1]
        elif match := _GOT.fullmatch(text):
            self.found = self.found or match[2]
            self.take(match[1], indentation)
        elif match := _CALLABLE.fullmatch(text):
            given = _CLASS_PATH.search(self.found or "")
            where = f"Problem with given class_path '{given[1]}': " if given else ""
            self.reasons.append(where + match[1])
        elif _OF_CLASS.fullmatch(text):
            self._class = f"{text} "
        elif _NO_REASON.match(text):
            return
        elif match := _TYPE.fullmatch(text):
            kind = match[1] or match[2]
            if path := _PATH.fullmatch(kind):
                kind, self.found = "import path of a class", self.found or path[1]
            self.types.append(_LITERAL.sub(self._take_choices, _PLAIN.get(kind, kind)))
        else:
            known = [reason.partition("': ")[2] or reason for reason in self.reasons]
            if text not in known:  # the same is said of every class that is tried
                self.reasons.append(self._class + text)
            self._class = ""

    def _take_choices(self, literal: re.Match[str]) -> str:
        self.choices += [str(choice) for choice in ast.literal_eval(literal[1])]
        return _ONE_OF

    @property
    def _expected(self) -> str:
        """The types that are expected, all choices of them in one list behind the others."""
        types = sorted(dict.fromkeys(self.types), key=lambda kind: kind == _ONE_OF)
        choices = ", ".join(dict.fromkeys(self.choices))
        return " or ".join(types).replace(_ONE_OF, f"{_ONE_OF} {choices}")

    def __str__(self) -> str:
        name = ".".join(name for _, name in self.names)
        expected = self._expected
        reasons = [r for r in dict.fromkeys(self.reasons) if not r.startswith("Not a valid sub")]
        reason = "; ".join(reasons or self.reasons[:1]).replace(":; ", ": ")
        found = _short(self.found or "")
        if match := _NO_FILE.search(reason):
            reason = f"no file {match[1]}, here or among the shipped configs"
        elif not reason:
            found = {"None": "nothing", "": ""}.get(found, found)
            reason = f"found {found}, expected {expected}" if found else f"expected {expected}"
        elif found and found not in reason and "found " not in reason and "(" not in found:
            reason = f"found {found}; {reason}"
        text = " ".join((f"{name}: {reason}" if name else reason).split())
        text = _INSIDE.sub(".", text)
        if _PARTIAL_RECIPE.search(text) and _HINT not in text:
            text += _HINT
        return text


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
