"""A real headless Chromium, driven through chromedriver by the W3C's own WebDriver protocol: JSON over HTTP, so that no
package stands between a test and what the browser says."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from bridge.embedded import Server

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
)


def missing() -> str:
    """Which of the two programs is not here, empty if both are."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


class ChromeDriver(Server):
    """chromedriver on a port of its own."""

    def command(self) -> Sequence[str]:
        return ["chromedriver", f"--port={self.port}", "--log-level=WARNING"]


class Browser:
    """One window with a profile of its own. `javascript` False is a browser that runs none."""

    def __init__(self, driver: ChromeDriver, profile: Path, *, javascript: bool = True) -> None:
        self._url = f"http://127.0.0.1:{driver.port}"
        options: dict[str, Any] = {
            "binary": shutil.which("chromium"),
            "args": [*FLAGS, f"--user-data-dir={profile}"],
        }
        if not javascript:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        asked = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        created = self._call("POST", "/session", {"capabilities": {"alwaysMatch": asked}})
        self._url += f"/session/{created['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._call("DELETE", "")

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a script, as a driver runs it: it does so where the page itself may run none."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width: int, height: int = 900) -> None:
        """Of the page itself; a window has borders, and a headless one a least width."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, **features: str) -> None:
        """Media features, like color_scheme="dark"."""
        asked = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=asked)

    def console(self) -> list[str]:
        """What the console has said since it was last asked: errors, and what the policy refused."""
        return [str(entry["message"]) for entry in self._call("POST", "/se/log", {"type": "browser"})]

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def picture(self, file: Path) -> None:
        """The whole page, for a human to look at."""
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:800]}") from None
