//! Annotations by a model that judges token by token.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Error, Result,
    annotation::{Annotation, AnnotationMode},
    engine::{Batch, Notify},
    opened::Opened,
    policy::Policy,
    process::Owned,
    stream::{BegunCall, Call, Reply, Stream, Update},
    text::{MAX_PUSH, Message},
    verdict::{Risk, Verdict},
};

/// A conversation on its way: its prompt, then its answer in pieces, then the answer's end.
pub(super) struct Judging {
    mode: AnnotationMode,
    stream: Stream,
    /// Of an answer those before it.
    messages: Vec<Message>,
    answer: String,
    next: Next,
    running: Option<BegunCall>,
    notify: Option<Notify>,
    verdicts: BTreeMap<usize, Verdict>,
}

/// The call that is next, or is running.
#[derive(Clone, Copy)]
enum Next {
    Prompt,
    /// The answer's text from so many bytes on.
    Answer(usize),
    Finish,
    Nothing,
}

impl Judging {
    /// Opens a stream. Nothing is judged yet.
    pub(super) fn open(
        shared: &Arc<Owned<Opened>>,
        mode: AnnotationMode,
        mut messages: Vec<Message>,
        notify: Option<Notify>,
    ) -> Result<Self> {
        let mut answer = String::new();
        if mode == AnnotationMode::Response
            && let Some(last) = messages.pop()
        {
            check_answer(&messages, &last)?;
            answer = last.content;
        }
        // Its rules decide nothing here but which message is judged.
        let stream = Stream::new(shared.clone(), Policy::default())?;
        let verdicts = BTreeMap::new();
        Ok(Judging { mode, stream, messages, answer, next: Next::Prompt, running: None, notify, verdicts })
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.is_ready())
    }

    /// As [`Work::advance`](super::work::Work::advance).
    pub(super) fn advance(&mut self, batch: &mut Batch) -> Result<Option<Annotation>> {
        if let Some(mut running) = self.running.take() {
            if !self.stream.advance(&mut running, batch)? {
                self.running = Some(running);
                return Ok(None);
            }
            let reply = self.stream.complete(running)?;
            self.take(reply);
            self.next = self.following();
        }
        let call = match self.next {
            Next::Prompt => Call::Prompt(&self.messages),
            Next::Answer(from) => Call::Text(&self.answer.as_bytes()[from..self.piece_end(from)]),
            Next::Finish => Call::Finish,
            Next::Nothing => return self.annotation().map(Some),
        };
        self.running = Some(self.stream.begin(call, self.notify.clone(), batch)?);
        Ok(None)
    }

    /// The call after this one.
    fn following(&self) -> Next {
        let text = |from: usize| if from < self.answer.len() { Next::Answer(from) } else { Next::Finish };
        match self.next {
            Next::Prompt if self.mode == AnnotationMode::Prompt => Next::Nothing,
            Next::Prompt => text(0),
            Next::Answer(from) => text(self.piece_end(from)),
            Next::Finish | Next::Nothing => Next::Nothing,
        }
    }

    fn piece_end(&self, from: usize) -> usize {
        self.answer.len().min(from + MAX_PUSH)
    }

    fn take(&mut self, reply: Reply) {
        match reply {
            Reply::Prompt(check) if self.mode == AnnotationMode::Prompt => {
                self.verdicts.insert(0, check.verdict);
            }
            Reply::Prompt(_) | Reply::Annotation(_) => {}
            Reply::Update(Update { void_from, tokens, .. }) => {
                self.verdicts.retain(|index, _| *index < void_from);
                self.verdicts.extend(tokens.into_iter().map(|token| (token.index, token.verdict)));
            }
        }
    }

    fn annotation(&mut self) -> Result<Annotation> {
        let verdicts: Vec<Verdict> = std::mem::take(&mut self.verdicts).into_values().collect();
        let verdict = worst(&verdicts).ok_or_else(|| {
            let index = self.messages.len();
            Error::conversation(format!("message {index} (counted from 0): there is nothing in the answer to judge"))
        })?;
        let mut annotation = Annotation::new(self.mode, verdict.risk());
        annotation.risk_probabilities = verdict.risk_probabilities().collect();
        if let Some(category) = verdict.category() {
            annotation.categories.push(category.to_owned());
            let named = verdict.category_probabilities().map(|(name, p)| (Some(name.to_owned()), p));
            annotation.category_probabilities = Some(named.collect());
        }
        Ok(annotation)
    }
}

/// An answer stands alone after what it answers: else a part would not be judged.
fn check_answer(before: &[Message], last: &Message) -> Result<()> {
    let refused = |index: usize, role: &str, what: &str| {
        Err(Error::conversation(format!("message {index} (counted from 0) of role {role:?}: {what}")))
    };
    let index = before.len();
    if last.role != "assistant" {
        return refused(
            index,
            &last.role,
            "a guard of the variant stream judges what the user or the assistant says last",
        );
    }
    match before.last() {
        Some(message) if message.role == "assistant" => {
            refused(index - 1, &message.role, "an answer that another one follows would not be judged")
        }
        _ => Ok(()),
    }
}

/// The worst that two tokens in a row agree on, as a single one may be noise: of each two the milder, of these the gravest.
/// Of a single token its own.
fn worst(verdicts: &[Verdict]) -> Option<&Verdict> {
    let grave = |verdict: &Verdict| (verdict.risk(), 1.0 - verdict.probability(Risk::Safe));
    let milder = |pair: &'_ [Verdict]| usize::from(grave(&pair[1]) < grave(&pair[0]));
    let pairs = verdicts.windows(2).map(|pair| &pair[milder(pair)]);
    let worst = pairs.reduce(|worst, next| if grave(next) > grave(worst) { next } else { worst });
    worst.or(verdicts.first())
}
