//! What of a conversation is judged at once: all of it, or the part of its last message that fits the model's context.

use std::ops::Range;

use crate::{
    Error, Result,
    annotation::{AnnotateOptions, Annotation, AnnotationMode, TextOverflow, with_last},
    generative::Rendered,
    opened::{Gen, Heads, Opened},
    policy::{Decision, Policy},
    stats::VerdictChannel,
    tally::Made,
    text::{Message, encode, size},
    verdict::Risk,
};

/// A conversation, its last message whole or in part.
pub(super) struct Part {
    pub(super) mode: AnnotationMode,
    pub(super) text: Text,
    pub(super) judged: Judged,
}

/// Which bytes of the last message's content a part has.
#[derive(Clone)]
pub(super) struct Judged {
    bytes: Range<usize>,
    /// Whether they are not all.
    is_cut: bool,
}

/// As the model of its bundle takes it.
#[derive(Clone)]
pub(super) enum Text {
    Rendered(Rendered),
    Messages(Vec<Message>),
}

impl Part {
    /// The parts of a conversation, in their order: one, or with windows several.
    pub(super) fn all(shared: &Opened, options: AnnotateOptions, messages: &[Message]) -> Result<Vec<Part>> {
        let splitting = Splitting { shared, messages, mode: AnnotationMode::of(messages) };
        match &shared.heads {
            Heads::Gen(model) => splitting.of_gen(model, options),
            Heads::Stream { .. } => splitting.of_stream(options.overflow),
        }
    }

    /// The rendered conversation. Empty where it is not rendered yet.
    pub(super) fn ids(&self) -> &[u32] {
        match &self.text {
            Text::Rendered(rendered) => &rendered.ids,
            Text::Messages(_) => &[],
        }
    }
}

/// A conversation that may have to be cut.
struct Splitting<'m> {
    shared: &'m Opened,
    messages: &'m [Message],
    mode: AnnotationMode,
}

impl Splitting<'_> {
    fn of_gen(&self, model: &Gen, options: AnnotateOptions) -> Result<Vec<Part>> {
        let parts = Rendered::parts(self.shared, model, self.messages, options)?;
        Ok(parts.into_iter().map(|(rendered, judged)| self.part(Text::Rendered(rendered), judged)).collect())
    }

    fn of_stream(&self, overflow: TextOverflow) -> Result<Vec<Part>> {
        let whole = 0..self.content().len();
        let fits = match overflow {
            TextOverflow::Refuse => true,
            _ => match self.stream_tokens(self.messages) {
                Ok(count) => count <= self.shared.info.context,
                Err(Error::ContextFull { .. }) => false,
                // What is wrong is said when it is judged.
                Err(_) => true,
            },
        };
        if fits {
            return Ok(vec![self.part(Text::Messages(size::copy(self.messages)?), whole)]);
        }
        let Opened { tokenizer, info, .. } = self.shared;
        let measure = |messages: &[Message]| self.stream_tokens(messages);
        let judged = overflow.cut(tokenizer, self.messages, info.context, &measure)?;
        let part = |judged: Range<usize>| {
            self.part(Text::Messages(with_last(self.messages, &self.content()[judged.clone()])), judged)
        };
        Ok(judged.into_iter().map(part).collect())
    }

    /// Tokens of a stream with a conversation.
    fn stream_tokens(&self, messages: &[Message]) -> Result<usize> {
        let Opened { renderer, tokenizer, info, .. } = self.shared;
        let roles = Policy::default().prompt.roles;
        let (Some((last, before)), AnnotationMode::Response) = (messages.split_last(), self.mode) else {
            size::check_messages(tokenizer, info.context, messages)?;
            return Ok(renderer.render(tokenizer, messages, &roles)?.prompt.len());
        };
        let conversation = renderer.render(tokenizer, before, &roles)?;
        let frame = conversation.frame.longest_lead() + conversation.frame.end.len();
        Ok(conversation.prompt.len() + frame + encode(tokenizer, &last.content)?.len())
    }

    fn content(&self) -> &str {
        self.messages.last().map_or("", |last| &last.content)
    }

    fn part(&self, text: Text, bytes: Range<usize>) -> Part {
        let is_cut = bytes != (0..self.content().len());
        Part { mode: self.mode, text, judged: Judged { bytes, is_cut } }
    }
}

/// The annotation of a conversation from those of its parts, with the guard's policy over it: the gravest one, of equally
/// grave ones the first, but whether the answer refuses is said by the first part.
pub(super) fn merge(shared: &Opened, mut parts: Vec<(Judged, Annotation)>) -> Result<Annotation> {
    parts.sort_by_key(|(judged, _)| judged.bytes.start);
    let windows = parts.len();
    let first = parts.first().map(|(_, annotation)| (annotation.refusal, annotation.refusal_probability));
    let grave = |annotation: &Annotation| (annotation.risk, 1.0 - annotation.probability(Risk::Safe));
    let worst = parts.into_iter().reduce(|best, next| if grave(&next.1) > grave(&best.1) { next } else { best });
    let Some(((judged, mut annotation), (refusal, probability))) = worst.zip(first) else {
        return Err(Error::EngineStopped);
    };
    (annotation.refusal, annotation.refusal_probability) = (refusal, probability);
    (annotation.judged, annotation.is_cut, annotation.windows) = (judged.bytes, judged.is_cut, windows);
    (annotation.decision, annotation.finding) = annotation.judge(&shared.policy);
    count(shared, &annotation);
    Ok(annotation)
}

/// Counts an annotation for the guard's statistics.
fn count(shared: &Opened, annotation: &Annotation) {
    let channel = match annotation.mode {
        AnnotationMode::Prompt => VerdictChannel::AnnotatedPrompt,
        AnnotationMode::Response => VerdictChannel::AnnotatedResponse,
    };
    shared.tally.annotation(channel, annotation.risk, annotation.categories.first().map(String::as_str));
    if let Some(finding) = &annotation.finding {
        let made = if annotation.decision == Decision::Stop { Made::Stop } else { Made::Flag };
        shared.tally.found(channel, finding.risk, finding.category.as_deref(), made);
    }
}
