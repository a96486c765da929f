//! Connections, with TLS if it is asked for.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::serve::Listener;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{Failure, look};

/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Clients that agree on keys at once.
const HANDSHAKES: usize = 256;

/// The certificate chain and the key of the server, both in PEM.
pub(crate) fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    let wrong = |setting: &str, path: &Path, reason: &dyn std::fmt::Display| {
        Failure::Message(format!("configuration: serve.{setting}: {}: {reason}", look::file_name(path)))
    };
    let chain = CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| wrong("tls_cert", certificates, &error))?;
    if chain.is_empty() {
        return Err(wrong("tls_cert", certificates, &"there is no certificate in it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("tls_key", key, &error))?;
    // Another part of this program may have set it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    let mut config = config.map_err(|error| wrong("tls_cert", certificates, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Small pieces of an answer go out as they come, and do not wait until the client has the ones before.
pub(super) fn at_once(connection: &mut TcpStream) {
    let _ = connection.set_nodelay(true);
}

/// Gives connections once their keys are agreed on. Clients that are slow at it keep nobody waiting.
pub(crate) struct Secured {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Secured {
    pub(crate) fn new(listener: TcpListener, acceptor: TlsAcceptor) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(listener, acceptor, sender));
        Ok(Secured { ready, address, accepting })
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        // The port is free again.
        self.accepting.abort();
    }
}

async fn accept(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        // It waits where the system has no more descriptors.
        let (mut connection, address) = Listener::accept(&mut listener).await;
        at_once(&mut connection);
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            let agreed = timeout(HANDSHAKE, acceptor.accept(connection)).await;
            drop(permit);
            if let Ok(Ok(connection)) = agreed {
                let _ = sender.send((connection, address)).await;
            }
        });
    }
}

impl Listener for Secured {
    type Addr = SocketAddr;
    type Io = TlsStream<TcpStream>;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The task that accepts ends with this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
