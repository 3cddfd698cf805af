"""Make the responses with pages: their frame, their only script, and headers that forbid everything else."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from fastapi.responses import HTMLResponse

from siliconflow_provider.drawing.document import document
from siliconflow_provider.drawing.markup import Markup, element
from siliconflow_provider.drawing.style import STYLE

# Airflow shows these pages in a frame of its own origin, and stores its theme there. The frame may neither open windows
# nor leave for another page of Airflow, so links of class `sf-out` are opened by Airflow's own page. Airflow 3.0 has no
# cookie, and keeps its token in the browser's storage; later, an old token may be left there.
SCRIPT = """
'use strict';
(() => {
  const stored = name => { try { return localStorage.getItem(name); } catch { return null; } };
  const outer = (() => { try { return parent !== window && parent.document; } catch { return null; } })();
  const theme = () => {
    const chosen = outer && ['dark', 'light'].find(name => outer.documentElement.classList.contains(name));
    const theme = chosen || stored('theme');
    if (theme !== 'dark' && theme !== 'light') return;
    document.body.dataset.theme = document.documentElement.style.colorScheme = theme;
    if (outer) document.body.classList.add('sf-framed');
  };
  const token = () => document.querySelector('[data-token]') ? stored('token') : null;
  const headers = () => token() ? {Authorization: 'Bearer ' + token()} : {};
  const show = async (address, options, isRefresh) => {
    const response = await fetch(address, {headers: headers(), credentials: 'same-origin', ...options});
    const found = new DOMParser().parseFromString(await response.text(), 'text/html');
    const id = isRefresh && found.getElementById('live') ? 'live' : 'page';
    const [old, fresh] = [document.getElementById(id), found.getElementById(id)];
    if (!old || !fresh) return;
    const open = [...old.querySelectorAll('details[open]')].map(item => item.id);
    const focused = document.activeElement && document.activeElement.id;
    old.replaceWith(fresh);
    open.forEach(id => { const item = id && document.getElementById(id); if (item) item.open = true; });
    if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
    if (!isRefresh) history.replaceState(null, '', response.url);
  };
  const refresh = () => {
    const live = document.getElementById('live');
    theme();
    if (document.visibilityState === 'visible' && live && live.dataset.refresh)
      show(location.href, {}, true).catch(() => {});
  };
  document.addEventListener('click', event => {
    const link = event.target.closest('a.sf-out');
    if (!link || !outer) return;
    event.preventDefault();
    const copy = outer.createElement('a');
    copy.href = link.href;
    if (event.ctrlKey || event.metaKey || link.target) { copy.target = '_blank'; copy.rel = 'noopener'; }
    outer.body.append(copy);
    copy.click();
    copy.remove();
  });
  document.addEventListener('submit', event => {
    const form = event.target;
    if (form.method !== 'post' || !token()) return;
    event.preventDefault();
    show(form.action, {method: 'POST', body: new URLSearchParams(new FormData(form))});
  });
  theme();
  addEventListener('storage', theme);
  document.addEventListener('visibilitychange', refresh);
  setInterval(refresh, 10000);
  addEventListener('DOMContentLoaded', () => {
    if (document.querySelector('.sf-signed-out') && token()) show(location.href, {}, false);
  });
})();
"""
PAGE_STYLE = """
body.sf-framed{background:transparent}
.sf-filters{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:end;margin:10px 0}
.sf-filters label{display:grid;gap:2px;color:var(--sf-muted);font-size:12px}
.sf-filters input,.sf-filters select,.siliconflow button,.sf-button{font:inherit;font-size:14px;padding:4px 10px;
border:1px solid var(--sf-line);border-radius:6px;background:var(--sf-panel);color:var(--sf-text);max-width:100%;
box-sizing:border-box}
.siliconflow button,.sf-button{cursor:pointer;text-decoration:none;display:inline-block}
.siliconflow a.sf-button{color:var(--sf-text)}
.siliconflow .sf-danger{color:var(--sf-bad);border-color:var(--sf-bad)}
.siliconflow :focus-visible{outline:2px solid var(--sf-running);outline-offset:1px}
.sf-problem{border:1px solid var(--sf-warning);border-radius:6px;padding:6px 10px;margin:8px 0}
.sf-pages{display:flex;gap:12px;align-items:center;margin:10px 0}
.sf-actions{display:flex;gap:12px;margin:16px 0}
.sf-actions form{margin:0}
.sf-filters input,.sf-filters select,.sf-filters button{height:32px}
.sf-batches td[data-label=""]::before{content:none}
.sf-batches details dl{margin:4px 0;max-width:340px}
.sf-batches dt{color:var(--sf-muted);font-size:12px}
.sf-batches dd{margin:0 0 2px}
.sf-small{font-size:12px}
@media (min-width:701px){
.sf-batches td:nth-child(2){min-width:190px}
.sf-batches td:nth-child(3){min-width:130px}
.sf-batches td:nth-child(4){min-width:220px;width:22%}
.sf-batches td:nth-child(5){min-width:95px}
.sf-batches code,.sf-batches td:nth-child(6),.sf-batches td:nth-child(8){white-space:nowrap}
}
@media (max-width:700px){
.sf-batches td:empty{display:none}
.sf-filters label{flex:1 1 40%}
}
""".replace("\n", "")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)} {_hash(PAGE_STYLE)}; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'"
)
# Without a referrer, browsers hide the origin of a form from the check of `cancellation.py`.
REFERRER = "same-origin"
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'self'",
    "Cache-Control": "no-store",
    "Referrer-Policy": REFERRER,
    "X-Content-Type-Options": "nosniff",
}


def page(title: str, *parts: Markup | None, status: int = 200) -> HTMLResponse:
    """Return the response with a page.

    :param parts: a part with id `live` and the attribute `data-refresh` is read again while the page is visible
    """
    frame = element("div", *parts, id="page", data_token=not AIRFLOW_V_3_1_PLUS)
    return HTMLResponse(
        document(
            title,
            Markup(f"<style>{PAGE_STYLE}</style><script>{SCRIPT}</script>"),
            frame,
            policy=POLICY,
            referrer=REFERRER,
        ),
        status,
        HEADERS,
    )


def problem(text: str) -> Markup | None:
    """Return a sentence about something that is wrong; None if it is empty."""
    return element("p", text, class_="sf-problem", role="status") if text else None


def outer_link(text: str, address: str) -> Markup:
    """Return a link to another page of Airflow, outside of this page's frame."""
    return element("a", text, href=address, class_="sf-out")


def error_page(status: int, detail: str) -> HTMLResponse:
    """Return a page for a request that is refused."""
    is_signed_out = status == 401
    text = "Sign in to Airflow, then open this page again." if is_signed_out else detail
    title = {401: "Not signed in", 403: "Not allowed", 404: "Not found"}.get(status, "Error")
    kind = "sf-signed-out" if is_signed_out else None
    return page(title, element("h1", title), element("p", text, class_=kind), status=status)
