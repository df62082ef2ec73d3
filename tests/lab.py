"""A real JupyterLab and a real Chromium for the browser tests. Both are gone when the `with` block ends."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import psutil

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Everything of a notebook is in the page, not only what is in sight; no question about news on the first visit.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
STATE = """() => {
    const model = window.jupyterapp.shell.currentWidget?.content?.model;
    if (!model) return null;
    const cells = [...model.cells].filter(c => c.type === 'code' && c.sharedModel.source.trim());
    const outputs = cells.flatMap(c => c.outputs.toJSON());
    return {
        cells: cells.length,
        done: cells.filter(c => c.executionCount !== null).length,
        errors: outputs.filter(o => o.output_type === 'error').map(o => `${o.ename}: ${o.evalue}`),
    };
}"""

ADD = """source => {
    const notebook = window.jupyterapp.shell.currentWidget.content, cells = notebook.model.sharedModel;
    cells.insertCell(cells.cells.length, {cell_type: 'code', source, metadata: {}});
    notebook.activeCellIndex = cells.cells.length - 1;
    window.jupyterapp.commands.execute('notebook:run-cell');
}"""


def executable():
    """Path of a Chromium or Chrome of this system, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Lab:
    """A running JupyterLab on a copy of the notebooks, without their outputs. `address`: its URL without the token."""

    def __init__(self, work):
        self.notebooks = notebooks = work / "notebooks"
        shutil.copytree(ROOT / "notebooks", notebooks, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        for path in notebooks.glob("*.ipynb"):
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
            nbformat.write(notebook, path)
        for name, values in SETTINGS.items():
            path = work / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        self.token, self.log = secrets.token_hex(16), work / "lab.log"
        with socket.socket() as probe:  # a loopback port that nobody listens on
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
        command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
        command += [f"--ServerApp.root_dir={notebooks}", f"--IdentityProvider.token={self.token}"]
        folders = {f"JUPYTER_{kind}_DIR": work / kind.lower() for kind in ("CONFIG", "DATA", "RUNTIME")}
        folders |= {f"JUPYTERLAB_{kind}_DIR": work / kind.lower() for kind in ("SETTINGS", "WORKSPACES")}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, **{name: str(folder) for name, folder in folders.items()}, "PYTHONPATH": path}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)

    def ready(self, seconds=60):
        """Wait until it answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/api?token={self.token}"):
                return
            time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()[-2000:]}")

    def close(self):
        """End the server, which ends its kernels, which end what they started; kill what is left then."""
        server = psutil.Process(self._process.pid)
        family = [server, *server.children(recursive=True)]
        self._process.terminate()
        for left in psutil.wait_procs(family, timeout=20)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


class Page:
    """One browser tab with JupyterLab in it. `tab` is playwright's page."""

    def __init__(self, tab, lab):
        self.tab, self.lab = tab, lab

    def run_all(self, name, seconds):
        """Open a notebook, run all of it, wait for the last cell; return the errors that stand in its outputs."""
        self.tab.goto(f"{self.lab.address}/lab/tree/{name}?token={self.lab.token}&reset")
        kernel = "window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel"
        self.tab.wait_for_function(f"() => {kernel}?.status === 'idle'", timeout=90_000)
        self.command("notebook:run-all-cells")
        end = time.monotonic() + seconds
        while True:
            state = self.tab.evaluate(STATE)
            if state["errors"] or state["done"] == state["cells"]:
                return state["errors"]
            if time.monotonic() > end:
                raise AssertionError(f"{name}: {state['done']} of {state['cells']} cells done after {seconds} s")
            time.sleep(0.5)

    def add(self, source):
        """Put a code cell below the last one and run it; a locator of its output, once that is there."""
        self.tab.evaluate(ADD, source)
        output = self.tab.locator(".jp-CodeCell").last.locator(".jp-OutputArea-output")
        output.first.wait_for()
        return output

    def command(self, name, arguments=None):
        """Start one of JupyterLab's commands without waiting for its end."""
        self.tab.evaluate(
            "([name, given]) => { window.jupyterapp.commands.execute(name, given ?? undefined); }", [name, arguments]
        )

    def theme(self, name):
        """Change to a theme and wait until it is there."""
        self.command("apputils:change-theme", {"theme": name})
        there = "name => document.body.dataset.jpThemeName === name && !document.querySelector('#jupyterlab-splash')"
        self.tab.wait_for_function(there, arg=name, timeout=30_000)


@contextlib.contextmanager
def laboratory(work):
    """A JupyterLab in folder `work` and a browser; yields a function that opens a `Page`."""
    from playwright.sync_api import sync_playwright

    lab = Lab(work)
    options = {"viewport": {"width": 1280, "height": 900}, "permissions": ["clipboard-read", "clipboard-write"]}
    try:
        lab.ready()
        with sync_playwright() as play:
            arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
            browser = play.chromium.launch(executable_path=executable(), args=arguments)
            yield lambda: Page(browser.new_page(**options), lab)
            browser.close()
    finally:
        lab.close()
