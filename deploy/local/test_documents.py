"""Tests of the documents: python3 -m unittest discover -s deploy/local

Links lead to files and headings that exist, paths in backticks exist, and a test runs every block of commands."""

import re
import subprocess
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
# Blocks of commands, by document and language, and the test that runs them in order. A command that no test can run
# stands in an indented block, or in one marked `text`.
RUN_BY = {
    ("proto/README.md", "sh"): "campaign-service/tests/it/walkthrough.rs",
    ("campaign-service/docs/operations.md", "bash"): "campaign-service/tests/it/walkthrough.rs",
    ("campaign-service/campaignctl/README.md", "shell"): "campaign-service/tests/it/campaignctl/terminal.rs",
}
COMMANDS = ("sh", "bash", "shell", "console", "zsh")
FENCE = re.compile(r"^ {0,3}(```+|~~~+)[ \t]*(\S*)[^\n]*\n(.*?)^ {0,3}\1[ \t]*$", re.M | re.S)
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)")
SOURCE = re.compile(r"\b(?:src|href)=\"([^\"]+)\"")
# A path from the top, as in `shared/domain/src/retry.rs`.
PATH = re.compile(r"`((?:campaign-service|dialer-worker|shared|proto|deploy|\.github|\.ci)/[\w./-]+)`")


def documents():
    """Returns the names of all documents, those that are not committed yet among them."""
    if not (TOP / ".git").exists():
        raise unittest.SkipTest("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=TOP,
                            check=True, capture_output=True, text=True)
    return sorted(name for name in listed.stdout.splitlines() if (TOP / name).exists())


def prose(text):
    """Returns a text without its blocks and code, which hold no links."""
    text = FENCE.sub("", text)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.M)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(path):
    """Returns the anchors of a document's headings, as GitHub makes them."""
    found = set()
    for title in re.findall(r"^#{1,6} (.+?)\s*#*$", FENCE.sub("", path.read_text()), re.M):
        title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        same = sum(1 for other in found if re.fullmatch(re.escape(anchor) + r"(-\d+)?", other))
        found.add(f"{anchor}-{same}" if same else anchor)
    return found


class Documents(unittest.TestCase):
    def setUp(self):
        self.texts = {name: (TOP / name).read_text() for name in documents()}
        self.assertIn("README.md", self.texts)

    def test_links_lead_to_files_and_headings_that_exist(self):
        dead = []
        for name, text in self.texts.items():
            targets = LINK.findall(prose(text)) + SOURCE.findall(prose(text))
            for target in targets:
                if re.match(r"[a-z]+:", target):
                    continue
                file, _, anchor = target.partition("#")
                path = (TOP / name).parent / file if file else TOP / name
                is_dead = not path.exists()
                if anchor and not is_dead:
                    is_dead = path.suffix != ".md" or anchor not in anchors(path)
                if is_dead:
                    dead.append(f"{name}: {target}")
        self.assertEqual(dead, [], "dead links")

    def test_paths_in_backticks_exist(self):
        missing = []
        for name, text in self.texts.items():
            for path in PATH.findall(FENCE.sub("", text)):
                here = (TOP / name).parent / path
                if not (TOP / path).exists() and not here.exists():
                    missing.append(f"{name}: {path}")
        self.assertEqual(missing, [], "no such files")

    def test_every_block_of_commands_is_run_by_a_test(self):
        found = set()
        for name, text in self.texts.items():
            found |= {(name, language) for _, language, _ in FENCE.findall(text) if language in COMMANDS}
        self.assertEqual(sorted(found - set(RUN_BY)), [],
                         "no test runs these: name the test in RUN_BY, or indent the block")
        self.assertEqual(sorted(set(RUN_BY) - found), [], "documents without such blocks")

    def test_the_tests_that_are_named_read_their_documents(self):
        for (document, language), test in RUN_BY.items():
            called = re.search(rf'blocks\("{re.escape(document)}", "{language}"\)', (TOP / test).read_text())
            self.assertIsNotNone(called, f"{test} does not run the {language} blocks of {document}")

    def test_anchors_are_as_github_makes_them(self):
        self.assertIn("where-is-the-rule-for", anchors(TOP / "README.md"))
        self.assertIn("guards-etag-request_id-actor-reason", anchors(TOP / "proto" / "README.md"))


if __name__ == "__main__":
    unittest.main()
