//! A second guard behind a guard of the variant stream: judges whole answers where the policy asks it.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Error, Result,
    annotation::Decoding,
    config::{Config, EngineConfig, Overflow, SecondOpinionConfig},
    generative::Rendered,
    opened::{Gen, Heads, Info, Opened},
    process::Owned,
    stats::{OpinionStats, Stats},
    text::{Fit, Message},
};

/// The setting that opens one.
const SETTING: &str = "second_opinion.bundle";

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
        let Some(SecondOpinionConfig { bundle, cache_mib }) = &config.second_opinion else { return Ok(None) };
        let mut own = Config { second_opinion: None, policy: Default::default(), ..config.clone() };
        own.cache.mib = *cache_mib;
        own.engine = EngineConfig { overflow: Overflow::Error, idle_seconds: 0, ..own.engine };
        Self::new(first, Opened::folder(bundle, &own)?, SETTING).map(Some)
    }

    /// A conversation whose last message is an answer as the model takes it, and which part of that message it has: of one that
    /// is too long the end.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<(Rendered, Range<usize>)> {
        let Opened { tokenizer, info, .. } = &**self.shared;
        let content = messages.last().map_or("", |last| &last.content);
        let limit = info.context.saturating_sub(Decoding::Constrained.most_tokens(&self.model.answer));
        match Rendered::new(&self.shared, messages) {
            Err(Error::ContextFull { .. }) => {}
            Ok(rendered) if rendered.ids.len() > limit => {}
            whole => return Ok((whole?, 0..content.len())),
        }
        let with = |text: &str| {
            let mut messages = messages.to_vec();
            if let Some(last) = messages.last_mut() {
                last.content = text.to_owned();
            }
            Rendered::new(&self.shared, &messages)
        };
        let measure = |text: &str| Ok(with(text)?.ids.len());
        let judged = Fit::new(tokenizer, content, limit, &measure)?.to_end()?;
        Ok((with(&content[judged.clone()])?, judged))
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
