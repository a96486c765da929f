//! Connections of clients: HTTP/1.1 over each, until the client or the server ends it.

use std::{convert::Infallible, fmt::Debug, future::Future, pin::pin, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::sync::{mpsc, watch};

/// How long a client may take to send the head of a request: its first one, and each after the answer before.
const HEAD: Duration = Duration::from_secs(60);

/// Serves until it is asked to end, and all connections have ended then. A client that is silent while it should ask is
/// given up, so that nobody takes all of the system's descriptors by saying nothing.
pub(super) async fn serve(
    mut listener: impl Listener<Addr: Debug>,
    router: Router,
    silence: Duration,
    asked: impl Future<Output = ()>,
) {
    let (end, ended) = watch::channel(());
    // Nothing is sent: it is closed when the last connection is.
    let (open, mut closed) = mpsc::channel::<Infallible>(1);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD.min(silence));
    let mut asked = pin!(asked);
    loop {
        let (stream, _) = tokio::select! {
            () = &mut asked => break,
            accepted = listener.accept() => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let (mut ended, open) = (ended.clone(), open.clone());
        tokio::spawn(async move {
            let _open = open;
            let mut connection = pin!(connection);
            // What goes wrong with a connection is its client's business.
            tokio::select! {
                _ = &mut connection => {}
                _ = ended.changed() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
    drop((listener, end, open));
    closed.recv().await;
}
