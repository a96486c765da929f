//! `GET /metrics`: the guard's numbers and the server's, as Prometheus reads them.

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use qwenguard::{Decision, Risk};

use super::Shared;

/// Upper bounds of the ranges that times are counted in, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The server's numbers.
pub(crate) struct Numbers(PrometheusHandle);

impl Numbers {
    /// A process has them once: of a second server the numbers are not counted.
    pub(crate) fn new() -> Self {
        let buckets = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS);
        let recorder = buckets.expect("there are buckets").build_recorder();
        let handle = recorder.handle();
        let _ = metrics::set_global_recorder(recorder);
        metrics::describe_counter!("qwenguard_http_requests_total", "Requests by route, status and client.");
        metrics::describe_counter!("qwenguard_proxy_findings_total", "What the policy found in proxied conversations.");
        metrics::describe_gauge!("qwenguard_http_requests", "Requests that are being served.");
        metrics::describe_histogram!("qwenguard_http_request_seconds", "Time to the head of an answer.");
        Numbers(handle)
    }
}

/// The policy found something in a conversation that goes through the proxy.
pub(crate) fn found(place: &'static str, risk: Risk, category: &str, decision: Decision) {
    let stopped = if decision == Decision::Stop { "true" } else { "false" };
    let labels = [
        ("place", place.to_owned()),
        ("risk", risk.to_string()),
        ("category", category.to_owned()),
        ("stopped", stopped.to_owned()),
    ];
    metrics::counter!("qwenguard_proxy_findings_total", &labels).increment(1);
}

pub(crate) async fn metrics(State(app): State<Shared>) -> Response {
    app.numbers.0.run_upkeep();
    let text = app.guard.stats().to_prometheus() + &app.numbers.0.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
