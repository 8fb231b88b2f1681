"""The plugin's pages under ``/ratchet``. Each asks Airflow who is there and what they may see; none can run a script."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path as Folder
from typing import TYPE_CHECKING, Annotated, Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException as AnyHttpException

from ratchet.domain import layout
from ratchet.domain.segments import NAME, name_of, parent_of
from ratchet.errors import ActionRefused, ObjectNotFound, RatchetError, UsageError
from ratchet.home import default_home, load_pipeline, pipeline_names
from ratchet.steps.card import card
from ratchet.steps.history import nights
from ratchet.steps.overview import newest
from ratchet.ui.data import look_at_data
from ratchet.ui.overview import LATEST, PER_PAGE, look, newest_judged, overview

if TYPE_CHECKING:
    import jinja2

    from ratchet.adapters.report.svg import Figure
    from ratchet.domain.segments import SegmentsResult
    from ratchet.steps.context import Services

# Pages that were made from data: no script, nothing from elsewhere, an origin of their own; links may be followed.
FROM_DATA = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation"
)
OURS = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store"}
_ALL_NIGHTS = 100

Name = Annotated[str, Path(pattern=rf"^{NAME}$")]  # of a pipeline or one of its segments
Run = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,80}$")]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{8,64}$")]

app = FastAPI(title="Ratchet", docs_url=None, redoc_url=None, openapi_url=None)


def _may_read(request: Request, user: GetUserDep) -> None:
    """Let through whoever may read the DAG of the path's pipeline; a segment is its pipeline's."""
    requires_access_dag("GET", param_dag_id=parent_of(request.path_params["dag_id"]))(request, user)


may_read = Depends(_may_read)


@app.get("/")
def pipelines(request: Request, user: GetUserDep) -> HTMLResponse:
    """Show every pipeline that this user may see."""
    allowed = get_auth_manager().is_authorized_dag
    names = [
        name for name in pipeline_names(default_home()) if allowed(method="GET", details=DagDetails(id=name), user=user)
    ]
    asked = request.query_params.get("page", "1")
    pages = max(1, -(-len(names) // PER_PAGE))
    number = min(max(int(asked[:9]), 1), pages) if asked.isascii() and asked.isdecimal() else 1
    some = names[(number - 1) * PER_PAGE : number * PER_PAGE]
    return _page(
        "pipelines.html", request, found=overview(services(), some), number=number, pages=pages, total=len(names)
    )


@app.get("/pipelines/{dag_id}", dependencies=[may_read])
def pipeline(request: Request, dag_id: Name) -> HTMLResponse:
    """Show one pipeline: its nights and its ledger."""
    _refuse_others(dag_id)
    found = services()
    return _page(
        "pipeline.html",
        request,
        found=look(found, dag_id, _ALL_NIGHTS),
        latest=LATEST,
        figures=_figures(found, dag_id),
        segments=_segments(found, dag_id),
        parent=parent_of(dag_id),
    )


@app.get("/pipelines/{dag_id}/segments", dependencies=[may_read])
def segments(request: Request, dag_id: Name, show: Literal["all", "own", "global", "failed"] = "all") -> HTMLResponse:
    """Show the segments of one pipeline, as its newest night has left them."""
    _refuse_others(dag_id)
    found = newest(services(), dag_id)
    if found is None:
        raise HTTPException(404, f"No night of {dag_id} has had segments.")
    wanted = [s for s in found.segments if show in {"all", s.serves} or (show == "failed" and s in found.failed)]
    names = {s.slug: name_of(dag_id, s.slug) for s in wanted}
    return _page("segments.html", request, found=found, wanted=wanted, names=names, show=show)


def _refuse_others(name: str) -> None:
    if parent_of(name) not in pipeline_names(default_home()):
        raise HTTPException(404, f"{name} is a DAG, but no pipeline of Ratchet.")


def _segments(found: Services, name: str) -> SegmentsResult | None:
    """Return what became of a pipeline's segments; what cannot be read is told on their own page."""
    try:
        return newest(found, name)
    except RatchetError:
        return None


@app.get("/pipelines/{dag_id}/data", dependencies=[may_read])
def data(request: Request, dag_id: Name) -> HTMLResponse:
    """Show what one pipeline's newest night has read, and what was left out of it."""
    _refuse_others(dag_id)
    return _page("data.html", request, found=look_at_data(services(), parent_of(dag_id)))


@app.get("/reports/{dag_id}/{cutoff}/{run}.html", dependencies=[may_read])
def report(dag_id: Name, cutoff: date, run: Run) -> Response:
    """Serve a night's report."""
    return _stored(layout.report(dag_id, cutoff, run), "There is no such report.")


@app.get("/cards/{dag_id}/{version}.html", dependencies=[may_read])
def model_card(dag_id: Name, version: int) -> Response:
    """Show the card of a version, as it is known now."""
    found = services()
    try:
        page = found.reporter.card(card(found, dag_id, version))
    except ActionRefused as exc:
        raise HTTPException(404, str(exc)) from None
    return _from_data(page)


@app.get("/data_docs/{dag_id}/{suite}/{content}.html", dependencies=[may_read])
def data_docs(dag_id: Name, suite: Digest, content: Digest) -> Response:
    """Serve a partition's Data Docs."""
    return _stored(layout.data_docs(dag_id, suite, content), "There are no such Data Docs.")


@app.exception_handler(AnyHttpException)
def in_words(request: Request, error: AnyHttpException) -> HTMLResponse:
    """Say what is wrong to a person."""
    page = _page("problem.html", request, status=error.status_code, words=error.detail)
    page.status_code = error.status_code
    return page


@app.exception_handler(RequestValidationError)
def no_such_page(request: Request, _error: RequestValidationError) -> HTMLResponse:
    """Answer an address that no night could have."""
    return in_words(request, HTTPException(404, "No night leaves a page of this name."))


@app.exception_handler(RatchetError)
def not_served(request: Request, error: RatchetError) -> HTMLResponse:
    """Say which service does not answer; what is misconfigured is for the log, not for every reader."""
    words = "Ratchet is not told where its services are." if isinstance(error, UsageError) else str(error)
    page = _page("problem.html", request, status=503, words=words)
    page.status_code = 503
    return page


def _figures(found: Services, name: str) -> list[Figure]:
    """Draw how the evidence has grown; what cannot be drawn is told elsewhere on the page."""
    from ratchet.adapters.report.history import evidence  # noqa: PLC0415  only when somebody looks

    try:
        night = newest_judged(nights(found, name, LATEST))
        return list(evidence(night, load_pipeline(name))) if night else []
    except RatchetError:
        return []


def services() -> Services:
    """Return the services that the environment and Airflow's connections name."""
    found: Services = _wiring().services()
    return found


def _wiring() -> Any:
    from ratchet import wiring  # noqa: PLC0415  only when somebody looks
    from ratchet.orchestration import connections  # noqa: PLC0415

    connections.use(connections.environment())
    return wiring


def _stored(key: str, otherwise: str) -> Response:
    try:
        found = _wiring().object_store().get(key)
    except ObjectNotFound:
        raise HTTPException(404, f"{otherwise} It may have been removed from the object store.") from None
    return _from_data(found)


def _from_data(page: bytes) -> Response:
    return Response(
        page, media_type="text/html; charset=utf-8", headers={**_HEADERS, "Content-Security-Policy": FROM_DATA}
    )


def _page(template: str, request: Request, **shown: Any) -> HTMLResponse:
    root = request.scope.get("root_path", "").rstrip("/")
    html = _templates().get_template(template).render(root=root, airflow=root.removesuffix("/ratchet"), **shown)
    return HTMLResponse(html, headers={**_HEADERS, "Content-Security-Policy": OURS})


@cache
def _templates() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415

    loader = jinja2.FileSystemLoader(Folder(__file__).parent / "templates")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
