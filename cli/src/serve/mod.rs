//! `qwenguard serve`: the guard for programs that cannot link it.
//!
//! A request goes through [`admission`]: key, limits, the log and the numbers. Then it is one of [`moderations`] (OpenAI's
//! form), [`judge`] (the guard's own), [`socket`] (token by token), [`hosts`] (gateways that ask) or [`replay`] (verdicts that were given, by another policy).
//! [`calls`] gives their calls of the guard deadlines. [`connections`] serves HTTP over each, [`ui`] is a page over all that, [`tls`] makes connections secret, [`trace`]
//! has a span for each request.

mod admission;
mod body;
mod calls;
mod connections;
mod fault;
mod heard;
mod hosts;
mod judge;
mod keys;
mod moderations;
mod numbers;
mod proxy;
mod replay;
mod settings;
mod socket;
mod state;
mod tls;
mod trace;
mod ui;

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::{Listener, ListenerExt},
};
use qwenguard::{Config, Guard, Policy};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime, signal};
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use admission::Admission;
pub(crate) use settings::{Settings, split};
pub(crate) use state::{App, Shared};
#[cfg(feature = "otlp")]
pub(crate) use trace::Traces;

use crate::{Failure, Outcome, moderate, provider::Choice};
use fault::Fault;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The bundle's folder; without it the built-in demonstration guard.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) bundle: Option<PathBuf>,
    /// Without a bundle: the built-in guard that judges whole conversations.
    #[arg(long = "gen", conflicts_with = "bundle")]
    pub(crate) gen_model: bool,
    #[command(flatten)]
    choice: Choice,
    /// The rules, in TOML, in place of those of the configuration.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    policy: Option<PathBuf>,
    #[command(flatten)]
    flags: settings::Flags,
}

impl Arguments {
    pub(crate) fn config(&self, mut config: Config) -> Config {
        self.choice.apply(&mut config);
        config
    }

    /// The rules, and the settings of the server.
    pub(crate) fn settings(&self, configured: Settings, config: &Config) -> Result<(Policy, Settings), Failure> {
        Ok((moderate::read_policy(self.policy.as_deref(), &config.policy)?, self.flags.over(configured)?))
    }
}

/// Serves until the system asks to end.
pub(crate) fn run(guard: Guard, policy: Policy, settings: Settings) -> Result<Outcome, Failure> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Message(format!("starting threads: {error}")))?;
    runtime.block_on(async {
        let listen = settings.listen;
        let (drain, shows_page) = (Duration::from_secs(settings.drain_seconds), settings.ui);
        let acceptor = match (&settings.tls_cert, &settings.tls_key) {
            (Some(certificates), Some(key)) => Some(tls::acceptor(certificates, key)?),
            _ => None,
        };
        let app = App::new(guard, policy, settings)?;
        let cannot = |error: std::io::Error| Failure::Message(format!("cannot listen on {listen}: {error}"));
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let asked = asked_to_end().map_err(cannot)?;
        hosts::litellm::sweep(&app);
        #[cfg(feature = "ext-proc")]
        let to_envoy = match app.settings.ext_proc_listen {
            Some(address) => Some(hosts::ext_proc::listen(&app, address).await?),
            None => None,
        };
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        // Scripts wait for this line, and read the port from it if they left the choice to the system.
        crate::look::tell(&format!("qwenguard serves on {scheme}://{address}"));
        if shows_page {
            crate::look::tell(&format!("its page is {scheme}://{}/ui", reachable(address)));
        }
        match acceptor {
            Some(acceptor) => {
                serve(tls::Secured::new(listener, acceptor).map_err(cannot)?, app, asked, drain).await;
            }
            None => serve(listener.tap_io(tls::at_once), app, asked, drain).await,
        }
        #[cfg(feature = "ext-proc")]
        if let Some(server) = to_envoy {
            hosts::ext_proc::send_the_rest(server).await;
        }
        Ok::<(), Failure>(())
    })?;
    // What still runs has had its time.
    runtime.shutdown_background();
    Ok(Outcome::default())
}

/// An address that a browser on this machine can open.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let local: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(local);
    }
    address
}

async fn serve(
    listener: impl Listener<Addr: std::fmt::Debug>,
    app: Shared,
    asked: impl Future<Output = ()>,
    drain: Duration,
) {
    let (end, mut ended) = tokio::sync::watch::channel(false);
    let (draining, serving, silence) = (app.clone(), app.clone(), app.silence());
    let asked = async move {
        asked.await;
        draining.drain();
        end.send_replace(true);
    };
    tokio::select! {
        () = async {
            connections::serve(listener, router(app), silence, asked).await;
            // Sockets are no requests any more to HTTP.
            serving.keys.wait_for_all().await;
        } => {}
        () = async {
            let _ = ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(drain).await;
        } => tracing::warn!(seconds = drain.as_secs(), "requests were cut off: they took longer than serve.drain_seconds"),
    }
}

/// Ends when the system, or somebody at a terminal, asks the program to end.
fn asked_to_end() -> std::io::Result<impl Future<Output = ()> + Send> {
    #[cfg(unix)]
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = signal::ctrl_c().await;
    })
}

fn router(app: Shared) -> Router {
    let limit = DefaultBodyLimit::max(app.settings.max_body_bytes);
    let proxied = match app.upstream.is_some() {
        true => Router::new()
            .route("/v1/chat/completions", post(proxy::chat_completions))
            .route("/v1/messages", post(proxy::messages))
            .route("/v1/responses", post(proxy::responses))
            .route("/v1/models", get(proxy::upstream::models)),
        false => Router::new(),
    };
    let guarded = Router::new()
        .route("/v1/moderations", post(moderations::moderate))
        .route("/v1/guard/prompt", post(judge::judge_prompt))
        .route("/v1/guard/answer", post(judge::judge_answer))
        .route("/v1/guard/replay", post(replay::replay))
        .route("/v1/guard/stream", get(socket::open))
        .route("/beta/litellm_basic_guardrail_api", post(hosts::litellm::guard))
        .route("/request", post(hosts::agentgateway::request))
        .route("/response", post(hosts::agentgateway::response))
        .merge(proxied)
        .layer(limit)
        .route_layer(middleware::from_fn_with_state(app.clone(), admission::admit));
    let open = Router::new().route("/info", get(info)).route("/metrics", get(numbers::metrics));
    let open = open.route_layer(middleware::from_fn_with_state(app.clone(), admission::known));
    let page = if app.settings.ui { ui::routes() } else { Router::new() };
    Router::new()
        .merge(guarded)
        .merge(open)
        .merge(page)
        .route("/health", get(health))
        .route("/openapi.json", get(openapi))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(app)
}

/// Live as long as it answers; ready unless the guard has failed or the server is ending.
async fn health(State(app): State<Shared>) -> Response {
    let stats = app.guard.stats();
    let status = if app.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "live": true,
        "ready": app.is_ready(),
        "open_streams": stats.open_streams,
        "oldest_wait_seconds": stats.oldest_wait_seconds,
    });
    (status, Json(body)).into_response()
}

async fn info(State(app): State<Shared>) -> Json<Value> {
    let labels = json!({ "prompt": app.guard.query_labels(), "answer": app.guard.response_labels() });
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({ "version": version, "guard": app.guard.info(), "labels": labels, "policy": app.policy }))
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

/// Routes that only a server with an upstream has.
const PROXIED: [&str; 4] = ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/models"];

async fn unknown(request: Request) -> Fault {
    let path = request.uri().path();
    let hint = match path {
        _ if PROXIED.contains(&path) => ", as this server has no upstream (--upstream)",
        "/ui" => ", as this server does not show its page (--ui)",
        _ => "",
    };
    Fault::status(StatusCode::NOT_FOUND, "unknown_route", format!("there is no {path}{hint}"))
}

async fn wrong_method(request: Request) -> Fault {
    let (method, path) = (request.method(), request.uri().path());
    Fault::status(StatusCode::METHOD_NOT_ALLOWED, "unknown_method", format!("{path} does not take {method}"))
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Fault::server(StatusCode::INTERNAL_SERVER_ERROR, "panic", "the server failed on this request").into_response()
}

/// A name for an answer that no other has.
fn id(kind: &str) -> String {
    let mut bytes = [0; 12];
    // Without the system's random numbers names may come twice, which harms nobody.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().fold(format!("{kind}-"), |id, byte| format!("{id}{byte:02x}"))
}
