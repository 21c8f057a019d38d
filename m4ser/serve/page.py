"""The OpenAPI page: every address with its options, in HTML that asks no other host, as FastAPI's own does."""

from html import escape
from typing import Any

_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;"
    "padding:0 1rem}dt{font-weight:600}code{font-size:.95em}"
)


def draw_page(spec: dict[str, Any]) -> str:
    """Return the page of an OpenAPI specification."""
    title = f"{escape(spec['info']['title'])} {escape(spec['info']['version'])}"
    parts = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>']
    parts += ['<meta name="viewport" content="width=device-width">', f"<style>{_STYLE}</style><main><h1>{title}</h1>"]
    parts.append('<p>For programs: <a href="openapi.json">openapi.json</a></p>')
    for path, methods in spec["paths"].items():
        for method, told in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(told['description'])}</p>")
            content = told.get("requestBody", {}).get("content", {})
            parts += [f"<p>Body: {', '.join(f'<code>{kind}</code>' for kind in content)}</p>"] * bool(content)
            options = content.get("multipart/form-data", {}).get("schema", {}).get("properties", {})
            rows = "".join(f"<dt><code>{name}</code></dt><dd>{_describe(each)}</dd>" for name, each in options.items())
            parts += [f"<dl>{rows}</dl>"] * bool(rows)
    return "\n".join([*parts, "</main></html>"])


def _describe(option: dict[str, Any]) -> str:
    kinds = [str(each.get("const", each.get("enum", each.get("type")))) for each in option.get("anyOf", [option])]
    default = f"; default: {option['default']}" if option.get("default") not in (None, []) else ""
    told = f". {option['description']}" if "description" in option else ""
    return escape(f"{' or '.join(kind for kind in kinds if kind != 'null')}{default}{told}")
