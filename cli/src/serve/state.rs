//! What all requests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use qwenguard::{Guard, Policy};

use super::{
    calls::{Judge, Terms},
    fault::Fault,
    hosts::litellm::Conversations,
    keys::Keys,
    moderations::Categories,
    numbers::Numbers,
    proxy::upstream::Upstream,
    settings::Settings,
};
use crate::Failure;

pub(crate) struct App {
    pub(crate) guard: Guard,
    pub(crate) policy: Policy,
    pub(crate) settings: Settings,
    pub(crate) terms: Terms,
    pub(crate) keys: Keys,
    pub(crate) categories: Categories,
    pub(crate) numbers: Numbers,
    /// The server whose answers are guarded.
    pub(crate) upstream: Option<Upstream>,
    /// What is kept between the questions of LiteLLM.
    pub(crate) conversations: Conversations,
    is_gen: bool,
    draining: AtomicBool,
}

pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(guard: Guard, policy: Policy, settings: Settings) -> Result<Shared, Failure> {
        let is_gen = guard.info().variant == "gen";
        if !is_gen {
            // A policy that does not fit the guard is an error now, not one for each request.
            drop(guard.stream_with(policy.clone())?);
        }
        if is_gen && settings.upstream.is_some() {
            let reason = "serve.upstream: this bundle judges whole conversations, and answers of an upstream are guarded as they come";
            return Err(Failure::Message(format!("configuration: {reason}")));
        }
        let upstream = settings.upstream.as_ref().map(|url| Upstream::new(url, &settings)).transpose()?;
        Ok(Arc::new(App {
            keys: Keys::read(&settings)?,
            categories: Categories::built_in(),
            numbers: Numbers::new(),
            conversations: Conversations::new(settings.kept_conversations, Duration::from_secs(settings.kept_seconds)),
            upstream,
            is_gen,
            draining: AtomicBool::new(false),
            terms: Terms::new(settings.deadline(), settings.log_texts),
            guard,
            policy,
            settings,
        }))
    }

    /// Whether the model judges whole conversations, and no streams.
    pub(crate) fn is_gen(&self) -> bool {
        self.is_gen
    }

    /// How long an upstream, or a client that is written to, may be silent.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_secs(self.settings.upstream_seconds)
    }

    /// A new conversation.
    pub(crate) fn judge(&self) -> Result<Judge, Fault> {
        Ok(Judge::new(self.guard.stream_with(self.policy.clone())?, self.terms.clone()))
    }

    /// Whether new requests are welcome.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed) && !self.terms.has_failed()
    }

    /// Whether the server is ending.
    #[cfg(feature = "ext-proc")]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The server is ending.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
