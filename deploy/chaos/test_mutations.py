"""Checks that the mutations fit the code: a mutation that no longer applies would break nothing and show nothing."""

import unittest

import mutations


class Mutations(unittest.TestCase):
    def test_each_applies_once(self):
        for name, (_, changes) in mutations.MUTATIONS.items():
            for file, old, new in changes:
                with self.subTest(mutation=name, file=file):
                    self.assertNotEqual(old, new)
                    text = (mutations.ROOT / file).read_text(encoding="utf-8")
                    self.assertEqual(text.count(old), 1)


if __name__ == "__main__":
    unittest.main()
