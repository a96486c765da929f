//! Annotations by a model that judges token by token.

use std::{collections::BTreeMap, sync::Arc};

use super::annotation::{Annotation, AnnotationMode};
use crate::{
    Error, Result,
    opened::Opened,
    policy::Policy,
    process::Owned,
    stream::{Call, Reply, Stream, Update},
    text::{MAX_PUSH, Message},
    verdict::{Risk, Verdict},
};

/// The most conversations at once.
const AT_ONCE: usize = 64;

/// Annotates conversations. The results are in their order.
pub(super) fn annotate<'m>(
    shared: &Arc<Owned<Opened>>,
    conversations: impl Iterator<Item = &'m [Message]>,
) -> Vec<Result<Annotation>> {
    let mut results = Vec::new();
    let mut conversations = conversations.fuse().peekable();
    while conversations.peek().is_some() {
        let mut some = Vec::new();
        while let Some(messages) = conversations.next_if(|_| some.len() < AT_ONCE) {
            let judging = Judging::open(shared, messages);
            // Those that are open give room when they are done.
            if let (Err(Error::Busy { .. }), false) = (&judging, some.iter().all(Result::is_err)) {
                results.extend(judge(std::mem::take(&mut some)));
                some.push(Judging::open(shared, messages));
            } else {
                some.push(judging);
            }
        }
        results.extend(judge(some));
    }
    results
}

/// A conversation on its way.
struct Judging<'m> {
    mode: AnnotationMode,
    stream: Stream,
    messages: &'m [Message],
    /// What of the answer was not pushed.
    rest: &'m [u8],
    verdicts: BTreeMap<usize, Verdict>,
    failed: Option<Error>,
}

impl<'m> Judging<'m> {
    fn open(shared: &Arc<Owned<Opened>>, messages: &'m [Message]) -> Result<Self> {
        let mode = AnnotationMode::of(messages);
        let (messages, rest) = match messages.split_last() {
            Some((last, before)) if mode == AnnotationMode::Response => {
                check_answer(before, last)?;
                (before, last.content.as_bytes())
            }
            _ => (messages, &[][..]),
        };
        // Its rules decide nothing here but which message is judged.
        let stream = Stream::new(shared.clone(), Policy::default())?;
        Ok(Judging { mode, stream, messages, rest, verdicts: BTreeMap::new(), failed: None })
    }

    /// The next piece of the answer.
    fn piece(&mut self) -> Option<&'m [u8]> {
        let (piece, rest) = self.rest.split_at(self.rest.len().min(MAX_PUSH));
        self.rest = rest;
        (!piece.is_empty() && self.failed.is_none()).then_some(piece)
    }

    fn take(&mut self, reply: Result<Reply>) {
        match reply {
            Ok(Reply::Prompt(check)) if self.mode == AnnotationMode::Prompt => {
                self.verdicts.insert(0, check.verdict);
            }
            Ok(Reply::Prompt(_)) => {}
            Ok(Reply::Update(Update { void_from, tokens, .. })) => {
                self.verdicts.retain(|index, _| *index < void_from);
                self.verdicts.extend(tokens.into_iter().map(|token| (token.index, token.verdict)));
            }
            Err(error) => self.failed = Some(error),
        }
    }

    fn annotation(self) -> Result<Annotation> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let verdicts: Vec<Verdict> = self.verdicts.into_values().collect();
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

/// Judges conversations together.
fn judge(mut all: Vec<Result<Judging>>) -> Vec<Result<Annotation>> {
    let prompts = all.iter_mut().flatten().map(|judging| (judging.messages, judging));
    call(prompts.map(|(messages, judging)| (judging, Call::Prompt(messages))).collect());
    loop {
        let pieces = all.iter_mut().flatten().filter_map(|judging| Some((judging.piece()?, judging)));
        let calls: Vec<_> = pieces.map(|(piece, judging)| (judging, Call::Text(piece))).collect();
        if calls.is_empty() {
            break;
        }
        call(calls);
    }
    let answers = all.iter_mut().flatten().filter(|judging| judging.mode == AnnotationMode::Response);
    call(answers.filter(|judging| judging.failed.is_none()).map(|judging| (judging, Call::Finish)).collect());
    all.into_iter().map(|judging| judging?.annotation()).collect()
}

/// Makes a call of each and takes the replies. What the engine has no room for at once is called again after the others.
fn call(mut calls: Vec<(&mut Judging, Call)>) {
    while !calls.is_empty() {
        let count = calls.len();
        let replies = Stream::call_all(calls.iter_mut().map(|(judging, call)| (&mut judging.stream, *call)));
        let busy = replies.iter().filter(|reply| matches!(reply, Err(Error::Busy { .. }))).count();
        let mut again = Vec::with_capacity(busy);
        for ((judging, call), reply) in calls.into_iter().zip(replies) {
            match reply {
                Err(Error::Busy { .. }) if busy < count => again.push((judging, call)),
                reply => judging.take(reply),
            }
        }
        calls = again;
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
