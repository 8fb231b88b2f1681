"""One validation result as a page: GX's renderers and templates, without what they would load from the internet."""

from __future__ import annotations

import contextlib
import html
import io
import re
from functools import lru_cache
from typing import Any

# The page is shown inside Airflow, and what it shows comes from data: nothing on it may run or be loaded.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #212529; background: #fff; margin: 0 auto; max-width: 75rem; padding: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; } h2, h3, h4, h5, .h5 { font-size: 1.05rem; margin: .8rem 0 .4rem; } h6 { margin: .2rem 0; font-weight: normal; }
.alert { padding: .5rem .8rem; border-radius: .3rem; background: #e9ecef; } .row { margin: 0; }
.ge-section { margin: 0 0 1.2rem; padding: 0 0 .6rem; border-bottom: 1px solid #dee2e6; }
.table-responsive { overflow-x: auto; } table { width: 100%; border-collapse: collapse; margin: .4rem 0; font-size: .93em; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border: 1px solid #dee2e6; } th { background: #f1f3f5; }
tr:hover td { background: #f8f9fa; } .badge { background: #e9ecef; border-radius: .25rem; padding: 0 .35em; font-size: .92em; }
.fa-check-circle::before, .text-success::before { content: "✓"; color: #1b7f3b; font-weight: bold; }
.fa-times::before, .text-danger.fas::before { content: "✗"; color: #c92a2a; font-weight: bold; }
.fa-exclamation-triangle::before, .text-warning::before { content: "!"; color: #b35c00; font-weight: bold; }
a[data-toggle="collapse"], .collapse { display: none; } .cooltip .top { display: none; } ul { padding-left: 1.2rem; } pre, code { white-space: pre-wrap; }
@media (prefers-color-scheme: dark) { body { background: #16191d; color: #e9ecef; } th, .alert, .badge { background: #2b3035; }
th, td, .ge-section { border-color: #495057; } tr:hover td { background: #212529; } }
"""
_AWAY = {ord(char): chr(0xE000 + i) for i, char in enumerate("<>&\"'")}  # to the private use area
_BACK = {0xE000 + i: html.escape(char) for i, char in enumerate("<>&\"'")}
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}{% set section_loop = loop -%}{% include 'section.j2' %}{% endfor %}
{% if others %}<h2>Not expectations of Great Expectations</h2>
<table><tr><th>Status</th><th>Expectation</th><th>Why</th></tr>
{% for other in others %}<tr><td><i class="fas fa-times"></i></td><td>{{ other.expectation_config.type }}</td>
<td>{{ other.exception_info.exception_message or other.result.observed_value }}</td></tr>{% endfor %}</table>{% endif %}
</body>
</html>
"""


def page(document: dict[str, Any], title: str) -> bytes:
    """Render a result as GX writes it; see ``gx._report``."""
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema

    inert = _inert(_loadable(document, title))
    known = [result for result in inert["results"] if _is_known(result)]
    others = [result for result in inert["results"] if not _is_known(result)]
    renderer, view = _renderer()
    content = renderer.render(expectationSuiteValidationResultSchema.load({**inert, "results": known})).to_json_dict()
    made: str = view.env.get_template("ratchet.j2").render(
        content, others=others, title=html.escape(title), style=_STYLE, policy=html.escape(_POLICY)
    )
    made = re.sub(r"(?is)<script\b.*?</script\s*>|<link\b[^>]*>", "", made)
    made = re.sub(r'(?s)<a href="\.\./[^"]*"[^>]*>(.*?)</a>', r"\1", made)  # to pages of a site that there is not
    return made.translate(_BACK).encode()


def _is_known(result: dict[str, Any]) -> bool:
    """Say whether GX can put this expectation in words: not one that it does not know, or whose arguments are wrong."""
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # GX prints advice
            ExpectationConfiguration(**result["expectation_config"]).to_domain_obj()
    except Exception:  # noqa: BLE001  whatever GX finds wrong with it
        return False
    return True


@lru_cache(maxsize=1)
def _renderer() -> tuple[Any, Any]:
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, DictLoader  # noqa: PLC0415

    view = DefaultJinjaPageView()
    view.env.loader = ChoiceLoader([DictLoader({"ratchet.j2": _TEMPLATE}), view.env.loader])
    return ValidationResultsPageRenderer(run_info_at_end=True), view


def _loadable(document: dict[str, Any], title: str) -> dict[str, Any]:
    """Add what GX's renderer wants to name."""
    named = {"run_id": {"run_name": "", "run_time": ""}, "batch_spec": {"data_asset_name": title}}
    return {**document, "meta": {**document.get("meta", {}), **named}}


def _inert(value: Any, key: str = "") -> Any:
    """Take the characters that mean something in HTML out of every text until the page is made.

    GX's templates put most texts on the page as they are, and escape some. A row condition has to be parsed again; it is
    the suite's, not the data's.
    """
    if isinstance(value, str) and key != "row_condition":
        return value.translate(_AWAY)
    if isinstance(value, dict):
        return {name: _inert(child, name) for name, child in value.items()}
    if isinstance(value, list):
        return [_inert(child) for child in value]
    return value
