//! `GET /ui`: a page to try the guard in a browser. Its files are part of the program. They are the same for everybody and need
//! no key; what the page asks the server does.

use axum::{
    Router,
    extract::Path,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use tower_http::set_header::SetResponseHeaderLayer;

use super::{Shared, fault::Fault};

/// Name, kind and bytes.
const FILES: [(&str, &str, &[u8]); 12] = [
    ("style.css", CSS, include_bytes!("ui/style.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("ui/icon.svg")),
    ("main.js", JAVASCRIPT, include_bytes!("ui/main.js")),
    ("server.js", JAVASCRIPT, include_bytes!("ui/server.js")),
    ("answer.js", JAVASCRIPT, include_bytes!("ui/answer.js")),
    ("tokens.js", JAVASCRIPT, include_bytes!("ui/tokens.js")),
    ("chart.js", JAVASCRIPT, include_bytes!("ui/chart.js")),
    ("details.js", JAVASCRIPT, include_bytes!("ui/details.js")),
    ("policy.js", JAVASCRIPT, include_bytes!("ui/policy.js")),
    ("numbers.js", JAVASCRIPT, include_bytes!("ui/numbers.js")),
    ("element.js", JAVASCRIPT, include_bytes!("ui/element.js")),
    ("samples.js", JAVASCRIPT, include_bytes!("ui/samples.js")),
];

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing but what this server gives: no styles or scripts in the page, no frames, no forms.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(crate) fn routes() -> Router<Shared> {
    let index = || async { (content("text/html; charset=utf-8"), include_str!("ui/index.html")) };
    let routes = Router::new()
        .route("/ui", get(index))
        // Names in the page are relative, so that it may be served below a path.
        .route("/ui/", get(|| async { Redirect::permanent("../ui") }))
        .route("/ui/{file}", get(file));
    let set = |router: Router<Shared>, (name, value)| {
        router.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)))
    };
    HEADERS.into_iter().fold(routes, set)
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, bytes)) => (content(kind), *bytes).into_response(),
        None => Fault::status(StatusCode::NOT_FOUND, "unknown_route", "the page has no such file").into_response(),
    }
}

fn content(kind: &'static str) -> [(HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, kind)]
}
