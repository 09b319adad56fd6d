"""How the HTML pages are made: one set-up of Jinja, and styles and scripts that a policy names by hash.

Everything that comes from runs is untrusted: templates escape by default and show acting characters
(:func:`evalsuite.report.visible.visible`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evalsuite.report.visible import visible

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    template: str,
    filters: Mapping[str, Callable[..., Any]],
    *,
    style: str,
    script: str,
    **names: Any,
) -> str:
    """A template as text that can be written as UTF-8.

    Args:
        style, script: stand in the page as they are; their hashes are ``style_hash`` and
            ``script_hash`` for the content security policy.
        names: what the template calls by name.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= filters
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        **names,
    )


def source(name: str) -> str:
    """A style or script that lies beside the templates."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
