"""What the page shows of a gateway with some traffic, and what it does with what is asked of it."""

import json
import os
import shutil
import tempfile
import unittest
import urllib.parse

from browser import Browser, Tab
from gateway import HOSTILE, Between, Demo, Gateway

TOKEN = "admin-token-of-the-page-tests"
SHOWN = "document.getElementById('data')?.hidden === false"
# Relative luminance and contrast (WCAG 2), of each text against the nearest ground that is painted.
CONTRAST = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => rgb(color).slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (it) => {
    for (; it; it = it.parentElement) {
      const color = getComputedStyle(it).backgroundColor;
      if (rgb(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const it of document.querySelectorAll("body *")) {
    const own = [...it.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim() !== "");
    if (!own || it.closest("svg") || it.closest("noscript") || !it.checkVisibility()) continue;
    const [one, other] = [luminance(getComputedStyle(it).color), luminance(ground(it))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) low.push(`${it.outerHTML.slice(0, 80)}: ${contrast.toFixed(2)}`);
  }
  return low;
})()
"""
WIDER = """[...document.querySelectorAll("body *")].filter((it) => it.checkVisibility() && !it.closest("pre, svg, thead, .skip")
  && it.getBoundingClientRect().right > innerWidth + 0.5).map((it) => it.outerHTML.slice(0, 120))"""


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.browser = Browser(os.path.join(cls.folder, "profile"))
        cls.addClassCleanup(cls.browser.close)
        cls.demo = Demo()
        cls.addClassCleanup(cls.demo.close)
        cls.gateway = Gateway(cls.demo, cls.folder)
        cls.addClassCleanup(cls.gateway.close)

    def tab(self, url=None, **how):
        tab = Tab(self.browser, **how)
        self.addCleanup(tab.close)
        tab.go(url or self.gateway.page + "/")
        return tab

    def between(self):
        between = Between(self.gateway)
        self.addCleanup(between.close)
        return between

    def is_clean(self, tab):
        self.assertEqual(tab.said, [], "the console, and the policy, have nothing to say")

    def test_it_shows_a_gateway_as_it_runs(self):
        tab = self.tab()
        tab.until(SHOWN)
        self.gateway.traffic()
        tab.until_text("#refusals", "insufficient_scope")
        self.gateway.traffic()
        for selector, texts in {
            "#routes": ["graph", "/graph/{*rest}", "scope access_as_user", "on behalf of the caller", "everybody", "answers 204",
                        "5xx", "1 per 60 min and ip"],
            "#upstreams": ["graph", "dead", "127.0.0.1:9", "no health check"],
            "#providers": ["entra", "2 keys" if "2 keys" in tab.text("#providers") else "1 key", "fetched", "closed", "success"],
            "#cache": ["Hit rate", "Found ready", "%"],
            "#tiles": ["Requests", "/s", "p99", "ms"],
            "#refusals": ["token_missing", "token_invalid", "rate_limited", "upstream_unreachable", "route_not_found", "GET /nowhere",
                          "GET /graph/v1.0/me", "route graph", "127.0.0.1"],
            "#by-code": ["token_missing"],
            "#config-facts": ["In force since", "Reloads"],
            "#verdict": ["Ready, with failures"],
            "#attention": ["with 5xx in the last minute", "most of them on route dead"],
            "#chart-requests": ["2xx, 3xx", "5xx"],
            "#chart-duration": ["p50", "p99"],
            "#chart-refusals": ["rate_limited", "token_missing"],
        }.items():
            for text in texts:
                with self.subTest(selector, text=text):
                    tab.until_text(selector, text)
        tab.until("[...document.querySelectorAll('.charts path')].filter((it) => it.getAttribute('d').length > 30).length > 6", "charts are drawn")
        label = tab.evaluate("document.querySelector('#chart-requests svg').getAttribute('aria-label')")
        self.assertRegex(label, r"^Requests per second, now: 2xx, 3xx .*/s, 4xx .*/s, 5xx ")
        tab.shot("light")
        self.is_clean(tab)
        origins = {urllib.parse.urlsplit(url)[:2] for _, url, _ in tab.requests if not url.startswith("data:")}
        self.assertEqual(origins, {tuple(urllib.parse.urlsplit(self.gateway.page)[:2])})
        self.assertEqual(tab.most_open, 1, "one request at a time")
        everything = tab.evaluate("document.documentElement.outerHTML")
        self.assertNotIn(self.gateway.token[:40], everything)

    def test_who_the_callers_were_is_said_if_asked(self):
        self.gateway.traffic()
        tab = self.tab()
        tab.until_text("#refusals", "insufficient_scope")
        self.assertNotIn("user ", tab.text("#refusals"))
        self.assertFalse([url for _, url, _ in tab.requests if "names" in url])
        tab.click("#names")
        tab.until_text("#refusals", "user ")
        self.assertTrue([url for _, url, _ in tab.requests if "names=true" in url])
        tab.click("#names")
        tab.until("document.querySelectorAll('#refusals tr').length > 0 && !document.querySelector('#refusals').innerText.includes('user ')")
        self.is_clean(tab)

    def test_the_token_is_asked_for_and_kept_by_the_tab(self):
        folder = os.path.join(self.folder, "with-token")
        os.makedirs(folder)
        gateway = Gateway(self.demo, folder, admin=f", token: {TOKEN}")
        self.addCleanup(gateway.close)
        tab = self.tab(gateway.page + "/")
        tab.until("document.getElementById('ask')?.hidden === false")
        tab.until_text("#ask-why", "asks for its admin token")
        self.assertEqual(tab.evaluate("document.activeElement.id"), "token")
        asked = len(tab.requests)
        tab.type("#token", "not-the-token-é")
        tab.press_enter()
        tab.until_text("#ask-why", "not the admin token")
        self.assertEqual(tab.evaluate("sessionStorage.length"), 0, "a wrong one is forgotten")
        self.assertFalse(tab.evaluate(SHOWN))
        self.assertEqual(len(tab.requests), asked + 1, "it is tried once, and nothing else is asked for")
        tab.shot("token")
        tab.type("#token", TOKEN)
        tab.press_enter()
        tab.until(SHOWN)
        tab.until_text("#verdict", "Ready")
        self.assertNotIn(TOKEN, tab.evaluate("location.href + document.documentElement.outerHTML + document.cookie"))
        self.assertEqual(tab.evaluate("document.getElementById('token').value + localStorage.length"), "0")
        for _, url, headers in tab.requests:
            names = {name.lower() for name in headers}
            self.assertEqual("authorization" in names, "/api/v1/" in url and TOKEN in str(headers) or "not-the" in str(headers))
        tab.click("#reload")
        tab.until_text("#outcome", "Reloaded")
        tab.go(gateway.page + "/")
        tab.until(SHOWN, "the tab still has it")
        other = self.tab(gateway.page + "/")
        other.until("document.getElementById('ask')?.hidden === false")
        tab.click("#forget")
        tab.until("document.getElementById('ask')?.hidden === false")
        self.assertEqual(tab.evaluate("sessionStorage.length"), 0)
        # A 401 is said by the browser itself.
        self.assertEqual({line for line in tab.said if "401 (Unauthorized)" not in line}, set())

    def test_a_reload_says_what_became_of_it(self):
        tab = self.tab()
        tab.until(SHOWN)
        self.addCleanup(self.gateway.write)
        self.gateway.write("  - { name: added-later, match: { path: /later }, auth: none, respond: { status: 200 } }\n")
        tab.click("#reload")
        tab.until_text("#outcome", "Reloaded")
        tab.until_text("#routes", "added-later")
        tab.until_text("#last-reload", "last reload: success")
        self.gateway.write(f'  - {{ name: bad, match: {{ path: /bad }}, auth: none, upstream: "{HOSTILE}" }}\n')
        tab.click("#reload")
        tab.until_text("#outcome", "The file can't be used: nothing has changed")
        for text in ("routes.yaml:19:", "Do: ", HOSTILE):
            self.assertIn(text, tab.text("#outcome"))
        tab.until_text("#attention", "The last reload, at ")
        tab.until_text("#last-reload", "last reload: failure")
        tab.until_text("#routes", "added-later")
        tab.shot("bad-reload")
        self.gateway.write()
        tab.click("#reload")
        tab.until_text("#outcome", "Reloaded")
        tab.until("!document.querySelector('#routes').innerText.includes('added-later')")
        tab.click("#outcome button")
        self.assertTrue(tab.evaluate("document.getElementById('outcome').hidden"))
        self.assertEqual({line for line in tab.said if "422 (Unprocessable" not in line}, set())

    def test_what_others_wrote_is_text(self):
        between = self.between()

        def hostile(value):
            if isinstance(value, dict):
                return {key: hostile(it) for key, it in value.items()}
            if isinstance(value, list):
                return [hostile(it) for it in value]
            return value + HOSTILE if isinstance(value, str) and "T" not in value[10:11] else value

        def alter(path, answer):
            # Names that the page joins, and words that it decides by, stay what they are.
            if path == "stats":
                answer["refusals"] = {code + HOSTILE: n for code, n in answer["refusals"].items()}
                return answer | {"not_ready": [HOSTILE], "version": HOSTILE, "commit": HOSTILE}
            altered = hostile(answer)
            if path == "refusals":
                altered["by_code"] = {code + HOSTILE: n for code, n in answer["by_code"].items()}
            for row, original in zip(altered.get("routes", []), answer.get("routes", [])):
                row["auth"]["kind"], row["action"]["kind"] = original["auth"]["kind"], original["action"]["kind"]
            return altered

        self.gateway.traffic()
        between.alter = alter
        tab = self.tab(between.page + "/")
        tab.until(SHOWN)
        for selector in ("#routes", "#upstreams", "#providers", "#refusals", "#attention", "#version", "#by-code"):
            tab.until_text(selector, HOSTILE)
        self.assertIn(HOSTILE.replace('"', '\\"'), tab.evaluate("document.getElementById('config').textContent"))
        self.assertEqual(tab.evaluate("document.querySelectorAll('img, body script, [onerror]').length"), 0)
        self.is_clean(tab)
        # What would forget this is stopped by the browser.
        said = tab.evaluate("(() => { try { document.body.innerHTML = 'x' } catch (error) { return error.name } })()")
        self.assertEqual(said, "TypeError")

    def test_it_says_when_nobody_answers_and_when_counts_begin_anew(self):
        between = self.between()
        tab = self.tab(between.page + "/")
        tab.until(SHOWN)
        between.is_down = True
        tab.until_text("#verdict", "Can't be reached")
        self.assertTrue(tab.evaluate("document.title.startsWith('! ')"))
        tab.until_text("#verdict", "What is below was so at")
        between.is_down = False
        tab.until_text("#verdict", "Ready")

        def restarted(path, answer):
            if path == "stats":
                answer |= {"started_at": "2026-11-23T06:00:00Z", "uptime_seconds": 1.5}
                answer["requests"] |= {"requests": 0, "by_status": {}}
            return answer

        between.alter = restarted
        tab.until_text("#changed", "counts begin anew")
        self.assertNotIn("NaN", tab.text("body"))
        self.assertNotIn("-", tab.text("#tiles dd"))
        between.alter = lambda path, answer: answer | {"not_ready": ["the keys of entra"]} if path == "stats" else answer
        tab.until_text("#verdict", "Not ready")
        tab.until_text("#attention", "the keys of entra")

    def test_it_asks_only_while_somebody_looks(self):
        tab = self.tab()
        tab.until(SHOWN)
        hide = """Object.defineProperty(document, "hidden", { value: %s, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"))"""
        polls = lambda: sum("/stats" in url for _, url, _ in tab.requests)
        for stop, go_on in ((lambda: tab.evaluate(hide % "true"), lambda: tab.evaluate(hide % "false")),
                            (lambda: tab.click("#pause"), lambda: tab.click("#pause"))):
            stop()
            # One that is under way still ends.
            tab.evaluate("new Promise((done) => setTimeout(done, 3000))")
            before = polls()
            tab.evaluate("new Promise((done) => setTimeout(done, 5000))")
            self.assertEqual(polls(), before)
            go_on()
            tab.until("true")
            while polls() < before + 2:
                tab.evaluate("new Promise((done) => setTimeout(done, 200))")
        # Whoever hurries it has one poll at a time all the same.
        tab.evaluate("for (let i = 0; i < 50; i += 1) document.dispatchEvent(new Event('visibilitychange'))")
        tab.evaluate("new Promise((done) => setTimeout(done, 3000))")
        self.assertEqual(tab.most_open, 1)
        self.assertLess(polls(), before + 12)

    def test_a_thousand_routes_are_a_hundred_rows_and_a_filter(self):
        between = self.between()

        def thousand(path, answer):
            if path in ("routes", "stats") and answer["routes"]:
                first = json.dumps(answer["routes"][0])
                key = "name" if path == "routes" else "route"
                answer["routes"] = [json.loads(first) | {key: f"r{i:04}"} for i in range(1000)]
                answer["routes_total" if path == "stats" else "total"] = 2345
                answer["next"] = "r0999"
            return answer

        between.alter = thousand
        tab = self.tab(between.page + "/", width=360, height=740)
        tab.until("document.querySelectorAll('#routes tr').length === 100")
        tab.until_text("#routes-count", "100 of 2,345 shown; only the first 1,000 by name are searched")
        tab.type("#filter", "R0997")
        tab.until("document.querySelectorAll('#routes tr').length === 1")
        tab.until_text("#routes", "r0997")
        self.assertEqual(tab.evaluate("document.activeElement.id"), "filter")
        self.assertEqual(tab.evaluate(WIDER), [])
        # The large answer is not asked for with each poll.
        tab.until("performance.getEntriesByType('resource').filter((it) => it.name.includes('stats?limit=1')).length > 1")

    def test_it_fits_a_phone(self):
        self.gateway.traffic()
        for width in (320, 360, 412, 768, 1024):
            with self.subTest(width=width):
                tab = self.tab(width=width, height=740)
                tab.until_text("#refusals", "rate_limited")
                tab.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true })")
                self.assertLessEqual(tab.evaluate("document.documentElement.scrollWidth"), width)
                self.assertEqual(tab.evaluate(WIDER), [])
                tab.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = false })")
                tab.shot(f"phone-{width}")
                self.is_clean(tab)

    def test_it_can_be_read_by_day_and_in_a_dark_room(self):
        self.gateway.traffic()
        for dark in (False, True):
            tab = self.tab(dark=dark)
            tab.until_text("#refusals", "rate_limited")
            self.gateway.traffic()
            tab.until_text("#attention", "5xx")
            ground = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
            self.assertEqual(max(ground) < 40, dark, ground)
            self.assertEqual(tab.evaluate(CONTRAST), [])
            tab.shot("dark" if dark else "day")

    def test_it_can_be_used_by_keyboard_and_heard(self):
        tab = self.tab()
        tab.until(SHOWN)
        reached = []
        for _ in range(12):
            for kind in ("keyDown", "keyUp"):
                tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            reached.append(tab.evaluate("document.activeElement.id || document.activeElement.textContent"))
        for name in ("Skip to the state", "pause", "reload", "names", "filter", "sort"):
            self.assertIn(name, reached)
        nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
        said = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
        for role, name in {("heading", "Routes"), ("table", "Upstreams"), ("checkbox", "Say who the callers were"), ("button", "Pause"),
                           ("button", "Reload the file")}:
            self.assertIn((role, name), said)
        self.assertFalse([one for one in said if one[0] in ("button", "checkbox", "textbox", "searchbox", "combobox", "image") and not one[1]])
        self.assertIn("columnheader", {role for role, _ in said})


if __name__ == "__main__":
    unittest.main()
