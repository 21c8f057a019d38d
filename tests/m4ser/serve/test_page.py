"""The page tells of every address and option, and asks no other host."""

import requests


def test_page(address):
    page = requests.get(address + "/docs").text
    assert all(f"{path}</code></h2>" in page for path in requests.get(address + "/openapi.json").json()["paths"])
    assert "<dt><code>channel</code></dt><dd>integer or each. `each`: one speaker a channel</dd>" in page
    assert "//" not in page
