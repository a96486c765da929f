//! The settings of the server. A flag goes before an environment variable, that before the table `[serve]` of the
//! configuration, and that before the default.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::Failure;

/// The table `[serve]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// A server that speaks OpenAI's interface, with its `/v1`. Without one the routes of the proxy are not there.
    pub(crate) upstream: Option<String>,
    /// The variable of the environment that has the upstream's key. Without it the client's own `Authorization` is sent
    /// on, unless this server has keys.
    pub(crate) upstream_key_env: Option<String>,
    /// How the upstream is told that key.
    pub(crate) upstream_key_header: KeyHeader,
    /// The page, at `/ui`.
    pub(crate) ui: bool,
    /// The certificate chain, in PEM. With `tls_key` the server speaks TLS.
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM.
    pub(crate) tls_key: Option<PathBuf>,
    /// A collector of traces that speaks OTLP over HTTP: its URL, such as `http://127.0.0.1:4318`.
    pub(crate) otlp_endpoint: Option<String>,
    /// Texts of what is found are in the log.
    pub(crate) log_texts: bool,
    /// Clients that may ask. Without any, everybody may.
    pub(crate) keys: Vec<Key>,
    /// Requests that are served at once; more are answered 429.
    pub(crate) max_requests: usize,
    /// The longest body of a request, in bytes.
    pub(crate) max_body_bytes: usize,
    /// The most texts in one request for moderation.
    pub(crate) max_inputs: usize,
    /// How long a call of the guard may take, in seconds.
    pub(crate) deadline_seconds: u64,
    /// How long the upstream may take to connect, to answer, and between two pieces of an answer, in seconds.
    pub(crate) upstream_seconds: u64,
    /// How long requests may go on once the server is told to end, in seconds.
    pub(crate) drain_seconds: u64,
    /// The most conversations that are kept between the questions of a gateway.
    pub(crate) kept_conversations: usize,
    /// How long one of them is kept that nobody asks about, in seconds.
    pub(crate) kept_seconds: u64,
    /// Where to listen for Envoy's external processing.
    #[cfg(feature = "ext-proc")]
    pub(crate) ext_proc_listen: Option<SocketAddr>,
}

/// The header that has the upstream's key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyHeader {
    /// `authorization`, and for Anthropic's Messages `x-api-key` as well.
    #[default]
    ByRoute,
    /// `Authorization: Bearer KEY`.
    Authorization,
    /// `x-api-key: KEY`.
    XApiKey,
}

/// A client's key.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Key {
    /// What logs and metrics call it.
    pub(crate) name: String,
    /// The key itself, or
    pub(crate) secret: Option<String>,
    /// the variable of the environment that has it, or
    pub(crate) secret_env: Option<String>,
    /// a file that has it, without the line's end.
    pub(crate) secret_file: Option<PathBuf>,
    /// Requests with this key that are served at once. Default: as many as the server serves.
    pub(crate) max_requests: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 8600)),
            upstream: None,
            upstream_key_env: None,
            upstream_key_header: KeyHeader::default(),
            ui: false,
            tls_cert: None,
            tls_key: None,
            otlp_endpoint: None,
            log_texts: false,
            keys: Vec::new(),
            max_requests: 512,
            max_body_bytes: 2 << 20,
            max_inputs: 256,
            deadline_seconds: 60,
            upstream_seconds: 120,
            drain_seconds: 30,
            kept_conversations: 1024,
            kept_seconds: 300,
            #[cfg(feature = "ext-proc")]
            ext_proc_listen: None,
        }
    }
}

/// Flags and variables of the environment, by the names of the settings.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// Where to listen: an address and a port.
    #[arg(long, value_name = "ADDRESS:PORT", env = "QWENGUARD_LISTEN")]
    listen: Option<SocketAddr>,
    /// Guard the answers of this server, which speaks OpenAI's interface: its URL, with /v1.
    #[arg(long, value_name = "URL", env = "QWENGUARD_UPSTREAM")]
    upstream: Option<String>,
    /// The variable of the environment that has the upstream's key.
    #[arg(long, value_name = "NAME", env = "QWENGUARD_UPSTREAM_KEY_ENV")]
    upstream_key_env: Option<String>,
    /// The header that has it: by-route is authorization, and for Anthropic's Messages x-api-key as well.
    #[arg(long, value_name = "HEADER", env = "QWENGUARD_UPSTREAM_KEY_HEADER")]
    upstream_key_header: Option<KeyHeader>,
    /// Show a page to try the guard in a browser, at /ui.
    #[arg(long, env = "QWENGUARD_UI", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    ui: Option<bool>,
    /// Put the texts of what is found into the log.
    #[arg(long, env = "QWENGUARD_LOG_TEXTS", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    log_texts: Option<bool>,
    /// Speak TLS: the file of the certificate chain, in PEM.
    #[arg(long, value_name = "FILE", env = "QWENGUARD_TLS_CERT", value_hint = clap::ValueHint::FilePath)]
    tls_cert: Option<PathBuf>,
    /// The file of the certificate's key, in PEM.
    #[arg(long, value_name = "FILE", env = "QWENGUARD_TLS_KEY", value_hint = clap::ValueHint::FilePath)]
    tls_key: Option<PathBuf>,
    /// Send traces to this collector, which speaks OTLP over HTTP: its URL.
    #[arg(long, value_name = "URL", env = "QWENGUARD_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// A file with a key that clients have to send.
    #[arg(long, value_name = "FILE", env = "QWENGUARD_KEY_FILE", value_hint = clap::ValueHint::FilePath)]
    key_file: Option<PathBuf>,
    /// Requests that are served at once.
    #[arg(long, value_name = "N", env = "QWENGUARD_MAX_REQUESTS")]
    max_requests: Option<usize>,
    /// The longest body of a request, in bytes.
    #[arg(long, value_name = "BYTES", env = "QWENGUARD_MAX_BODY_BYTES")]
    max_body_bytes: Option<usize>,
    /// The most texts in one request for moderation.
    #[arg(long, value_name = "N", env = "QWENGUARD_MAX_INPUTS")]
    max_inputs: Option<usize>,
    /// How long a call of the guard may take, in seconds.
    #[arg(long, value_name = "SECONDS", env = "QWENGUARD_DEADLINE_SECONDS")]
    deadline_seconds: Option<u64>,
    /// How long the upstream may be silent, in seconds.
    #[arg(long, value_name = "SECONDS", env = "QWENGUARD_UPSTREAM_SECONDS")]
    upstream_seconds: Option<u64>,
    /// How long requests may go on once the server is told to end, in seconds.
    #[arg(long, value_name = "SECONDS", env = "QWENGUARD_DRAIN_SECONDS")]
    drain_seconds: Option<u64>,
    /// Conversations that are kept between the questions of a gateway.
    #[arg(long, value_name = "N", env = "QWENGUARD_KEPT_CONVERSATIONS")]
    kept_conversations: Option<usize>,
    /// How long one of them is kept that nobody asks about, in seconds.
    #[arg(long, value_name = "SECONDS", env = "QWENGUARD_KEPT_SECONDS")]
    kept_seconds: Option<u64>,
    /// Answer Envoy's external processing here: an address and a port, for gRPC.
    #[cfg(feature = "ext-proc")]
    #[arg(long, value_name = "ADDRESS:PORT", env = "QWENGUARD_EXT_PROC_LISTEN")]
    ext_proc_listen: Option<SocketAddr>,
}

impl Flags {
    /// The settings with what the command line and the environment say.
    pub(crate) fn over(&self, mut settings: Settings) -> Result<Settings, Failure> {
        fn set<T: Clone>(setting: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                setting.clone_from(value);
            }
        }
        fn set_option<T: Clone>(setting: &mut Option<T>, flag: &Option<T>) {
            if flag.is_some() {
                setting.clone_from(flag);
            }
        }
        set(&mut settings.listen, &self.listen);
        set(&mut settings.max_requests, &self.max_requests);
        set(&mut settings.max_body_bytes, &self.max_body_bytes);
        set(&mut settings.max_inputs, &self.max_inputs);
        set(&mut settings.deadline_seconds, &self.deadline_seconds);
        set(&mut settings.upstream_seconds, &self.upstream_seconds);
        set(&mut settings.drain_seconds, &self.drain_seconds);
        set(&mut settings.kept_conversations, &self.kept_conversations);
        set(&mut settings.kept_seconds, &self.kept_seconds);
        set(&mut settings.upstream_key_header, &self.upstream_key_header);
        set(&mut settings.ui, &self.ui);
        set(&mut settings.log_texts, &self.log_texts);
        set_option(&mut settings.upstream, &self.upstream);
        set_option(&mut settings.upstream_key_env, &self.upstream_key_env);
        set_option(&mut settings.tls_cert, &self.tls_cert);
        set_option(&mut settings.tls_key, &self.tls_key);
        set_option(&mut settings.otlp_endpoint, &self.otlp_endpoint);
        #[cfg(feature = "ext-proc")]
        set_option(&mut settings.ext_proc_listen, &self.ext_proc_listen);
        if let Some(file) = &self.key_file {
            settings.keys = vec![Key { name: "client".into(), secret_file: Some(file.clone()), ..Key::default() }];
        }
        settings.check()
    }
}

impl Settings {
    fn check(self) -> Result<Self, Failure> {
        let positive = [
            ("max_requests", self.max_requests as u64),
            ("max_body_bytes", self.max_body_bytes as u64),
            ("max_inputs", self.max_inputs as u64),
            ("deadline_seconds", self.deadline_seconds),
            ("upstream_seconds", self.upstream_seconds),
            ("kept_conversations", self.kept_conversations as u64),
            ("kept_seconds", self.kept_seconds),
        ];
        for (name, value) in positive {
            if value == 0 || value > 1 << 40 {
                return Err(Failure::Message(format!("configuration: serve.{name}: {value} is out of range")));
            }
        }
        let reason = match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => "serve.tls_key is missing, the key of serve.tls_cert",
            (None, Some(_)) => "serve.tls_cert is missing, the certificate of serve.tls_key",
            _ if self.otlp_endpoint.is_some() && !cfg!(feature = "otlp") => {
                "serve.otlp_endpoint: this program was built without the feature otlp"
            }
            _ => return Ok(self),
        };
        Err(Failure::Message(format!("configuration: {reason}")))
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_seconds)
    }
}

/// Takes the table `[serve]` out of a configuration; the rest is the library's.
pub(crate) fn split(text: &str) -> Result<(Settings, String), String> {
    let mut document: toml::Table = toml::from_str(text).map_err(|error| one_line(&error))?;
    let Some(table) = document.remove("serve") else { return Ok((Settings::default(), text.to_owned())) };
    let settings = table.try_into().map_err(|error: toml::de::Error| format!("serve: {}", one_line(&error)))?;
    let rest = toml::to_string(&document).map_err(|error| error.to_string())?;
    Ok((settings, rest))
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().split_whitespace().collect::<Vec<_>>().join(" ")
}
