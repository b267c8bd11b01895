"""What a misspelt word was meant to be."""

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import jsonargparse
from jsonargparse._link_arguments import ActionLink

from lightning_dws.program import program, shipped_configs

_UNKNOWN_OPTION = re.compile(r"unrecognized arguments: (--[\w.+-]+)")
_UNKNOWN_KEY = re.compile(r"does not accept option '([\w.]+)'")
_UNKNOWN_COMMAND = re.compile(r"invalid choice: '(\w+)' \(choose from (.*)\)")
_NO_CLASS = re.compile(r"([\w.]+): found ([\w.]+), expected import path of a class")
_NOT_IN_MODULE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_NO_CHOICE = re.compile(r"must be one of [\[(](.*?)[\])].*, got '([\w-]+)'")
_NO_LITERAL = re.compile(r"found ([\w.-]+), expected (?:.* or )?one of ([^;]*)")
_NO_FILE = re.compile(r"no file (\S+), here or among the shipped configs")
# which command a config is for, by settings that no other one takes
_COMMAND_OF = {
    **dict.fromkeys(("training", "channels", "kernel_size", "stride", "num_networks"), "zoo fit"),
    **dict.fromkeys(("architecture", "recipe", "recipe_changes"), "inrs fit"),
    **dict.fromkeys(("data", "model", "trainer", "task", "name"), "fit"),
    **dict.fromkeys(("seeds", "views", "augmentations", "models", "datasets", "claims"), "table"),
    **dict.fromkeys(("base", "space", "trials", "sampler", "pruning"), "sweep"),
}
_NAME_WITH_SPACES = re.compile(r'Spaces not allowed in keys: "([^"]+)"')  # of a table's row
_ABSTRACT = re.compile(r"([\w.]+): Expected an instantiatable class, but [\w.]+ is abstract")
# what others call our options
_OTHER_WORDS = {
    "--epochs": "--trainer.max_epochs",
    "--steps": "--trainer.max_steps",
    "--gpus": "--trainer.devices",
    "--seed": "--seed_everything",
    "--output": "--root",
}
_NO_SETTING = re.compile(r"class_path '([\w.]+)'.*Option '(\w+)' is not accepted")
_ANSWERED = re.compile("; (did you mean|it takes) ")
_NO_KEY = re.compile(r"(\w+): found .*Unexpected keys: \{'(\w+)'")
_PARTS_OF_A_CLASS = ("class_path", "init_args")
_MOST_SETTINGS = 12  # of a class, that are listed


def closest(word: str, known: Iterable[str]) -> str:
    """Ask whether the closest of the known words was meant; say nothing where none is close.

    Example:
        >>> closest("fitt", ["fit", "test"])
        "; did you mean 'fit'?"
        >>> closest("ji", ["xy", "ij"])
        "; did you mean 'ij'?"
    """
    found = nearest_word(word, known)
    return f"; did you mean {found!r}?" if found else ""


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """Give the closest of the known words; None where none is close."""
    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    found = found or [name for name in by_lower if sorted(name) == sorted(word.lower())]
    return by_lower[found[0]] if found else None


def suggest(message: str, parser: jsonargparse.ArgumentParser) -> str:
    """Say what was meant by the word that an error names, if it is close to a known one.

    Args:
        message: Of an error, in one line.
        parser: That found it.
    """
    for pattern, answer in _ANSWERS:
        if not _ANSWERED.search(message) and (match := pattern.search(message)):
            return answer(parser, *match.groups())
    return ""


def _of_options(parser: jsonargparse.ArgumentParser, word: str) -> str:
    options = [
        option
        for own in _with_subparsers(parser)
        for option, action in own._option_string_actions.items()
        if not isinstance(action, ActionLink)  # computed from another option
    ]
    by_last_part = {f"--{option.rpartition('.')[2]}": option for option in options}
    begun = [option for option in options if option.startswith(word)]
    group = word.removesuffix("help")
    if word != group and any(option.startswith(group) for option in options):
        return f"; --help lists the options that begin with {group!r}"
    other = _OTHER_WORDS.get(word)
    if other not in options:
        other = by_last_part.get(word) or (begun[0] if begun else _with_nearest_part(word, options))
    options = [option for option in options if not option.endswith(".help")]
    return f"; did you mean {other!r}?" if other else closest(word, options)


def _with_nearest_part(word: str, options: Iterable[str]) -> str | None:
    """Give an option whose first unknown part is replaced by the known one that is nearest.

    Example:
        >>> _with_nearest_part("--modl.optimizer.lr", ["--model.optimizer", "--data.views"])
        '--model.optimizer.lr'
    """
    known = [option.removeprefix("--").split(".") for option in options]
    parts = word.removeprefix("--").split(".")
    for place, part in enumerate(parts):
        beside = {own[place] for own in known if len(own) > place and own[:place] == parts[:place]}
        if part in beside:
            continue
        nearest = nearest_word(part, (beside - {"help"}).union(_PARTS_OF_A_CLASS))
        return nearest and f"--{'.'.join([*parts[:place], nearest, *parts[place + 1 :]])}"
    return None


def _of_keys(parser: jsonargparse.ArgumentParser, key: str) -> str:
    known = [a.dest for own in _with_subparsers(parser) for a in own._actions]
    command = _COMMAND_OF.get(key.partition(".")[0])
    return closest(key, known) or (_one_of(command) if command else "")


def _of_rows(parser: jsonargparse.ArgumentParser, name: str) -> str:
    return _one_of("table")


def _one_of(command: str) -> str:
    return f"; the config is one of '{program()} {command}'"


def _of_classes(parser: jsonargparse.ArgumentParser, key: str, word: str) -> str:
    paths = _classes(parser, key)
    return closest(word, paths if "." in word else [path.rpartition(".")[2] for path in paths])


def _of_abstract(parser: jsonargparse.ArgumentParser, key: str) -> str:
    paths = sorted({path.rpartition(".")[2] for path in _classes(parser, key)})
    return f"; say which one by --{key} CLASS ({', '.join(paths)})" if paths else ""


def _classes(parser: jsonargparse.ArgumentParser, key: str) -> list[str]:
    """Give the paths of the classes that an option takes."""
    return [
        path
        for own in _with_subparsers(parser)
        for action in own._actions
        if key.endswith(action.dest) and hasattr(action, "extra_help")
        for path in action.extra_help().rpartition(": ")[2].split(", ")
    ]


def _of_module(parser: jsonargparse.ArgumentParser, module: str, word: str) -> str:
    names = getattr(sys.modules.get(module), "__all__", ())
    return closest(word, names)


def _of_settings(parser: jsonargparse.ArgumentParser, path: str, word: str) -> str:
    module, _, name = path.rpartition(".")
    known = inspect.signature(getattr(import_module(module), name)).parameters
    if meant := closest(word, known):
        return meant
    settable = [name for name, own in known.items() if own.default is not own.empty]
    return f"; it takes {', '.join(settable)}" if 0 < len(settable) <= _MOST_SETTINGS else ""


def _of_keys_of_settings(parser: jsonargparse.ArgumentParser, name: str, word: str) -> str:
    kinds = [a._typehint for a in parser._actions if a.dest == name and hasattr(a, "_typehint")]
    return "".join(closest(word, getattr(kind, "__annotations__", ())) for kind in kinds[:1])


def _of_commands(parser: jsonargparse.ArgumentParser, word: str, known: str) -> str:
    return closest(word, re.findall(r"\w+", known))


def _of_choices(parser: jsonargparse.ArgumentParser, known: str, word: str) -> str:
    return closest(word, re.findall(r"[\w.-]+", known))


def _of_literals(parser: jsonargparse.ArgumentParser, word: str, known: str) -> str:
    return closest(word, known.split(", "))


def _of_files(parser: jsonargparse.ArgumentParser, name: str) -> str:
    folder = shipped_configs()
    return closest(name, [str(path.relative_to(folder)) for path in folder.rglob("*.yaml")])


def _with_subparsers(parser: Any) -> list[Any]:
    below = getattr(parser, "_subcommands_action", None)
    choices = [] if below is None else below._name_parser_map.values()
    return [parser, *(deeper for own in choices for deeper in _with_subparsers(own))]


_ANSWERS: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = (
    (_UNKNOWN_OPTION, _of_options),
    (_NO_SETTING, _of_settings),
    (_NO_KEY, _of_keys_of_settings),
    (_UNKNOWN_KEY, _of_keys),
    (_NAME_WITH_SPACES, _of_rows),
    (_UNKNOWN_COMMAND, _of_commands),
    (_NO_CHOICE, _of_choices),
    (_NO_LITERAL, _of_literals),
    (_NO_CLASS, _of_classes),
    (_ABSTRACT, _of_abstract),
    (_NO_FILE, _of_files),
    (_NOT_IN_MODULE, _of_module),
)
