//! A span for each request, for the log and for traces. Spans have names, numbers and ids; texts are in none.
//!
//! With the feature `otlp` they go to a collector that speaks OTLP over HTTP, as parts of the trace that a request's
//! `traceparent` names.

use axum::http::HeaderMap;
use tracing::{Span, field::Empty, info_span};

/// The span of a request.
pub(crate) fn request(id: &str, method: &str, route: &str, headers: &HeaderMap) -> Span {
    let span = info_span!(
        "request",
        request_id = id,
        "otel.name" = Empty,
        "otel.kind" = Empty,
        "http.request.method" = Empty,
        "http.route" = Empty,
        "http.response.status_code" = Empty,
        "qwenguard.client" = Empty,
    );
    sent::begin(&span, method, route, headers);
    span
}

/// What came of a request.
pub(crate) fn answered(span: &Span, status: u16, client: &str) {
    sent::answered(span, status, client);
}

/// Tells the upstream which trace its work belongs to.
pub(crate) fn tell(headers: &mut HeaderMap) {
    sent::tell(headers);
}

#[cfg(not(feature = "otlp"))]
mod sent {
    use super::{HeaderMap, Span};

    pub(super) fn begin(_: &Span, _: &str, _: &str, _: &HeaderMap) {}

    pub(super) fn answered(_: &Span, _: u16, _: &str) {}

    pub(super) fn tell(_: &mut HeaderMap) {}
}

#[cfg(feature = "otlp")]
pub(crate) use sent::Traces;

#[cfg(feature = "otlp")]
mod sent {
    use std::{sync::OnceLock, time::Duration};

    use axum::http::{HeaderName, HeaderValue};
    use opentelemetry::{
        propagation::{Extractor, Injector, TextMapPropagator},
        trace::TracerProvider,
    };
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
    use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

    use super::{HeaderMap, Span};
    use crate::Failure;

    /// How long the last spans may take when the program ends.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Whether spans are sent.
    static IS_ON: OnceLock<()> = OnceLock::new();

    /// Spans on their way to the collector. When it is dropped the last ones are sent.
    pub(crate) struct Traces(SdkTracerProvider);

    impl Traces {
        /// Sends to the collector whose address this is, without its `/v1/traces`.
        pub(crate) fn to(endpoint: &str) -> Result<Self, Failure> {
            let wrong = |reason: &dyn std::fmt::Display| {
                Failure::Message(format!("configuration: serve.otlp_endpoint: {reason}"))
            };
            let url = reqwest::Url::parse(endpoint).map_err(|error| wrong(&error))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(wrong(&"it is not an address that begins with http:// or https://"));
            }
            // Another part of this program may have set it.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
            let exporter = exporter.with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')));
            let exporter = exporter.build().map_err(|error| wrong(&error))?;
            let resource = Resource::builder().with_service_name("qwenguard").build();
            let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
            let _ = IS_ON.set(());
            Ok(Traces(provider))
        }

        /// What takes the spans of this program, and no others.
        pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
        where
            S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
        {
            let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer("qwenguard")).with_location(false);
            layer.with_filter(Targets::new().with_target("qwenguard", tracing::Level::INFO))
        }
    }

    impl Drop for Traces {
        fn drop(&mut self) {
            if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
                tracing::warn!(%error, "the last traces were not sent");
            }
        }
    }

    pub(super) fn begin(span: &Span, method: &str, route: &str, headers: &HeaderMap) {
        if IS_ON.get().is_none() {
            return;
        }
        span.record("otel.name", format!("{method} {route}")).record("otel.kind", "server");
        span.record("http.request.method", method).record("http.route", route);
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Read(headers)));
    }

    pub(super) fn answered(span: &Span, status: u16, client: &str) {
        if IS_ON.get().is_some() {
            span.record("http.response.status_code", status).record("qwenguard.client", client);
        }
    }

    pub(super) fn tell(headers: &mut HeaderMap) {
        if IS_ON.get().is_some() {
            TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Written(headers));
        }
    }

    struct Read<'a>(&'a HeaderMap);

    impl Extractor for Read<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key).and_then(|value| value.to_str().ok())
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(HeaderName::as_str).collect()
        }
    }

    struct Written<'a>(&'a mut HeaderMap);

    impl Injector for Written<'_> {
        fn set(&mut self, key: &str, value: String) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
                self.0.insert(name, value);
            }
        }
    }
}
