//! One conversation on its way past a model that writes its verdict.

use std::{sync::Arc, time::Instant};

use super::{
    constrained::{Needed, Rows, decide},
    free,
    rendered::Rendered,
};
use crate::{
    Error, Result,
    annotation::{Annotation, Decoding, MOST_FREE_TOKENS},
    engine::{Batch, Notify, Pending, Read, Sequence},
    opened::{Gen, Opened},
    process::Owned,
};

/// A conversation that the engine works at. Dropping it cancels what is computed.
pub(crate) struct Job {
    shared: Arc<Owned<Opened>>,
    model: Arc<Gen>,
    decoding: Decoding,
    prompt: Rendered,
    sequence: Sequence,
    /// The tokens of the sequence.
    held: Vec<u32>,
    answer: Answer,
    running: Option<Running>,
    /// Called whenever going on does not wait any more.
    notify: Option<Notify>,
}

/// What is known of the answer.
enum Answer {
    Decided(Rows),
    Free(Vec<u32>),
}

/// Tokens that the engine computes.
struct Running {
    pending: Pending,
    tokens: Vec<u32>,
    /// The first of them whose logits are read.
    from: usize,
}

impl Job {
    /// Opens a sequence. Nothing is fed yet: [`Job::advance`] begins.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many sequences are open as the configuration allows.
    pub(crate) fn open(
        shared: Arc<Owned<Opened>>,
        model: Arc<Gen>,
        decoding: Decoding,
        prompt: Rendered,
        notify: Option<Notify>,
    ) -> Result<Self> {
        let answer = match decoding {
            Decoding::Free => Answer::Free(Vec::new()),
            _ => Answer::Decided(Rows::new(model.tokens.clone())),
        };
        let sequence = shared.engine.sequence()?;
        Ok(Job { shared, model, decoding, prompt, sequence, held: Vec::new(), answer, running: None, notify })
    }

    /// The rendered conversation.
    pub(crate) fn prompt(&self) -> &[u32] {
        &self.prompt.ids
    }

    /// Whether no token of it is known to be computed.
    pub(crate) fn is_new(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether the engine has something to do for it.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it is, and going on would wait.
    pub(crate) fn is_waiting(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.pending.is_ready())
    }

    /// Waits until going on does not wait, but not beyond a moment. Returns whether it is so.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        self.running.as_ref().is_none_or(|running| running.pending.wait_until(deadline))
    }

    /// Takes what was computed, waiting for it, and begins what is to be computed next: then there is no annotation yet. After
    /// [`Error::Busy`] nothing is running, and it can be tried again.
    pub(crate) fn advance(&mut self, batch: &mut Batch) -> Result<Option<Annotation>> {
        if let Some(running) = self.running.take() {
            self.collect(running)?;
        }
        let Needed { ids, draft } = match self.next() {
            Ok(mut annotation) => {
                annotation.prompt_ids = std::mem::take(&mut self.prompt.ids);
                return Ok(Some(annotation));
            }
            Err(needed) => needed,
        };
        self.feed(&ids, draft, batch)?;
        Ok(None)
    }

    /// The annotation, or the tokens of the answer whose last one's logits it takes.
    fn next(&self) -> Result<Annotation, Needed> {
        let (answer, mode) = (&self.model.answer, self.prompt.mode);
        match &self.answer {
            Answer::Decided(rows) => decide(answer, mode, self.decoding, rows),
            Answer::Free(ids) => match ids.split_last() {
                Some((last, before)) if answer.end_tokens.contains(last) => {
                    Ok(free::read(answer, mode, &self.shared.tokenizer, before))
                }
                _ if ids.len() == MOST_FREE_TOKENS => Ok(free::read(answer, mode, &self.shared.tokenizer, ids)),
                _ => Err(Needed { ids: ids.clone(), draft: Vec::new() }),
            },
        }
    }

    /// Begins to compute what the sequence lacks of an answer so far, and a draft of what may follow.
    fn feed(&mut self, answer: &[u32], draft: Vec<u32>, batch: &mut Batch) -> Result<()> {
        let wanted = || self.prompt.ids.iter().chain(answer);
        let count = self.prompt.ids.len() + answer.len();
        let common = self.held.iter().zip(wanted()).take_while(|(held, wanted)| held == wanted).count();
        // The logits of the last token are needed.
        let keep = common.min(count - 1);
        let mut tokens: Vec<u32> = wanted().skip(keep).copied().collect();
        let from = tokens.len() - 1;
        if count + draft.len() <= self.shared.info.context {
            tokens.extend(draft);
        }
        self.sequence.check_room(keep, tokens.len())?;
        self.sequence.truncate(keep, batch)?;
        self.held.truncate(keep);
        let head = match self.answer {
            Answer::Decided(_) => self.model.candidates,
            Answer::Free(_) => self.model.next_token,
        };
        let read = Read { heads: [head].into_iter().collect(), from };
        let pending = self.sequence.begin_append(tokens.clone(), read, self.notify.clone(), batch)?;
        self.running = Some(Running { pending, tokens, from });
        Ok(())
    }

    /// Takes logits that were computed.
    fn collect(&mut self, running: Running) -> Result<()> {
        let Running { pending, tokens, from } = running;
        let logits = self.sequence.complete(pending)?;
        let first = self.held.len() + from + 1 - self.prompt.ids.len();
        self.held.extend(tokens);
        let answer = &self.held[self.prompt.ids.len()..];
        match &mut self.answer {
            Answer::Decided(rows) => {
                for (index, row) in logits.head(self.model.candidates).outer_iter().enumerate() {
                    rows.insert(&answer[..first + index], row.to_vec());
                }
            }
            Answer::Free(ids) => {
                let logits = logits.head(self.model.next_token);
                let last = logits.outer_iter().next_back();
                let last = last.ok_or_else(|| Error::inference("the model gave no logits"))?;
                ids.push(free::likeliest(last.iter().copied()));
            }
        }
        Ok(())
    }
}
