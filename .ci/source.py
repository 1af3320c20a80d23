"""Rust source as `.ci/floors` and `.ci/words` read it: without comments, without tests, module by module."""

import pathlib
import re

TOKEN = re.compile(
    r"""(//[^\n]*|/\*.*?\*/)|(?<!\w)b?r(#*)".*?"\2|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^'\n]*|[^\\'\n])'""", re.S
)
TEST = re.compile(r"#\[cfg\((?:test|all\((?![^\]]*not\(test)[^\]]*\btest\b[^\]]*\))\)\]")
ITEM = re.compile(r"(?:pub\b(?:\([^)]*\))?|unsafe|const|async|\s)*\b(?:fn|mod|impl|struct|enum|trait|use|static|type)\b")


def without_comments(text):
    """The code alone: comments go, literals become empty, lines keep their numbers."""

    def blank(token):
        return ("" if token[1] else '""') + "\n" * token[0].count("\n")

    return TOKEN.sub(blank, text)


def end_of_item(text, start):
    """Where the item (or field, or statement) ends that begins at `start`."""
    whole = ITEM.match(text, start)
    is_use = whole is not None and whole[0].endswith("use")
    depth = 0
    for position in range(start, len(text)):
        letter = text[position]
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth < 0:
                return position
            if depth == 0 and letter == "}" and not is_use:
                return position + 1
        elif depth == 0 and (letter == ";" or letter == "," and not whole):
            return position + 1
    return len(text)


def without_tests(text):
    """The code without the items that only tests have. Expects text without comments."""
    while found := TEST.search(text):
        start = found.end()
        while attribute := re.compile(r"\s*#\[").match(text, start):
            start = closing(text, attribute.end() - 1)
        end = end_of_item(text, start)
        text = text[: found.start()] + "\n" * text.count("\n", found.start(), end) + text[end:]
    return text


def closing(text, opening):
    """The position behind the bracket that closes the one at `opening`."""
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] in "([{") - (text[position] in ")]}")
        if depth == 0:
            return position + 1
    return len(text)


def modules(root):
    """The modules of the crate whose `lib.rs` is in `root`, tests left out: {path: [(file, code), ...]}."""
    found = {}

    def visit(path, file, folder):
        code = without_tests(without_comments(file.read_text()))
        found.setdefault(path, []).append((file, code))
        # Paths in attributes are literals, which `without_comments` has emptied: they are read where they stand.
        paths = dict(
            (name, place)
            for place, name in re.findall(r'#\[path = "([^"]*)"\]\s*(?:pub\b(?:\([^)]*\))?\s*)?mod (\w+);', file.read_text())
        )
        for declared in re.finditer(r"\bmod\s+(\w+)\s*;", code):
            name = declared[1]
            places = [folder / f"{name}.rs", folder / name / "mod.rs"]
            if name in paths and re.search(r"#\[path[^\]]*\]\s*(?:pub\b(?:\([^)]*\))?\s*)?$", code[: declared.start()]):
                places = [file.parent / paths[name]]
            for place in places:
                if place.exists():
                    visit(path + (name,), place, folder / name)

    visit((), pathlib.Path(root) / "lib.rs", pathlib.Path(root))
    return found
