//! Many conversations at once: which of them the engine works at, and when.

use std::collections::VecDeque;

use super::{
    annotation::{AnnotateOptions, Annotation},
    job::{Job, Rendered},
};
use crate::{
    Error, Result,
    engine::Batch,
    opened::{Gen, Opened},
    text::Message,
};

/// The most conversations that the engine works at for one call, and as many that are rendered meanwhile.
const AT_ONCE: usize = 64;
/// Tokens that an answer takes beside those of its conversation.
const ROOM: usize = 64;
/// Conversations that are done whose prefixes are remembered.
const REMEMBERED: usize = 16;

/// Annotates conversations in any order. The results are in the order of the conversations.
pub(super) fn annotate<'m>(
    shared: &Opened,
    model: &Gen,
    options: AnnotateOptions,
    conversations: impl Iterator<Item = &'m [Message]>,
) -> Vec<Result<Annotation>> {
    let mut crowd = Crowd {
        shared,
        model,
        options,
        results: Vec::new(),
        rendered: VecDeque::new(),
        jobs: Vec::new(),
        done: VecDeque::new(),
    };
    let mut conversations = conversations.fuse();
    loop {
        crowd.render(&mut conversations);
        if crowd.rendered.is_empty() && crowd.jobs.is_empty() {
            break;
        }
        crowd.turn();
    }
    crowd.results.into_iter().map(|result| result.unwrap_or(Err(Error::EngineStopped))).collect()
}

struct Crowd<'g> {
    shared: &'g Opened,
    model: &'g Gen,
    options: AnnotateOptions,
    results: Vec<Option<Result<Annotation>>>,
    /// Conversations that wait, by their places among the results.
    rendered: VecDeque<(usize, Rendered)>,
    /// Those that the engine works at.
    jobs: Vec<(usize, Job<'g>)>,
    /// Some that are done.
    done: VecDeque<Vec<u32>>,
}

impl<'g> Crowd<'g> {
    /// Renders what may soon begin.
    fn render<'m>(&mut self, conversations: &mut impl Iterator<Item = &'m [Message]>) {
        while self.rendered.len() < AT_ONCE {
            let Some(messages) = conversations.next() else { return };
            let place = self.results.len();
            match Rendered::new(self.shared, messages) {
                Ok(rendered) => {
                    self.results.push(None);
                    self.rendered.push_back((place, rendered));
                }
                Err(error) => self.results.push(Some(Err(error))),
            }
        }
    }

    /// Begins what can begin, waits for the first of what runs, and goes on with all that need not wait.
    fn turn(&mut self) {
        let mut batch = Batch::default();
        while let Some(index) = self.startable() {
            let Some((place, rendered)) = self.rendered.remove(index) else { break };
            match Job::open(self.shared, self.model, self.options.decoding, &rendered) {
                Ok(job) => {
                    self.jobs.push((place, job));
                    self.advance(self.jobs.len() - 1, &mut batch);
                }
                // There is room again when others are done.
                Err(Error::Busy { .. }) if !self.jobs.is_empty() => {
                    self.rendered.insert(index, (place, rendered));
                    break;
                }
                Err(error) => self.results[place] = Some(Err(error)),
            }
        }
        // What is waited for must have been sent.
        drop(batch);
        let mut batch = Batch::default();
        let first = self.jobs.iter().position(|(_, job)| job.is_running()).unwrap_or(0);
        for index in (0..self.jobs.len()).rev() {
            if index == first || !self.jobs[index].1.is_waiting() {
                self.advance(index, &mut batch);
            }
        }
    }

    /// Takes a job one step further, and its result if it is done.
    fn advance(&mut self, index: usize, batch: &mut Batch) {
        let result = match self.jobs[index].1.advance(batch) {
            Ok(None) => return,
            Ok(Some(annotation)) => Ok(annotation),
            // It is tried again when others are done.
            Err(Error::Busy { .. }) if self.jobs.iter().any(|(_, job)| job.is_running()) => return,
            Err(error) => Err(error),
        };
        let (place, _) = self.jobs.remove(index);
        if let Ok(annotation) = &result {
            self.done.truncate(REMEMBERED - 1);
            self.done.push_front(annotation.prompt_ids.clone());
        }
        self.results[place] = Some(result);
    }

    /// Which of the rendered conversations can begin, if one can: the cache has room for it, and no other computes its
    /// beginning just now, which it will then find in the cache.
    fn startable(&self) -> Option<usize> {
        if self.jobs.is_empty() {
            return (!self.rendered.is_empty()).then_some(0);
        }
        let held: usize = self.jobs.iter().map(|(_, job)| job.prompt().len() + ROOM).sum();
        let fits = |rendered: &Rendered| held + rendered.ids.len() + ROOM <= self.shared.cache_tokens;
        if self.jobs.len() == AT_ONCE {
            return None;
        }
        self.rendered.iter().position(|(_, rendered)| fits(rendered) && !self.is_begun(&rendered.ids))
    }

    /// Whether a job computes more of the beginning of a conversation than is in the cache, by its whole blocks.
    fn is_begun(&self, ids: &[u32]) -> bool {
        let blocks = |other: &[u32]| common(other, ids) / self.shared.block_tokens;
        let most = |others: &mut dyn Iterator<Item = &[u32]>| others.map(blocks).max().unwrap_or(0);
        let (new, old): (Vec<_>, Vec<_>) = self.jobs.iter().map(|(_, job)| job).partition(|job| job.is_new());
        let computing = most(&mut new.iter().map(|job| job.prompt()));
        let computed = old.iter().map(|job| job.prompt()).chain(self.done.iter().map(Vec::as_slice));
        computing > most(&mut { computed })
    }
}

fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}
