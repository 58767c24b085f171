"""The models: state and why, facts, a probe, and a few words with one."""

from __future__ import annotations

import re

from registry.contexts import AddModel, ModelDetail, Models
from registry.hubface import Fault, read, segment
from registry.screens import Moved, Page, Visit, broken
from registry.shapes import Model

LONGEST_QUESTION = 4000
KINDS = ("chat", "embedding")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
START = {"name": "", "kind": "chat", "url": "", "remote_name": "", "api_key": "", "description": ""}


async def every(visit: Visit) -> Page:
    """GET /models."""
    return Page("pages/models.html", Models(await models_of(visit)), "models.title")


async def form(visit: Visit) -> Page:
    """GET /models/new."""
    return form_page(AddModel(START, {}))


async def add(visit: Visit) -> Page | Moved:
    """POST /models/new: registers and probes it; what the probe found stands on its page."""
    typed = {name: visit.form.get(name, "").strip() for name in START}
    key = typed["api_key"]
    typed["api_key"] = ""
    errors = {name: "error.needed" for name in ("name", "url") if not typed[name]}
    if typed["name"] and not NAME.fullmatch(typed["name"]):
        errors["name"] = "error.model"
    if typed["url"] and not re.match(r"https?://[^\s/]+", typed["url"]):
        errors["url"] = "error.url"
    if typed["kind"] not in KINDS:
        errors["kind"] = "error.choice"
    if errors:
        return form_page(AddModel(typed, errors), 422)
    wanted: dict[str, str] = {name: typed[name] for name in ("kind", "url", "remote_name", "description")}
    try:
        if typed["name"] in {model.name for model in await models_of(visit)}:
            return form_page(AddModel(typed, {"name": "error.taken"}), 422)
        await visit.hub.put(f"/models/{segment(typed['name'])}", wanted | ({"api_key": key} if key else {}))
        await visit.hub.post(f"/models/{segment(typed['name'])}/probe")
    except Fault as fault:
        beside = {name: text for name, text in fault.fields.items() if name in typed}
        return form_page(AddModel(typed, beside, broken(fault).context), fault.status)
    return Moved(f"/models/{segment(typed['name'])}", "done.registered", typed["name"])


async def remove(visit: Visit) -> Moved:
    """POST /models/{name}/remove: only with the box ticked, since agents and clients depend on it."""
    name = visit.path["name"]
    if visit.form.get("sure") != "yes":
        return Moved(f"/models/{segment(name)}", "done.not_sure")
    await visit.hub.delete(f"/models/{segment(name)}")
    return Moved("/models", "done.removed", name)


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


async def models_of(visit: Visit) -> tuple[Model, ...]:
    """All models. Raises Fault."""
    return read(tuple[Model, ...], await visit.hub.get("/models"), "models")


async def model_of(visit: Visit) -> Model:
    """The model of this path; the API lists them all. Raises Fault."""
    for model in await models_of(visit):
        if model.name == visit.path["name"]:
            return model
    raise Fault(404, "not-found", "There is no such model.", owner="client")


def form_page(context: AddModel, status: int = 200) -> Page:
    """The form in any of its states."""
    return Page("pages/add_model.html", context, "models.add", status=status)


def page_of(context: ModelDetail, status: int = 200) -> Page:
    """The page in any of its states."""
    return Page("pages/model.html", context, "models.one", context.model.name, status=status)
