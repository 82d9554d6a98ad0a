"""The book as it was built: links, anchors, pages, recipes and codes."""

import html.parser
import os
import pathlib
import re
import unittest
import urllib.parse

import yaml

ROOT = pathlib.Path(__file__).parents[2]
BOOK = pathlib.Path(os.environ["BOOK"])
SOURCE = ROOT / "docs" / "src"

# What is not a page of the book.
NO_PAGES = {"print.html", "404.html", "toc.html"}


class Page(html.parser.HTMLParser):
    """The ids of a page, and where its links lead."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])


def pages():
    return {
        path.relative_to(BOOK).as_posix(): Page(path)
        for path in BOOK.rglob("*.html")
        if path.name not in NO_PAGES
    }


class Links(unittest.TestCase):
    def test_links_lead_to_pages_and_anchors(self):
        book = pages()
        self.assertGreater(len(book), 30)
        dead, followed = [], 0
        for name, page in book.items():
            for link in page.links:
                parts = urllib.parse.urlsplit(link)
                if parts.scheme or parts.netloc:
                    continue
                followed += 1
                target = name
                if parts.path:
                    folder = pathlib.PurePosixPath(name).parent
                    target = os.path.normpath(folder / urllib.parse.unquote(parts.path))
                fragment = urllib.parse.unquote(parts.fragment)
                if pathlib.PurePosixPath(target).name in NO_PAGES:
                    continue
                if target not in book:
                    dead.append(f"{name}: {link}: no such page")
                elif fragment and fragment not in book[target].ids:
                    dead.append(f"{name}: {link}: no such anchor")
        self.assertGreater(followed, 100)
        self.assertEqual(dead, [])

    def test_every_page_is_listed(self):
        summary = (SOURCE / "SUMMARY.md").read_text(encoding="utf-8")
        listed = set(re.findall(r"\]\(([^)]+\.md)\)", summary))
        there = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.md")}
        self.assertEqual(there - {"SUMMARY.md"}, listed)

    def test_the_readme_leads_to_pages(self):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", readme)
        local = [link for link in links if "://" not in link]
        self.assertTrue(local)
        self.assertEqual([link for link in local if not (ROOT / link).exists()], [])


def keys(value, path=""):
    """The paths of all values of a file that are no mappings; elements of lists count together."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from keys(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for inner in value:
            yield from keys(inner, f"{path}[]")
    else:
        yield path


def covered(explained, key):
    return any(key == row or key.startswith((row + ".", row + "[]")) for row in explained)


class Recipes(unittest.TestCase):
    def test_each_example_has_a_recipe_that_explains_its_keys(self):
        examples = sorted((ROOT / "examples").glob("*.yaml"))
        self.assertGreater(len(examples), 10)
        wrong = []
        for example in examples:
            page = SOURCE / "recipes" / f"{example.stem}.md"
            if not page.exists():
                wrong.append(f"{example.name} has no recipe")
                continue
            text = page.read_text(encoding="utf-8")
            if f"{{{{#include ../../../examples/{example.name}}}}}" not in text:
                wrong.append(f"{page.name} does not include {example.name}")
            # The first cell of each row of the page's tables is one key, or several.
            cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
            explained = {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}
            there = set(keys(yaml.safe_load(example.read_text(encoding="utf-8"))))
            missing = sorted(key for key in there if not covered(explained, key))
            gone = sorted(row for row in explained if not any(covered({row}, key) for key in there))
            wrong += [f"{page.name} does not explain `{key}`" for key in missing]
            wrong += [f"{page.name} explains `{row}`, which is not in the file" for row in gone]
        self.assertEqual(wrong, [])


class Codes(unittest.TestCase):
    def test_each_code_has_a_section(self):
        source = (ROOT / "src" / "rejection.rs").read_text(encoding="utf-8")
        codes = set(re.findall(r'\(\d{3}, "([a-z_]+)", "', source))
        self.assertGreater(len(codes), 15)
        page = (SOURCE / "troubleshooting" / "codes.md").read_text(encoding="utf-8")
        sections = set(re.findall(r"^### \d{3} `([a-z_]+)`$", page, re.MULTILINE))
        self.assertEqual(sections, codes)


class Metrics(unittest.TestCase):
    """As names without the ends that the exposition adds."""

    def setUp(self):
        sources = (ROOT / "src" / "observe").rglob("*.rs")
        self.code = "\n".join(path.read_text(encoding="utf-8") for path in sources)

    def test_no_page_names_a_metric_that_is_not_there(self):
        text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.md"))
        named = set(re.findall(r"obo_gateway_([a-z_]+[a-z])", text))
        # Their own page leaves the prefix out.
        page = (SOURCE / "operations" / "metrics.md").read_text(encoding="utf-8")
        cells = re.findall(r"^\| (`[a-z_`{},. ]+`) \|", page, re.MULTILINE)
        named |= {name for cell in cells for name in re.findall(r"`([a-z_]+)(?:\{|`)", cell)}
        self.assertGreater(len(named), 20)
        bare = {name: re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named}
        gone = [name for name, known in bare.items() if f'"{known}"' not in self.code]
        self.assertEqual(gone, [])

    def test_the_page_says_what_each_alert_is_for(self):
        rules = (ROOT / "deploy" / "prometheus" / "rules.yaml").read_text(encoding="utf-8")
        alerts = set(re.findall(r"alert: (\w+)", rules))
        self.assertGreater(len(alerts), 10)
        page = (SOURCE / "operations" / "metrics.md").read_text(encoding="utf-8")
        self.assertEqual(set(re.findall(r"`(OboGateway\w+)`", page)), alerts)


class Moving(unittest.TestCase):
    def test_settings_of_others_are_mapped_to_keys_that_are_there(self):
        schema = (ROOT / "routes.schema.json").read_text(encoding="utf-8")
        wrong, looked_at = [], 0
        for page in (SOURCE / "moving").glob("*.md"):
            for row in re.findall(r"^\| .* \|$", page.read_text(encoding="utf-8"), re.MULTILINE):
                for code in re.findall(r"`([^`]+)`", row.split(" | ")[1] if row.count(" | ") > 1 else ""):
                    # A key, and not the name of a claim, header or code.
                    for key in re.findall(r"(?<![\w{/-])[a-z]+(?:_[a-z]+)+(?=[:.\s}]|$)", code):
                        looked_at += 1
                        if f'"{key}"' not in schema and not key.endswith(("_username", "_challenge")):
                            wrong.append(f"{page.name}: `{key}`")
        self.assertGreater(looked_at, 50)
        self.assertEqual(wrong, [])


class Tests(unittest.TestCase):
    def test_the_security_model_names_tests_that_are_there(self):
        text = (SOURCE / "security.md").read_text(encoding="utf-8")
        named = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){3,})`", text))
        self.assertGreater(len(named), 15)
        files = [path for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.rs")]
        code = "\n".join(path.read_text(encoding="utf-8") for path in files)
        self.assertEqual([name for name in named if f"fn {name}(" not in code], [])
        paths = set(re.findall(r"`(tests/it/[^`]+)`", text))
        self.assertGreater(len(paths), 3)
        self.assertEqual([path for path in paths if not (ROOT / path).exists()], [])


if __name__ == "__main__":
    unittest.main()
