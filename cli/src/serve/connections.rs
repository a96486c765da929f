//! Connections of clients: HTTP/1.1 over each, until the client or the server ends it.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, watch},
    time::{Sleep, sleep},
};

/// How long a client may take to send the head of a request: its first one, and each after the answer before.
const HEAD: Duration = Duration::from_secs(60);

/// Serves until it is asked to end, and all connections have ended then. A client that is silent while it should ask, or takes
/// nothing of its answer, is given up: else the server's room could be taken by doing nothing.
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
        let stream = TokioIo::new(Patient { stream, silence, until: None });
        let connection = http.serve_connection(stream, service).with_upgrades();
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

/// A connection whose client has to take what is written to it.
struct Patient<S> {
    stream: S,
    silence: Duration,
    /// When it is given up, while it takes nothing.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Of what waits for the client: an error once it has waited for too long.
    fn wait<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.until = None;
            return polled;
        }
        let silence = self.silence;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(silence)));
        until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wait(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wait(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.wait(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.wait(context, polled)
    }
}
