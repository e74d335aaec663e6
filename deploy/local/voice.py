#!/usr/bin/env python3
"""Checks how the project's texts read: voice.py [PATH...].

Documents (*.md): the median sentence has at most 17 words, nine of ten at most 30; README.md has at most 180 lines.
Comments, and docstrings of Python: none opens with a fragment such as "What" or "Who". PATH names files or folders;
without it, all tracked files are read. `--list` prints each long sentence.
"""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

MEDIAN_WORDS = 17
P90_WORDS = 30
README_LINES = 180
# A document with fewer sentences has no meaningful percentiles.
LEAST_SENTENCES = 8
FRAGMENTS = {"what", "whatever", "who", "whoever", "whom", "whose", "which", "of", "where", "as", "that", "those", "so"}
# Marks of comments, by the file's suffix, or by its name if it has none.
MARKS = {".rs": r"//[/!]?", ".proto": r"//", ".py": r"#", ".sql": r"--", ".toml": r"#", ".yaml": r"#",
         "Makefile": r"#", "Dockerfile": r"#", "run": r"#"}
ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|etc|vs|approx)\.")


def sentences(text):
    """Returns the sentences of a Markdown text, without code, tables, headings and the targets of links."""
    text = re.sub(r"^```.*?^```", "\n\n", text, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.)\s)", text):
        lines = [line for line in paragraph.splitlines() if not re.match(r"\s*(\||#|<|    \S)", line)]
        line = " ".join(lines)
        line = re.sub(r"`[^`]*`", "code", line)
        line = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line)
        line = ABBREVIATIONS.sub(r"\1", line)
        line = re.sub(r"^\s*(?:[-*+]|\d+\.)\s+", "", line.strip())
        for sentence in re.split(r"(?<=[.!?])[\"')*_]*\s+", line):
            words = re.findall(r"[\w'’/.%,-]*\w[\w'’/.%,-]*", sentence)
            if words:
                found.append((len(words), sentence.strip()))
    return found


def mark_of(path):
    return MARKS.get(path.suffix or path.name)


def comments(path, text):
    """Returns the line and the text of each comment that has lines of its own."""
    mark = re.compile(rf"\s*({mark_of(path)})(?:\s+(.*))?$")
    found, open_mark = [], None
    for number, line in enumerate(text.splitlines(), 1):
        match = mark.match(line)
        if not match or (number == 1 and line.startswith("#!")):
            open_mark = None
            continue
        kind, words = match[1], (match[2] or "").strip()
        if not words:
            open_mark = None
        elif kind != open_mark:
            open_mark = kind
            found.append((number, words))
    return found


def docstrings(text):
    """Returns the line and the text of each docstring of a Python text."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (words := ast.get_docstring(node)):
            found.append((node.body[0].lineno, words.partition("\n")[0]))
    return found


def opens_with_fragment(words):
    first = re.match(r"[*_`(\"…\s-]*([A-Za-z]+)", words)
    return bool(first) and first[1].lower() in FRAGMENTS


def tracked(paths):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths],
        check=True, capture_output=True, text=True,
    )
    # A landed migration is never edited: its checksum is recorded in databases.
    lines = [line for line in listed.stdout.splitlines() if "/migrations/" not in line]
    return [Path(line) for line in lines if Path(line).exists()]


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def check_document(path, is_listing):
    text = path.read_text()
    found = sentences(text)
    faults = []
    if path == Path("README.md") and (lines := len(text.splitlines())) > README_LINES:
        faults.append(f"{path}: {lines} lines, at most {README_LINES}")
    lengths = [length for length, _ in found]
    if len(lengths) >= LEAST_SENTENCES:
        median, p90 = statistics.median(lengths), percentile(lengths, 0.9)
        if median > MEDIAN_WORDS or p90 > P90_WORDS:
            faults.append(f"{path}: median sentence {median:g} words (at most {MEDIAN_WORDS}), "
                          f"p90 {p90} (at most {P90_WORDS})")
    if is_listing:
        for length, sentence in found:
            if length > P90_WORDS:
                print(f"{path}: {length} words: {sentence}")
    return faults


def main(arguments):
    is_listing = "--list" in arguments
    files = tracked([argument for argument in arguments if argument != "--list"] or ["."])
    faults = []
    for path in files:
        if path.suffix == ".md":
            faults += check_document(path, is_listing)
        elif mark_of(path):
            text = path.read_text()
            found = comments(path, text) + (docstrings(text) if path.suffix == ".py" else [])
            faults += [f"{path}:{line}: begin with the subject, not with a fragment: {words}"
                       for line, words in found if opens_with_fragment(words)]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
