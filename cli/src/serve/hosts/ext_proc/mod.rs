//! Envoy's external processing over gRPC: Envoy asks the model's server itself and brings both bodies here, request and answer.
//!
//! What Envoy takes for a yes is an end of the call without an error: it passes on all that is left. So a call ends with an
//! error unless all of its answer was sent.

mod exchange;
mod messages;

use std::{
    net::SocketAddr,
    pin::Pin,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ext_proc::v3::{
    ProcessingRequest, ProcessingResponse,
    external_processor_server::{ExternalProcessor, ExternalProcessorServer},
};
use futures_util::{Stream, stream};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::check_streams;
use crate::{
    Failure,
    serve::{Shared, admission::Serving, fault::Fault, keys::Admitted},
};
use exchange::Exchange;

/// Messages that wait for Envoy to take them.
const AHEAD: usize = 16;

/// How often is looked whether the server is ready.
const LOOK: Duration = Duration::from_millis(200);

/// How long a server that ends waits for connections to close when all calls are over.
const FLUSH: Duration = Duration::from_secs(5);

/// What is sent to Envoy.
enum Sent {
    Message(Box<ProcessingResponse>),
    /// The call ends, and nothing more is to be judged.
    Complete,
    Failed(Status),
}

struct Processor(Shared);

type Sending = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalProcessor for Processor {
    type ProcessStream = Sending;

    async fn process(&self, request: Request<Streaming<ProcessingRequest>>) -> Result<Response<Sending>, Status> {
        let app = self.0.clone();
        let (metadata, _, inbound) = request.into_parts();
        let admitted = match app.keys.admit(&metadata.into_headers()) {
            Err(fault) if fault.status.as_u16() == 401 => return Err(Status::unauthenticated(fault.message())),
            admitted => admitted,
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(serve(app, inbound, sender, admitted));
        Ok(Response::new(sending(receiver)))
    }
}

/// Serves one call: one request of a client, and its answer.
async fn serve(
    app: Shared,
    inbound: Streaming<ProcessingRequest>,
    sender: mpsc::Sender<Sent>,
    admitted: Result<Admitted, Fault>,
) {
    let (begun, _serving) = (Instant::now(), Serving::new());
    let client = admitted.as_ref().map(|admitted| admitted.client.clone()).unwrap_or_default();
    let exchange = Exchange::new(app, client.clone(), inbound, sender);
    let status = exchange.run(admitted.as_ref().err()).await;
    drop(admitted);
    let seconds = begun.elapsed().as_secs_f64();
    let labels = [("route", "ext_proc".to_owned()), ("status", status.to_owned()), ("client", client.clone())];
    metrics::counter!("qwenguard_http_requests_total", &labels).increment(1);
    tracing::info!(route = "ext_proc", status, client, seconds, "request");
}

/// The messages of a call. Without the word that it is complete it ends with an error.
fn sending(receiver: mpsc::Receiver<Sent>) -> Sending {
    Box::pin(stream::unfold(Some(receiver), async |receiver| {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Sent::Message(message)) => Some((Ok(*message), Some(receiver))),
            Some(Sent::Complete) => None,
            Some(Sent::Failed(status)) => Some((Err(status), None)),
            None => Some((Err(Status::aborted("the server ends")), None)),
        }
    }))
}

/// Listens for Envoy, and serves until the server ends. What it gives ends when every connection is closed.
pub(crate) async fn listen(app: &Shared, address: SocketAddr) -> Result<JoinHandle<()>, Failure> {
    let failure =
        |reason: &dyn std::fmt::Display| Failure::Message(format!("serve.ext_proc_listen: {address}: {reason}"));
    check_streams(app).map_err(|fault| failure(&fault.message()))?;
    let listener = TcpListener::bind(address).await.map_err(|error| failure(&error))?;
    let bound = listener.local_addr().map_err(|error| failure(&error))?;
    let (reporter, health) = tonic_health::server::health_reporter();
    tell_health(&reporter, app.is_ready()).await;
    // More than are served: those too many are told so, and do not wait in the connection.
    let streams = u32::try_from(app.settings.max_requests.saturating_mul(2).max(200)).ok();
    let server = Server::builder()
        .max_concurrent_streams(streams)
        .add_service(health)
        .add_service(ExternalProcessorServer::new(Processor(app.clone())))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            watch(app.clone(), reporter),
        );
    let server = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "ext_proc has ended");
        }
    });
    crate::look::tell(&format!("qwenguard answers Envoy on {bound}"));
    Ok(server)
}

/// Calls are over when their last message is in the connection's hands, which still has to write it. Envoy then closes its
/// connections; whoever watches the health would keep one open.
pub(crate) async fn send_the_rest(server: JoinHandle<()>) {
    let _ = timeout(FLUSH, server).await;
}

/// Tells Envoy how the server is, until that is told to end.
async fn watch(app: Shared, reporter: HealthReporter) {
    let mut told = true;
    while !app.is_draining() {
        if told != app.is_ready() {
            told = app.is_ready();
            tell_health(&reporter, told).await;
        }
        sleep(LOOK).await;
    }
    tell_health(&reporter, false).await;
}

async fn tell_health(reporter: &HealthReporter, is_ready: bool) {
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", "envoy.service.ext_proc.v3.ExternalProcessor"] {
        reporter.set_service_status(service, status).await;
    }
}
