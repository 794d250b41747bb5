#!/usr/bin/env python3
"""The page at `/` in a real browser: headless Chromium against a real server.

    page_test.py BUILD_DIR CHECKPOINT CASE...           without cases: all of them
    page_test.py BUILD_DIR CHECKPOINT --screenshot PNG  the picture of the README

The checkpoint may be untrained: structure and behaviour are what is looked at, and the text is compared with the
API's.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import chromium
from fulger_process import Server, run_cases
from scratch_python import SKIPPED

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
ALT, SHIFT = 1, 8

# A model ends its answers when it likes. Tests need answers of a known length: requests of the page go out with
# what `window.extra` holds besides.
EXTRA_FIELDS = """
  window.extra = {temperature: 0, ignore_eos: true, max_tokens: 24};
  const ask = window.fetch;
  window.sent = [];
  window.fetch = (path, options) => {
    if (options?.body) {
      const body = {...JSON.parse(options.body), ...window.extra};
      window.sent.push(body);
      options = {...options, body: JSON.stringify(body)};
    }
    return ask(path, options);
  };
"""


class Visit:
    """A server (unless one is given) and a browser that has opened its page."""

    def __init__(self, *flags, server=None, width=1280, height=800, loaded=True):
        self.server = server or Server(FULGER, MODEL, *flags)
        self.own_server = server is None
        self.size, self.loaded = (width, height), loaded

    def __enter__(self):
        if self.own_server:
            self.server.__enter__()
            self.server.wait_ready()
        self.browser = chromium.Chromium()
        self.page = self.browser.open("about:blank", *self.size)
        self.page.call("Page.addScriptToEvaluateOnNewDocument", source=EXTRA_FIELDS)
        self.page.go(self.url())
        if self.loaded:
            self.wait_loaded()
        return self

    def __exit__(self, *error):
        self.browser.__exit__(*error)
        if self.own_server:
            self.server.__exit__(*error)

    def url(self):
        return f"http://127.0.0.1:{self.server.port}/"

    def wait_loaded(self):
        self.page.wait("document.documentElement.dataset.loaded === ''")

    def reload(self):
        self.page.reload()
        self.wait_loaded()

    def set(self, **extra):
        self.page.js(f"Object.assign(window.extra, {json.dumps(extra)})")

    def enter(self):
        self.page.press("Enter", text="\r", number=13)

    def write(self, text):
        self.page.js("document.querySelector('#question').focus()")
        self.page.type(text)

    def ask(self, text):
        """Sends a question with the keyboard."""
        self.write(text)
        self.enter()

    def attach(self, *paths):
        self.page.choose_files("#composer input[type=file]", list(paths))
        self.page.wait(f"document.querySelectorAll('.tray li').length === {len(paths)}")

    def answers(self, count):
        """Waits for so many finished answers; the last one's text, as it is kept."""
        self.page.wait(f"document.querySelectorAll('.answer:not(.growing)').length === {count}")
        wait_until("the answer is kept", lambda: self.kept()["messages"][-1].get("finish"))
        return self.kept()["messages"][-1]

    def kept(self):
        """The open conversation as the browser's database holds it."""
        return self.page.js("import('./page/js/store.js').then((store) => store.loadCurrent())")

    def figures(self):
        """{label: value} below the last answer."""
        return self.page.js("Object.fromEntries([...document.querySelectorAll('.answer:last-child .figures div')]"
                            ".map((d) => [d.querySelector('dt').textContent, d.querySelector('dd').textContent]))")

    def banner(self, words):
        self.page.wait(f"!document.querySelector('#banner').hidden && "
                       f"document.querySelector('#banner').textContent.includes({json.dumps(words)})")

    def no_banner(self):
        self.page.wait("document.querySelector('#banner').hidden")

    def clean(self):
        assert not self.page.problems, self.page.problems


def picture_file(folder):
    path = os.path.join(folder, "bolt.jpg")
    subprocess.run([os.path.join(BUILD, "bin", "draw_picture"), path], check=True)
    return path


def wait_until(what, true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def case_loads_and_names_everything():
    with Visit("--replicas", "2") as visit:
        page = visit.page
        assert page.text("#model") == "demo" and page.text("#status") == "ready"
        assert page.js("document.title") == "demo · Fulger"
        assert "2 replicas of" in page.text("#facts") and "2 ranks" in page.text("#facts"), page.text("#facts")
        assert "8,192 tokens" in page.text("#facts")
        assert page.js("document.activeElement.id") == "question"
        roles = page.roles()
        for wanted in (("textbox", "Your question"), ("button", "Add pictures"), ("button", "Send"), ("button", "Settings"),
                       ("log", "Conversation"), ("link", "To the message box"), ("heading", "Fulger")):
            assert wanted in roles, (wanted, roles)
        nameless = [role for role, name in roles if role in ("button", "textbox", "link", "dialog", "spinbutton") and not name]
        assert not nameless, nameless
        for button, words in (("cluster", "Replica 1: serving"), ("settings", "Sampling"), ("history", "Nothing is kept")):
            page.click(f"#{button}")
            page.wait(f"document.querySelector('#panel').innerText.includes('{words}')")
            assert page.js(f"document.querySelector('#{button}').ariaExpanded") == "true"
        unlabelled = page.js("[...document.querySelectorAll('input, textarea, select')].filter((e) => "
                             "!e.labels?.length && !e.ariaLabel && e.type !== 'file').map((e) => e.id)")
        assert not unlabelled, unlabelled
        visit.clean()


def case_fits_a_phone_and_the_dark():
    with Visit(width=360, height=740) as visit:
        page = visit.page
        visit.ask("A question of more than a few words, to see it wrap where it should " * 2)
        visit.answers(1)
        page.js("""import('./page/js/markdown_view.js').then(({MarkdownView}) => {
          const view = new MarkdownView();
          document.querySelector('.answer article').append(view.node);
          view.update('```\\n' + 'x'.repeat(500) + '\\n```\\n\\n|a|b|\\n|-|-|\\n|' + 'word '.repeat(50) + '|b|\\n\\n' + 'y'.repeat(500));
        })""")
        for button, shown in ((None, ""), ("settings", "select, input"), ("cluster", "table, .rank"), ("history", ".open")):
            if button:
                page.click(f"#{button}")
                page.wait(f"!document.querySelector('#panel').hidden && document.querySelector('#panel .body').querySelector('{shown}')")
            wide = page.js("[...document.querySelectorAll('body, #scroller, #panel .body')]"
                           ".filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.id || e.tagName)")
            assert not wide, (button, wide)
            if button:
                page.click("#panel .close")
        light = page.js("getComputedStyle(document.documentElement).backgroundColor")
        page.dark(True)
        dark = page.js("getComputedStyle(document.documentElement).backgroundColor")
        assert light != dark, light
        page.click("#settings")
        page.js("(() => { const s = document.querySelector('#set-theme'); s.value = 'light'; s.dispatchEvent(new Event('change')); })()")
        assert page.js("getComputedStyle(document.documentElement).backgroundColor") == light
        visit.reload()
        assert page.js("getComputedStyle(document.documentElement).backgroundColor") == light, "the choice is kept"
        visit.clean()


def case_asks_and_streams():
    with Visit() as visit:
        page, server = visit.page, visit.server
        page.js("""window.lengths = new Set(); new MutationObserver(() => lengths.add(
            document.querySelector('.answer.growing .markdown')?.textContent.length ?? 0))
            .observe(document.querySelector('#transcript'), {childList: true, subtree: true, characterData: true})""")
        visit.set(max_tokens=300)
        visit.ask("Once upon a time")
        answer = visit.answers(1)
        assert page.js("lengths.size") >= 3, "the answer grew before the reader's eyes"
        question = {"role": "user", "content": "Once upon a time"}
        fields = {"model": "demo", "temperature": 0, "ignore_eos": True}
        want = server.chat({**fields, "messages": [question], "max_tokens": 300})
        assert answer["text"] == want["choices"][0]["message"]["content"], answer
        figures = visit.figures()
        assert figures["tokens"] == "300" and figures["prompt"] == str(want["usage"]["prompt_tokens"]), figures
        assert {"first token", "tokens/s", "cached"} <= set(figures), figures
        assert "ended at the longest answer" in page.text(".answer")
        assert page.text("#announcer").startswith("Answer: ") or answer["text"].strip() == ""
        # The second turn sends the first; settings go with it.
        page.click("#settings")
        page.click("#set-system")
        page.type("Be brief.")
        page.click("#set-top_k")
        page.type("7")
        page.click("#set-stop")
        page.type("never said")
        visit.set(max_tokens=8)
        visit.ask("And then?")
        again = visit.answers(2)
        sent = page.js("sent.at(-1)")
        assert sent["top_k"] == 7 and sent["stop"] == ["never said"], sent
        messages = [{"role": "system", "content": "Be brief."}, question,
                    {"role": "assistant", "content": answer["text"]}, {"role": "user", "content": "And then?"}]
        assert sent["messages"] == messages, sent["messages"]
        want = server.chat({**fields, "messages": messages, "max_tokens": 8})
        assert again["text"] == want["choices"][0]["message"]["content"], again
        # Once more: the answer is replaced, not added.
        page.click(".answer:last-child .foot button:last-child")
        page.wait("sent.length === 3")
        assert visit.answers(2)["text"] == again["text"]
        assert len(visit.kept()["messages"]) == 4
        # Edit takes the question back into the box.
        page.click(".user:nth-child(3) .actions button")
        assert page.js("document.querySelector('#question').value") == "And then?"
        assert page.js("document.querySelectorAll('.message').length") == 2
        visit.clean()


def case_sends_pictures():
    with tempfile.TemporaryDirectory() as folder, Visit() as visit:
        page = visit.page
        path = picture_file(folder)
        visit.attach(path)
        assert "480 × 360 → 4 × 3 tiles + thumbnail, 220 tokens" in page.text(".tray"), page.text(".tray")
        visit.ask("What is in this picture?")
        answer = visit.answers(1)
        assert answer["stats"]["pictures"] == 220, answer
        assert visit.figures()["of pictures"] == "220"
        url = page.js("sent[0].messages[0].content[0].image_url.url")
        want = visit.server.chat({"model": "demo", "temperature": 0, "ignore_eos": True, "max_tokens": 24,
                                  "messages": page.js("sent[0].messages")})
        assert answer["text"] == want["choices"][0]["message"]["content"] and url.startswith("data:image/jpeg;base64,")
        # The cut, drawn: three lines down and two across; opened, its arithmetic.
        assert page.js("document.querySelector('.user .seam').getAttribute('d').match(/M/g).length") == 5
        page.click(".user figure button")
        rows = page.js("[...document.querySelectorAll('dialog[open] .arithmetic td.right')].map((e) => Number(e.textContent))")
        assert len(rows) == 4 and sum(rows[:3]) == rows[3] == 220, rows
        page.press("Escape", number=27)
        page.wait("!document.querySelector('dialog.picture')")
        # Dropped and pasted.
        page.js("""window.file = async (name, type) => new File(
            [await (await fetch(document.querySelector('.user image').getAttribute('href'))).arrayBuffer()], name, {type})""")
        page.call("Page.setBypassCSP", enabled=True)  # for the test's own fetch of a data URL
        visit.reload()
        page.js("""window.file = async (name, type) => new File(
            [await (await fetch(document.querySelector('.user image').getAttribute('href'))).arrayBuffer()], name, {type})""")
        page.js("""(async () => { const d = new DataTransfer(); d.items.add(await file('dropped.jpg', 'image/jpeg'));
            document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: d, bubbles: true, cancelable: true})); })()""")
        page.wait("document.querySelector('.tray').innerText.includes('dropped.jpg')")
        page.js("""(async () => { const d = new DataTransfer(); d.items.add(await file('pasted.jpg', 'image/jpeg'));
            document.querySelector('#question').dispatchEvent(new ClipboardEvent('paste',
              {clipboardData: d, bubbles: true, cancelable: true})); })()""")
        page.wait("document.querySelectorAll('.tray li').length === 2")
        page.click(".tray li:first-child button")
        page.wait("document.querySelectorAll('.tray li').length === 1")
        assert "pasted.jpg" in page.text(".tray")
        # A picture alone is a question.
        page.click(".send")
        assert visit.answers(2)["stats"]["pictures"] == 440, "this picture and the one before"
        # What is none is refused by name.
        page.choose_files("#composer input[type=file]", [os.path.abspath(__file__)])
        page.wait("document.querySelector('#notices').innerText.includes('page_test.py is text/')")
        broken = os.path.join(folder, "broken.png")
        with open(broken, "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\nno more")
        page.choose_files("#composer input[type=file]", [broken])
        page.wait("document.querySelector('#notices').innerText.includes('broken.png is no picture')")
        visit.clean()


def case_stops():
    with Visit() as visit:
        page, server = visit.page, visit.server
        for number, stop in ((1, lambda: page.click(".stop")), (2, lambda: page.press("Escape", number=27))):
            visit.set(max_tokens=6000)
            visit.ask("Go on and on")
            page.wait("document.querySelector('.answer.growing .figures')")
            assert server.metric("fulger_state_slots_used") >= 1
            stop()
            answer = visit.answers(number)
            assert answer["finish"] == "stopped" and 0 < answer["stats"]["tokens"] < 6000, answer
            assert "stopped" in page.text(".answer:last-child .note")
            wait_until("the sequence is freed", lambda: server.metric("fulger_state_slots_used") == 0)
            assert page.js("!document.querySelector('.send').hidden && document.querySelector('.stop').hidden")
        visit.set(max_tokens=4)
        visit.ask("Short")
        assert visit.answers(3)["finish"] == "length"
        visit.clean()


def case_keeps_the_conversation():
    with tempfile.TemporaryDirectory() as folder, Visit() as visit:
        page = visit.page
        page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=folder)
        visit.attach(picture_file(folder))
        visit.ask("First question")
        first = visit.answers(1)
        before = page.text("#transcript")
        visit.reload()
        assert page.text("#transcript") == before
        assert page.wait("document.querySelector('.user image').getBBox().width > 0")
        assert visit.kept()["messages"][-1] == first
        # Cut off in mid-answer: what had come is kept, and it says so.
        visit.set(max_tokens=7000)
        visit.ask("Second question")
        page.wait("document.querySelector('.answer.growing .figures')")
        wait_until("a part of the answer is kept", lambda: (visit.kept()["messages"][-1].get("stats") or {}).get("tokens"))
        visit.reload()
        assert "cut off when the page was left" in page.text(".answer:last-child")
        assert page.js("document.querySelectorAll('.message').length") == 4
        # Files.
        page.click("#export-json")
        page.click("#export-markdown")
        paths = [os.path.join(folder, f"first-question.{end}") for end in ("json", "md")]
        wait_until("both files are there", lambda: all(os.path.exists(path) for path in paths))
        with open(paths[0], encoding="utf-8") as file:
            saved = json.load(file)
        assert saved["model"] == "demo" and saved["messages"][0]["pictures"][0]["url"].startswith("data:image/jpeg"), saved
        assert saved["messages"][1] == first
        with open(paths[1], encoding="utf-8") as file:
            assert "## You\n\n*Picture: bolt.jpg, 480 × 360*\n\nFirst question" in file.read()
        # Another one, and back.
        page.click("#new")
        assert page.js("document.querySelectorAll('.message').length") == 0
        visit.set(max_tokens=4)
        visit.ask("Another")
        visit.answers(1)
        page.click("#history")
        page.wait("document.querySelectorAll('.history li').length === 2")
        page.click(".history li:last-child .open")
        page.wait("document.querySelectorAll('.message').length === 4")
        page.click(".history li.current button:last-child")
        page.wait("document.querySelectorAll('.history li').length === 1")
        assert page.js("document.querySelectorAll('.message').length") == 0, "it is gone from the page as well"
        visit.clean()


def case_keyboard_alone():
    with Visit() as visit:
        page = visit.page
        page.press("s", "KeyS", modifiers=ALT, number=83)
        page.wait("document.activeElement.id === 'panel-title'")
        page.press("Tab", number=9)
        page.press("Tab", number=9)
        assert page.js("document.activeElement.id") == "set-system"
        page.type("/")  # is text here
        assert page.js("document.activeElement.value") == "/"
        page.press("Escape", number=27)
        page.wait("document.querySelector('#panel').hidden && document.activeElement.id === 'settings'")
        page.press("/", "Slash", text="/", number=191)
        assert page.js("document.activeElement.id") == "question" and page.js("document.activeElement.value") == ""
        visit.enter()  # nothing to send
        page.type("One")
        page.press("Enter", text="\r", modifiers=SHIFT, number=13)
        page.type("two")
        assert page.js("document.activeElement.value") == "One\ntwo"
        visit.enter()
        visit.answers(1)
        assert visit.kept()["messages"][0]["text"] == "One\ntwo"
        assert page.js("document.activeElement.id") == "question"
        for letter, words in (("c", "Cluster"), ("h", "Conversations")):
            page.press(letter, f"Key{letter.upper()}", modifiers=ALT, number=ord(letter.upper()))
            page.wait(f"document.querySelector('#panel-title').textContent === '{words}'")
        page.press("n", "KeyN", modifiers=ALT, number=78)
        page.wait("document.querySelectorAll('.message').length === 0")
        # Everything that can be clicked can be reached.
        reached = set()
        for _ in range(20):
            page.press("Tab", number=9)
            reached.add(page.js("document.activeElement.id || document.activeElement.className"))
        assert {"skip", "new", "history", "settings", "cluster", "question", "attach"} <= reached, reached
        visit.clean()


def case_text_never_becomes_markup():
    with Visit() as visit:
        page = visit.page
        hostile = ("<img src=x onerror=\"window.hacked=1\"> <script>window.hacked=1</script> [a](javascript:window.hacked=1) "
                   "[b](data:text/html,x) ![c](https://example.org/c.png)\n\n```html\n<script>window.hacked=1</script>\n```\n"
                   "| <b>x</b> | y |\n|---|---|\n| <svg onload=window.hacked=1> | z |\n\n# <i>t</i>\n\n" + "*_`[" * 3000)
        shown = page.js(f"""import('./page/js/markdown_view.js').then(({{MarkdownView}}) => {{
          const view = new MarkdownView();
          document.querySelector('#transcript').append(view.node);
          const text = {json.dumps(hostile)};
          const begin = performance.now();
          view.update(text);
          return {{tags: [...new Set([...view.node.querySelectorAll('*')].map((e) => e.tagName.toLowerCase()))].sort(),
            links: [...view.node.querySelectorAll('a')].map((a) => a.href), text: view.node.textContent}};
        }})""")
        assert not {"img", "script", "svg", "b", "i", "iframe"} & set(shown["tags"]), shown["tags"]
        assert shown["links"] == ["https://example.org/c.png"], shown["links"]
        assert "<script>window.hacked=1</script>" in shown["text"]
        assert page.js("window.hacked") is None
        # The page's own policy holds even where its code would not.
        assert page.js("(() => { try { document.body.innerHTML = 'x'; return 'allowed' } catch (e) { return e.name } })()") == "TypeError"
        # Growing text makes only its last block anew.
        same = page.js("""import('./page/js/markdown_view.js').then(({MarkdownView}) => {
          const view = new MarkdownView();
          view.update('# Title\\n\\nSome *te');
          const title = view.node.firstChild;
          view.update('# Title\\n\\nSome *text*\\n\\n- a\\n  1. b\\n\\n> q');
          return [view.node.firstChild === title, [...view.node.querySelectorAll('*')].map((e) => e.tagName).join(' ')];
        })""")
        assert same == [True, "H3 P EM UL LI SPAN OL LI SPAN BLOCKQUOTE P"], same


def case_key_is_asked_for():
    with Visit("--api-key", "secret", loaded=False) as visit:
        page = visit.page
        page.wait("document.querySelector('#key-dialog').open")
        page.type("wrong")
        visit.enter()
        page.wait("document.querySelector('#key-dialog').open && !document.querySelector('#key-wrong').hidden")
        page.type("secret")
        visit.enter()
        page.wait("document.querySelector('#model').textContent === 'demo'")
        visit.wait_loaded()
        visit.ask("Hello")
        visit.answers(1)
        visit.reload()
        assert page.js("document.querySelector('#key-dialog').open") is False, "kept for the tab"
        other = visit.browser.open(visit.url())
        other.wait("document.querySelector('#key-dialog').open")  # and for this tab alone
        other.press("Escape", number=27)
        other.wait("document.querySelector('#notices').innerText.includes('expected an API key')")


def case_a_server_that_drains_and_comes_back():
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        port = server.port
        with Visit(server=server) as visit:
            page = visit.page
            visit.set(max_tokens=7000)
            visit.ask("Go on")
            page.wait("document.querySelector('.answer.growing .figures')")
            server.process.send_signal(signal.SIGTERM)
            visit.banner("The server cannot answer now")
            assert "the server is stopping" in page.text("#banner") and page.text("#status") == "not ready"
            assert ("alert", "") in [(role, "") for role, _ in page.roles()]
            answer = visit.answers(1)
            assert answer["finish"] == "length" and answer["stats"]["tokens"] == 7000, "a draining server ends what it began"
            assert server.process.wait(60) == 0
            visit.banner("The server cannot be reached")
            visit.ask("Anybody there?")
            assert "The server cannot be reached" in visit.answers(2)["error"]
            with Server(FULGER, MODEL, port=port) as again:
                again.wait_ready()
                visit.no_banner()
                assert page.text("#status") == "ready"
                visit.set(max_tokens=4)
                page.click("#new")
                visit.ask("Hello")
                assert visit.answers(1)["finish"] == "length"


def case_a_rank_that_dies_is_named():
    flags = ("--control", "127.0.0.1:0", "--wait-for-workers")
    with Server(FULGER, MODEL, *flags) as server:
        address = server.wait_line(r"workers to dial").split()[-1]

        def start_worker():
            return subprocess.Popen([os.path.join(BUILD, "bin", "fulger-worker"), "--coordinator", address],
                                    stderr=subprocess.DEVNULL)

        server.wait_line("listening on")
        with Visit(server=server) as visit:
            page = visit.page
            visit.banner("The server cannot answer now")
            worker = start_worker()
            try:
                visit.no_banner()
                page.click("#cluster")
                page.wait("document.querySelector('.rank.good')")
                assert f"pid {worker.pid}" in page.text(".rank"), page.text(".rank")
                visit.set(max_tokens=6000)
                visit.ask("Go on")
                page.wait("document.querySelector('.answer.growing .figures')")
                worker.kill()
                worker.wait()
                visit.banner("rank 0")
                page.wait("document.querySelector('.rank.lost')")
                page.wait("document.querySelector('.cluster').innerText.includes('Last failure: rank 0')")
                worker = start_worker()
                visit.no_banner()
                page.wait("document.querySelector('.rank.good')")
                answer = visit.answers(1)
                assert answer["finish"] == "length" and answer["stats"]["tokens"] == 6000, "it went on where it was"
                page.wait("document.querySelector('.load .figures dd').textContent === '0'")
            finally:
                worker.kill()
                worker.wait()


def screenshot(path):
    flags = ("--tp", "2", "--pp", "2", "--ep", "2", "--vision-ranks", "1")
    with tempfile.TemporaryDirectory() as folder, Visit(*flags, width=1240, height=820) as visit:
        page = visit.page
        visit.attach(picture_file(folder))
        page.click("#cluster")
        page.wait("document.querySelector('.rank.good')")
        visit.ask("What is in this picture?")
        visit.answers(1)
        time.sleep(3)  # a line of load is drawn a second at a time
        page.js("document.activeElement.blur()")
        page.screenshot(path)


def main():
    if chromium.find() is None:
        print("SKIPPED: no chromium on this machine (apt-get install chromium; `make check` does)")
        sys.exit(SKIPPED)
    if sys.argv[3:4] == ["--screenshot"]:
        screenshot(sys.argv[4])
        return
    run_cases(globals(), sys.argv[3:])


if __name__ == "__main__":
    main()
