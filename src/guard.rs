//! A guard: a bundle opened on an execution provider.

use std::{fmt, path::Path, sync::Arc};

use crate::{
    annotate::{BegunAnnotation, annotate},
    annotation::{AnnotateOptions, Annotation},
    config::Config,
    engine::Notify,
    error::{Error, Result},
    opened::{Info, Opened},
    policy::Policy,
    process::{Owned, Process},
    second::Second,
    stats::Stats,
    stream::Stream,
    text::{Message, TextToken, encode},
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
    second: Option<Arc<Second>>,
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
    /// As [`Guard::open`], also of the bundle for second opinions, if the configuration names one; [`Error::Config`] for
    /// a setting that is out of range; and [`Error::Provider`] if the execution provider that it chooses cannot be had.
    pub fn open_with(bundle: impl AsRef<Path>, config: &Config) -> Result<Self> {
        Self::with_config(Opened::folder(bundle.as_ref(), config)?, config)
    }

    /// Opens the demonstration guard that is compiled in. It is small and only tells the obvious apart.
    ///
    /// # Errors
    /// As [`Guard::open_with`].
    #[cfg(feature = "nano")]
    pub fn nano(config: &Config) -> Result<Self> {
        Self::with_config(Opened::nano(config)?, config)
    }

    fn with_config(shared: Arc<Owned<Opened>>, config: &Config) -> Result<Self> {
        let second = Second::open(&shared, config)?;
        Ok(Guard { shared, second })
    }

    /// This guard, of the variant stream, with another one behind it, of the variant gen: its streams ask that one where their
    /// policy says so, see [`policy::SecondOpinion`](crate::policy::SecondOpinion). For one that several guards share;
    /// [`Config::second_opinion`] opens one. What was behind this guard before is not behind the new one. Statistics
    /// count opinions from 0 on.
    ///
    /// # Errors
    /// [`Error::Config`] if a guard is of the wrong variant.
    pub fn with_second_opinion(&self, second: &Guard) -> Result<Guard> {
        self.process().check()?;
        second.process().check()?;
        let second = Second::new(&self.shared, second.shared.clone(), "second_opinion")?;
        Ok(Guard { shared: self.shared.clone(), second: Some(second) })
    }

    /// The guard behind this one, if there is one: for its statistics, which are its own.
    pub fn second_opinion(&self) -> Option<Guard> {
        self.second.as_ref().map(|second| Guard { shared: second.shared.clone(), second: None })
    }

    /// Opens the demonstration guard of the variant gen that is compiled in: it judges whole conversations and writes its
    /// verdict, as Qwen3Guard-Gen does. It is as small as the other, and only tells the obvious apart.
    ///
    /// # Errors
    /// As [`Guard::open_with`].
    #[cfg(feature = "nano")]
    pub fn nano_gen(config: &Config) -> Result<Self> {
        Self::with_config(Opened::nano_gen(config)?, config)
    }

    /// Opens a stream with the configuration's policy.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many streams are open as the configuration allows; [`Error::WrongState`] if the bundle is of
    /// the variant gen, which judges whole conversations only; [`Error::Config`] if the policy asks for second opinions and
    /// there is no guard for them.
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
        if let (Some(setting), None) = (policy.asks(), &self.second) {
            let reason = "there is no guard to ask: name one in the configuration, second_opinion.bundle or second_opinion.built_in";
            return Err(Error::config(setting, reason));
        }
        Stream::with_second(self.shared.clone(), self.second.clone(), policy)
    }

    /// Judges a whole conversation: what is asked, if the last message is the user's, else what is answered. For finished
    /// texts; an answer that is being written is a [`Stream`]'s.
    ///
    /// A bundle of the variant gen writes its verdict. The conversation is rendered by the checkpoint's own template, as it
    /// is, and encoded as a whole. All callers' conversations are computed together, and what they begin with in common,
    /// such as the template's instructions, once. An annotation does not depend on the others; with weights that the
    /// runtime multiplies (fp32), its probabilities may differ in their last digits.
    ///
    /// A bundle of the variant stream judges the last message of the user, or every token of the answer: the annotation is
    /// the worst that two tokens in a row agree on, with its probabilities. Refusals are not known then, and of the
    /// options only [`AnnotateOptions::overflow`] matters.
    ///
    /// # Errors
    /// [`Error::Conversation`] if there is no message, or the template refuses one or leaves out a part of it: the error
    /// names its role and its index, counted from 0; of a bundle of the variant stream also if the answer is empty, the
    /// last message is neither the user's nor the assistant's, or the message before an answer is an answer, too.
    /// [`Error::ContextFull`] if conversation and answer do not fit the model's context, unless
    /// [`AnnotateOptions::overflow`] says which part of the last message is judged then.
    /// [`Error::Busy`] if others use all of the engine.
    pub fn annotate(&self, messages: &[Message], options: &AnnotateOptions) -> Result<Annotation> {
        self.annotate_all([messages], options).pop().unwrap_or(Err(Error::EngineStopped))
    }

    /// Judges many conversations together. The results are in the order of the conversations, each as
    /// [`Guard::annotate`] has it; one that fails leaves the others alone.
    ///
    /// Those that begin alike share more of the computation if they are close to each other.
    pub fn annotate_all<'m>(
        &self,
        conversations: impl IntoIterator<Item = &'m [Message]>,
        options: &AnnotateOptions,
    ) -> Vec<Result<Annotation>> {
        let conversations = conversations.into_iter();
        match self.process().check() {
            Ok(()) => annotate(&self.shared, *options, conversations),
            Err(error) => conversations.map(|_| Err(error.clone())).collect(),
        }
    }

    /// Begins to annotate. `notify` is called whenever going on does not wait.
    pub(crate) fn begin_annotation(
        &self,
        messages: &[Message],
        options: &AnnotateOptions,
        notify: Notify,
    ) -> Result<BegunAnnotation> {
        BegunAnnotation::begin(&self.shared, *options, messages, notify)
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

    /// What prompts are judged by: the labels of heads, or of the variant gen those that the model may say.
    pub fn query_labels(&self) -> &Labels {
        &self.shared.query_labels
    }

    /// What answers are judged by, as [`Guard::query_labels`] says it of prompts.
    pub fn response_labels(&self) -> &Labels {
        &self.shared.response_labels
    }

    /// What the guard has done so far and how it is. Never waits for a step; callers may poll it. In a forked process all
    /// zeros: see [`Guard`].
    pub fn stats(&self) -> Stats {
        if !self.process().is_current() {
            return self.shared.engine.stats();
        }
        let stats = self.shared.engine.stats().with_verdicts(self.shared.name.clone(), self.shared.tally.counts());
        match &self.second {
            Some(second) => second.add_to(stats),
            None => stats,
        }
    }

    /// What the guard is made of.
    pub fn info(&self) -> &Info {
        self.second.as_ref().map_or(&self.shared.info, |second| &second.info)
    }

    /// The process that it can be used in.
    pub(crate) fn process(&self) -> Process {
        self.shared.process()
    }
}
