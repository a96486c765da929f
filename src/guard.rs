//! A guard: a bundle opened on an execution provider.

use std::{fmt, path::Path, sync::Arc};

#[allow(unused_imports, reason = "documentation links to it")]
use crate::error::Error;
use crate::{
    config::Config,
    error::Result,
    opened::{Info, Opened},
    policy::Policy,
    process::{Owned, Process},
    stats::Stats,
    stream::Stream,
    text::{TextToken, encode},
    verdict::Labels,
};

/// An opened bundle: heavy, shared, thread-safe. Cloning it is cheap and gives the same guard; streams keep it alive.
///
/// A process that is forked from the one that opened it does not have its threads: there every call of it and its streams
/// fails with [`Error::EngineStopped`], and dropping them frees nothing. Such a process opens a guard of its own.
///
/// See the crate documentation for an example.
#[derive(Clone)]
pub struct Guard {
    pub(crate) shared: Arc<Owned<Opened>>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Guard").field("bundle", &self.shared.info.bundle).finish_non_exhaustive()
    }
}

impl Guard {
    /// Opens a bundle with the default configuration.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`] or [`Error::RuntimeUnusable`] if there is no ONNX Runtime to run it;
    /// [`Error::BundleFile`], [`Error::BundleField`] or [`Error::BundleFormat`] if the bundle is damaged, newer than
    /// this library or of an unknown kind, changes meanwhile, or fails its self-test: then it is damaged in a way that
    /// its digests do not show, or this machine computes wrong.
    pub fn open(bundle: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(bundle, &Config::default())
    }

    /// Opens a bundle.
    ///
    /// # Errors
    /// As [`Guard::open`], and [`Error::Config`] for a setting that is out of range.
    pub fn open_with(bundle: impl AsRef<Path>, config: &Config) -> Result<Self> {
        Ok(Guard { shared: Opened::folder(bundle.as_ref(), config)? })
    }

    /// Opens the demonstration guard that is compiled in. It is small and only tells the obvious apart.
    ///
    /// # Errors
    /// As [`Guard::open_with`].
    #[cfg(feature = "nano")]
    pub fn nano(config: &Config) -> Result<Self> {
        Ok(Guard { shared: Opened::nano(config)? })
    }

    /// Opens a stream with the configuration's policy.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many streams are open as the configuration allows.
    pub fn stream(&self) -> Result<Stream> {
        self.stream_with(self.shared.policy.clone())
    }

    /// Opens a stream with a policy of its own.
    ///
    /// # Errors
    /// As [`Guard::stream`], and [`Error::Config`] if the policy is out of range.
    pub fn stream_with(&self, policy: Policy) -> Result<Stream> {
        self.process().check()?;
        policy.validate()?;
        policy.check_categories(&self.shared.query_labels, &self.shared.response_labels)?;
        Stream::new(self.shared.clone(), policy)
    }

    /// The tokens of a text, as [`Stream::push_tokens`] wants them. Special tokens that the text spells are text.
    ///
    /// # Errors
    /// [`Error::Argument`] if the tokenizer cannot encode the text, or takes texts only whole and this has more than
    /// 1 MiB; [`Error::OutOfMemory`] if there is no room for the tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<TextToken>> {
        self.process().check()?;
        encode(&self.shared.tokenizer, text)
    }

    /// The bytes that a token stands for: often not whole characters.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such token.
    pub fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        self.process().check()?;
        self.shared.token_bytes(id)
    }

    /// The labels of the heads that judge prompts.
    pub fn query_labels(&self) -> &Labels {
        &self.shared.query_labels
    }

    /// The labels of the heads that judge answers.
    pub fn response_labels(&self) -> &Labels {
        &self.shared.response_labels
    }

    /// What the guard has done so far and how it is. Never waits for a step; callers may poll it. In a forked process all
    /// zeros: see [`Guard`].
    pub fn stats(&self) -> Stats {
        self.shared.engine.stats()
    }

    /// What the guard is made of.
    pub fn info(&self) -> &Info {
        &self.shared.info
    }

    /// The process that it can be used in.
    pub(crate) fn process(&self) -> Process {
        self.shared.process()
    }
}
