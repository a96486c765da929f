//! TLS, with a certificate of our own.

use futures_util::{SinkExt, StreamExt};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    FINE,
    server::{Server, command},
};

struct Files {
    folder: tempfile::TempDir,
    certificate: String,
}

impl Files {
    fn new() -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".into()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        Files { folder, certificate: cert.pem() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A client that trusts the certificate and nobody else.
    fn client(&self) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = Certificate::from_pem(self.certificate.as_bytes()).unwrap();
        Client::builder().tls_certs_only([certificate]).build().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_certificate_speaks_tls_alone() {
    let files = Files::new();
    let server = Server::start(&["--tls-cert", &files.path("cert.pem"), "--tls-key", &files.path("key.pem")]);
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let url = format!("https://localhost:{port}");
    // Who connects and says nothing keeps nobody waiting.
    let silent = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let client = files.client();
    for _ in 0..3 {
        let response =
            client.post(format!("{url}/v1/moderations")).json(&json!({ "input": FINE })).send().await.unwrap();
        assert_eq!(response.json::<Value>().await.unwrap()["results"][0]["flagged"], false);
    }
    drop(silent);
    // Plain HTTP gets no answer, and nobody who does not know the certificate asks.
    assert!(crate::client().get(format!("http://127.0.0.1:{port}/health")).send().await.is_err());
    assert!(crate::client().get(format!("{url}/health")).send().await.is_err());
    let mut plain = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET /health HTTP/1.1\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!String::from_utf8_lossy(&said).contains("live"));
    assert_eq!(client.get(format!("{url}/health")).send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_goes_over_tls() {
    let files = Files::new();
    let server = Server::start(&["--tls-cert", &files.path("cert.pem"), "--tls-key", &files.path("key.pem")]);
    let port: u16 = server.url.rsplit(':').next().unwrap().parse().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    roots.add(CertificateDer::from_pem_slice(files.certificate.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connection = connector.connect(ServerName::try_from("localhost").unwrap(), connection).await.unwrap();
    let url = format!("wss://localhost:{port}/v1/guard/stream");
    let (mut socket, _) = tokio_tungstenite::client_async(url, connection).await.unwrap();
    let call = json!({ "prompt": [{ "role": "user", "content": FINE }] });
    socket.send(tokio_tungstenite::tungstenite::Message::text(call.to_string())).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().into_text().unwrap().contains("\"decision\":\"continue\""));
}

/// A server that is told to end lets go of its port, and ends requests first.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_as_without_tls() {
    let files = Files::new();
    let mut server = Server::start(&["--tls-cert", &files.path("cert.pem"), "--tls-key", &files.path("key.pem")]);
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    server.terminate();
    assert!(server.wait().success());
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).await.is_err());
}

#[test]
fn files_that_are_none_are_errors_that_name_them() {
    let files = Files::new();
    std::fs::write(files.folder.path().join("empty"), "").unwrap();
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let (empty, missing) = (files.path("empty"), files.path("missing"));
    let other = Files::new();
    let others_key = other.path("key.pem");
    for (arguments, named) in [
        (&["--tls-cert", &*cert][..], "serve.tls_key is missing"),
        (&["--tls-key", &key], "serve.tls_cert is missing"),
        (&["--tls-cert", &missing, "--tls-key", &key], "serve.tls_cert"),
        (&["--tls-cert", &empty, "--tls-key", &key], "no certificate"),
        (&["--tls-cert", &cert, "--tls-key", &empty], "serve.tls_key"),
        (&["--tls-cert", &cert, "--tls-key", &others_key], "serve.tls_cert"),
    ] {
        let output = command(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(named), "{error}");
    }
}
