#!/usr/bin/env python3
"""Checks the shape of the Rust code: layers.py [--list].

Files of a package do not use each other in a circle, a file has at most 450 lines and a function at most 70.
A file uses another when it names an item of it, in a `use` line or by a path such as `child::run`. A parent module may
declare and re-export its children: `mod` lines and a `pub use` of a child are no use. A name that is passed on counts
for the file that has it. Tests and their modules are left out of circles.
"""

import re
import subprocess
import sys
from pathlib import Path

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 70
# Start of a `use` line that passes names on.
PUB = r"pub(?:\([^)]*\))? "
# Comments and literals, which name nothing.
SILENT = re.compile(r"""//[^\n]*|\br(#*)".*?"\1|"(?:\\.|[^"\\])*"|'"'""", re.S)


def tracked():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs"],
                            check=True, capture_output=True, text=True)
    return sorted(Path(line) for line in set(listed.stdout.splitlines()) if Path(line).exists())


def crate_roots(files):
    """Returns the folder and root file of each library or program, the innermost folder first."""
    roots = [path for path in files if path.name in ("main.rs", "lib.rs")]
    return sorted(roots, key=lambda root: -len(root.parts))


def modules(root, files, is_root_file):
    """Returns the module path of each file below a root."""
    found = {}
    for path in files:
        if root.parent not in path.parents:
            continue
        parts = list(path.relative_to(root.parent).with_suffix("").parts)
        if parts[-1] == "mod":
            parts.pop()
        found[path] = () if is_root_file(path) else tuple(parts)
    return found


def without_tests(text):
    """Returns a text without its test module, which comes last."""
    return re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, flags=re.M)[0]


def expand(tree):
    """Returns the paths that the tree of a `use` line names, each with its `as`."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        return [tree]
    prefix, depth, start, paths = tree[:brace], 0, brace + 1, []
    for at, char in enumerate(tree[brace:], brace):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if (char == "," and depth == 1) or (char == "}" and depth == 0):
            part = tree[start:at].strip()
            paths += [prefix + path for path in expand(part)] if part else []
            start = at + 1
    return paths


def resolve(path, module):
    """Returns the absolute path of a path in a module. A path begins at a child if it does not say otherwise."""
    parts = [part for part in path.split("::") if part != "self"]
    base = list(module)
    if parts and parts[0] == "crate":
        return parts[1:]
    while parts and parts[0] == "super":
        base, parts = base[:-1], parts[1:]
    return base + parts


def names_used(path, module, keyword):
    """Returns the absolute paths that the `use` lines of a file name, each with the name that the file gives it."""
    text = without_tests(path.read_text())
    for line in re.findall(rf"^\s*{keyword}use ([^;]+);", text, flags=re.M):
        for entry in expand(" ".join(line.split())):
            name, _, alias = entry.partition(" as ")
            target = resolve(name, module)
            yield target, alias or target[-1]


def paths_named(path, module, by_module):
    """Returns the absolute paths that a file names outside of its `use` lines."""
    text = re.sub(rf"^\s*(?:{PUB})?use [^;]+;", "", without_tests(path.read_text()), flags=re.M)
    for name in re.findall(r"(?<![\w:])\w+(?:::\w+)+", SILENT.sub("", text)):
        first = name.split("::")[0]
        # Any other path begins at a type, a crate, or a module of a `use` line.
        if first in ("crate", "self", "super") or (*module, first) in by_module:
            yield resolve(name, module)


def owner_of(target, by_module):
    """Returns the file that a path leads to, and the rest of the path."""
    for length in range(len(target), -1, -1):
        owner = by_module.get(tuple(target[:length]))
        if owner:
            return owner, target[length:]
    return None, []


def exports(own, by_module):
    """Returns, for each file, the names that it passes on from another, and that other file."""
    found = {}
    for path, module in own.items():
        for target, name in names_used(path, module, PUB):
            owner, rest = owner_of(target, by_module)
            if owner and owner != path and rest:
                found[path, name] = owner
    return found


def uses(path, own, by_module, passed_on):
    """Returns the files that a file uses."""
    module = own[path]

    def leads_to(targets):
        for target in targets:
            owner, rest = owner_of(target, by_module)
            while rest and (owner, rest[0]) in passed_on:
                owner = passed_on[owner, rest[0]]
            # A name of another crate leads to the file itself.
            if owner and owner != path:
                yield owner

    used = [target for target, _ in names_used(path, module, "")]
    passed = [target for target, _ in names_used(path, module, PUB)]
    found = set(leads_to([*used, *paths_named(path, module, by_module)]))
    return found | {owner for owner in leads_to(passed) if own[owner][:len(module)] != module}


def circles(graph):
    """Returns the groups of files that use each other in a circle (Tarjan's components)."""
    index, low, stack, on_stack, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on_stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while True:
                member = stack.pop()
                on_stack.discard(member)
                group.append(member)
                if member == node:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def long_functions(path):
    """Returns the line, name and length of each function that is too long."""
    found, lines = [], path.read_text().splitlines()
    for number, line in enumerate(lines):
        match = re.match(r"(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe )*fn (\w+)", line)
        if not match:
            continue
        for end in range(number, len(lines)):
            if lines[end] == match[1] + "}" or (end == number and lines[end].rstrip().endswith(("}", ";"))):
                if end - number + 1 > MAX_FUNCTION_LINES:
                    found.append((number + 1, match[2], end - number + 1))
                break
    return found


def main(arguments):
    files = tracked()
    faults = []
    for path in files:
        length = len(path.read_text().splitlines())
        if length > MAX_FILE_LINES:
            faults.append(f"{path}: {length} lines, at most {MAX_FILE_LINES}")
        for line, name, length in long_functions(path):
            faults.append(f"{path}:{line}: `{name}` has {length} lines, at most {MAX_FUNCTION_LINES}")
    left = [path for path in files if "src" in path.parts]
    for root in crate_roots(left):
        own = modules(root, left, lambda path, root=root: path == root)
        left = [path for path in left if path not in own or path.name in ("main.rs", "lib.rs") and path != root]
        by_module = {module: path for path, module in own.items()}
        passed_on = exports(own, by_module)
        graph = {path: uses(path, own, by_module, passed_on) for path in own}
        for group in circles(graph):
            faults.append("files use each other in a circle: " + ", ".join(map(str, group)))
            if "--list" in arguments:
                for path in group:
                    for other in sorted(graph[path] & set(group)):
                        faults.append(f"    {path} -> {other}")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
