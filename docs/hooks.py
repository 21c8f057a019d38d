"""What the site does with the pages: links out of `docs/` lead to copies; brackets of references and breaks at ± go."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_OUTSIDE = re.compile(r"\]\(((?:\.\./)+(?:examples|docs)/[^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Take the files that a page links to outside `docs/` into the site, and link there."""
    folder = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match) -> str:
        uri = posixpath.normpath(posixpath.join("docs", folder, match[1]))
        path = Path(config.config_file_path).parent / uri
        if uri.startswith("docs/") or not path.is_file():
            return match[0]
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(path)))
        return f"]({posixpath.relpath(uri, folder or '.')})"

    return _OUTSIDE.sub(link, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Print a docstring's reference, [`Name`] in the notation of transformers, as `Name`; keep `1 ± 2` on a line."""
    return re.sub(r"\[(<code>[^<]*</code>)\]", r"\1", html).replace(" ± ", "&nbsp;±&nbsp;")
