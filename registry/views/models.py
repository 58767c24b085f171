"""The models: state and why, facts, a probe, and a few words with one."""

from __future__ import annotations

from registry.contexts import ModelDetail, Models
from registry.hubface import Fault, read, segment
from registry.screens import Moved, Page, Visit, broken
from registry.shapes import Model

LONGEST_QUESTION = 4000


async def every(visit: Visit) -> Page:
    """GET /models."""
    found = read(tuple[Model, ...], await visit.hub.get("/models"), "models")
    return Page("pages/models.html", Models(found), "models.title")


async def one(visit: Visit) -> Page:
    """GET /models/{name}."""
    return page_of(ModelDetail(await model_of(visit)))


async def chat(visit: Visit) -> Page:
    """POST /models/{name}: one question, one answer, through `/v1/chat/completions`."""
    model = await model_of(visit)
    asked = visit.form.get("question", "").strip()
    if not asked or len(asked) > LONGEST_QUESTION:
        key = "error.too_long" if asked else "error.needed"
        return page_of(ModelDetail(model, asked, errors={"question": key}), 422)
    try:
        answered, spent = await visit.hub.chat(model.name, [{"role": "user", "content": asked}])
    except Fault as fault:
        return page_of(ModelDetail(model, asked, fault=broken(fault).context))
    return page_of(ModelDetail(model, asked, answered, spent))


async def probe(visit: Visit) -> Moved:
    """POST /models/{name}/probe."""
    name = visit.path["name"]
    await visit.hub.post(f"/models/{segment(name)}/probe")
    return Moved(f"/models/{segment(name)}", "done.probed", name)


async def model_of(visit: Visit) -> Model:
    """The model of this path; the API lists them all. Raises Fault."""
    for model in read(tuple[Model, ...], await visit.hub.get("/models"), "models"):
        if model.name == visit.path["name"]:
            return model
    raise Fault(404, "not-found", "There is no such model.", owner="client")


def page_of(context: ModelDetail, status: int = 200) -> Page:
    """The page in any of its states."""
    return Page("pages/model.html", context, "models.one", context.model.name, status=status)
