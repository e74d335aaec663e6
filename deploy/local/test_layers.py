"""Tests of layers.py on small packages: python3 -m unittest discover -s deploy/local"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).with_name("layers.py")
CHILD = "use super::Setting;\npub fn run() {}\n"


class Layers(unittest.TestCase):
    def found(self, files):
        """Returns the output of the script for a package with these files in `src`."""
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
            for name, text in files.items():
                path = Path(folder, "src", name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            done = subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (1 if done.stdout else 0, ""), done)
            return done.stdout

    def circle(self, parent):
        return "src/a.rs" in self.found({
            "lib.rs": "mod a;\n", "a.rs": f"mod b;\npub struct Setting;\n{parent}", "a/b.rs": CHILD})

    def test_a_circle_is_found_however_the_other_file_is_named(self):
        self.assertTrue(self.circle("use b::run;\n"))
        self.assertTrue(self.circle("fn go() {\n    use b::run;\n    run();\n}\n"))
        self.assertTrue(self.circle("fn go() {\n    b::run();\n}\n"))
        self.assertTrue(self.circle("fn go() {\n    crate::a::b::run();\n}\n"))

    def test_what_names_nothing_is_no_circle(self):
        for parent in ("", "pub use b::run;\n", "// b::run()\n", "const URL: &str = \"http://b::run\";\n",
                       "#[cfg(test)]\nmod tests {\n    use super::b::run;\n}\n"):
            self.assertFalse(self.circle(parent), parent)

    def test_a_name_that_is_passed_on_counts_for_its_own_file(self):
        files = {"lib.rs": "mod a;\nmod c;\n", "a.rs": "mod b;\npub use b::run as begin;\n"}
        user = "use crate::a::begin;\npub struct Setting;\n"
        circle = self.found({**files, "a/b.rs": "use crate::c::Setting;\n", "c.rs": user})
        self.assertIn("src/a/b.rs, src/c.rs", circle)
        self.assertEqual(self.found({**files, "a/b.rs": "pub fn run() {}\n", "c.rs": user}), "")


if __name__ == "__main__":
    unittest.main()
