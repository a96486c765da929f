//! A second guard behind a guard of the variant stream: judges whole answers where the policy asks it.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Error, Result,
    annotation::{AnnotateOptions, Decoding, TextOverflow},
    config::{BuiltIn, Config, EngineConfig, Overflow},
    generative::Rendered,
    opened::{Gen, Heads, Info, Opened},
    process::Owned,
    stats::{OpinionStats, Stats},
    text::Message,
};

pub(crate) struct Second {
    pub(crate) shared: Arc<Owned<Opened>>,
    pub(crate) model: Arc<Gen>,
    /// Of the guard that it is behind.
    pub(crate) info: Info,
    stats: Mutex<OpinionStats>,
}

impl Second {
    /// Puts an opened bundle behind another one. `named` is where it comes from.
    ///
    /// # Errors
    /// [`Error::Config`] if one of them is of the wrong variant.
    pub(crate) fn new(first: &Opened, second: Arc<Owned<Opened>>, named: &'static str) -> Result<Arc<Self>> {
        if let Heads::Gen(_) = first.heads {
            let reason = "the guard is of the variant gen, which has no streams to be asked about";
            return Err(Error::config("second_opinion", reason));
        }
        let Heads::Gen(model) = &second.heads else {
            let Info { bundle, variant, .. } = &second.info;
            let reason = format!("{bundle} is of the variant {variant}; a second opinion takes one of the variant gen");
            return Err(Error::config(named, reason));
        };
        let info = Info { second_opinion: Some(second.info.bundle.clone()), ..first.info.clone() };
        let stats = Mutex::default();
        Ok(Arc::new(Second { model: model.clone(), shared: second, info, stats }))
    }

    /// Opens the bundle that the configuration of a guard names, as that guard is opened.
    pub(crate) fn open(first: &Opened, config: &Config) -> Result<Option<Arc<Self>>> {
        let Some(second) = &config.second_opinion else { return Ok(None) };
        let mut own = Config { second_opinion: None, policy: Default::default(), ..config.clone() };
        own.name = config.name.as_ref().map(|name| format!("{name} second opinion"));
        own.cache.mib = second.cache_mib;
        own.engine = EngineConfig { overflow: Overflow::Error, idle_seconds: 0, ..own.engine };
        let opened = match (&second.bundle, second.built_in) {
            (Some(bundle), _) => Opened::folder(bundle, &own)?,
            (None, Some(BuiltIn::NanoGen)) => Self::nano_gen(&own)?,
            // What is opened is validated before.
            (None, None) => return Ok(None),
        };
        Self::new(first, opened, "second_opinion.bundle").map(Some)
    }

    #[cfg(feature = "nano")]
    fn nano_gen(config: &Config) -> Result<Arc<Owned<Opened>>> {
        Opened::nano_gen(config)
    }

    #[cfg(not(feature = "nano"))]
    fn nano_gen(_: &Config) -> Result<Arc<Owned<Opened>>> {
        Err(Error::config("second_opinion.built_in", "this library is built without the feature nano"))
    }

    /// A conversation whose last message is an answer as the model takes it, and which part of that message it has: of one that
    /// is too long the end.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<(Rendered, Range<usize>)> {
        let options = AnnotateOptions { decoding: Decoding::Constrained, overflow: TextOverflow::Tail };
        let part = Rendered::parts(&self.shared, &self.model, messages, options)?.pop();
        part.ok_or(Error::EngineStopped)
    }

    /// An opinion is asked for.
    pub(crate) fn asked(&self) {
        self.lock().asked += 1;
    }

    /// An opinion was given, or not, after such a time.
    pub(crate) fn answered(&self, count: impl FnOnce(&mut OpinionStats), after: Duration) {
        let mut stats = self.lock();
        count(&mut stats);
        stats.seconds.record(after.as_secs_f64());
    }

    /// Adds what was asked to the statistics of the guard.
    pub(crate) fn add_to(&self, stats: Stats) -> Stats {
        match self.shared.process().is_current() {
            true => stats.with_opinions(&self.lock()),
            false => stats,
        }
    }

    fn lock(&self) -> MutexGuard<'_, OpinionStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
