//! Many conversations at once: which of them the engine works at, and when.

use std::{collections::VecDeque, sync::Arc};

use super::{
    part::{Judged, Part, merge},
    work::Work,
};
use crate::{
    Error, Result,
    annotation::{AnnotateOptions, Annotation},
    engine::Batch,
    opened::Opened,
    process::Owned,
    text::Message,
};

/// The most conversations that the engine works at for one call, and as many that are rendered meanwhile.
const AT_ONCE: usize = 64;
/// Tokens that an answer takes beside those of its conversation.
const ROOM: usize = 64;
/// Conversations that are done whose prefixes are remembered.
const REMEMBERED: usize = 16;

/// Annotates conversations together. The results are in their order; one that fails leaves the others alone.
pub(crate) fn annotate<'m>(
    shared: &Arc<Owned<Opened>>,
    options: AnnotateOptions,
    conversations: impl IntoIterator<Item = &'m [Message]>,
) -> Vec<Result<Annotation>> {
    let mut crowd = Crowd {
        shared,
        options,
        results: Vec::new(),
        waiting: VecDeque::new(),
        running: Vec::new(),
        done: VecDeque::new(),
    };
    let mut conversations = conversations.into_iter().fuse();
    loop {
        crowd.prepare(&mut conversations);
        if crowd.waiting.is_empty() && crowd.running.is_empty() {
            break;
        }
        crowd.turn();
    }
    crowd.results.into_iter().map(|result| merge(shared, result?.parts)).collect()
}

struct Crowd<'g> {
    shared: &'g Arc<Owned<Opened>>,
    options: AnnotateOptions,
    results: Vec<Result<Known>>,
    /// Parts of conversations that wait, by the conversations' places among the results.
    waiting: VecDeque<(usize, Part)>,
    /// Those that the engine works at.
    running: Vec<Running>,
    /// Some that are done.
    done: VecDeque<Vec<u32>>,
}

/// What is known of a conversation: the annotations of its parts.
#[derive(Default)]
struct Known {
    parts: Vec<(Judged, Annotation)>,
}

struct Running {
    place: usize,
    judged: Judged,
    work: Work,
}

impl Crowd<'_> {
    /// Renders what may soon begin.
    fn prepare<'m>(&mut self, conversations: &mut impl Iterator<Item = &'m [Message]>) {
        while self.waiting.len() < AT_ONCE {
            let Some(messages) = conversations.next() else { return };
            let place = self.results.len();
            let parts = Part::all(self.shared, self.options, messages);
            self.results.push(parts.map(|parts| {
                self.waiting.extend(parts.into_iter().map(|part| (place, part)));
                Known::default()
            }));
        }
    }

    /// Begins what can begin, waits for the first of what runs, and goes on with all that need not wait.
    fn turn(&mut self) {
        let mut batch = Batch::default();
        while let Some(index) = self.startable() {
            let Some((place, part)) = self.waiting.remove(index) else { break };
            match Work::open(self.shared, self.options, &part, None) {
                Ok(work) => {
                    self.running.push(Running { place, judged: part.judged.clone(), work });
                    self.advance(self.running.len() - 1, &mut batch);
                }
                // There is room again when others are done.
                Err(Error::Busy { .. }) if !self.running.is_empty() => {
                    self.waiting.insert(index, (place, part));
                    break;
                }
                Err(error) => self.results[place] = Err(error),
            }
        }
        // What is waited for must have been sent.
        drop(batch);
        let mut batch = Batch::default();
        let first = self.running.iter().position(|running| running.work.is_running()).unwrap_or(0);
        for index in (0..self.running.len()).rev() {
            if index == first || !self.running[index].work.is_waiting() {
                self.advance(index, &mut batch);
            }
        }
    }

    /// Takes a part one step further, and its annotation if it is done.
    fn advance(&mut self, index: usize, batch: &mut Batch) {
        let result = match self.running[index].work.advance(batch) {
            Ok(None) => return,
            Ok(Some(annotation)) => Ok(annotation),
            // It is tried again when others are done.
            Err(Error::Busy { .. }) if self.running.iter().any(|running| running.work.is_running()) => return,
            Err(error) => Err(error),
        };
        let Running { place, judged, .. } = self.running.remove(index);
        match (result, &mut self.results[place]) {
            (Ok(annotation), Ok(known)) => {
                self.done.truncate(REMEMBERED - 1);
                self.done.push_front(annotation.prompt_ids.clone());
                known.parts.push((judged, annotation));
            }
            (Err(error), known) => *known = Err(error),
            // Another part has failed.
            (Ok(_), Err(_)) => {}
        }
    }

    /// Which of the waiting parts can begin, if one can: the cache has room for it, and no other computes its beginning just
    /// now, which it will then find in the cache.
    fn startable(&self) -> Option<usize> {
        if self.running.is_empty() {
            return (!self.waiting.is_empty()).then_some(0);
        }
        // Blocks are not divided: where one is a whole context, each conversation takes one.
        let taken = |ids: &[u32]| (ids.len() + ROOM).next_multiple_of(self.shared.block_tokens);
        let held: usize = self.running.iter().map(|running| taken(running.work.prompt())).sum();
        let fits = |part: &Part| held + taken(part.ids()) <= self.shared.cache_tokens;
        if self.running.len() == AT_ONCE {
            return None;
        }
        self.waiting.iter().position(|(_, part)| fits(part) && !self.is_begun(part.ids()))
    }

    /// Whether the engine computes more of the beginning of a conversation than is in the cache, by its whole blocks.
    fn is_begun(&self, ids: &[u32]) -> bool {
        let blocks = |other: &[u32]| common(other, ids) / self.shared.block_tokens;
        let most = |others: &mut dyn Iterator<Item = &[u32]>| others.map(blocks).max().unwrap_or(0);
        let all = self.running.iter().map(|running| &running.work);
        let (new, old): (Vec<_>, Vec<_>) = all.partition(|work| work.is_new());
        let computing = most(&mut new.iter().map(|work| work.prompt()));
        let computed = old.iter().map(|work| work.prompt()).chain(self.done.iter().map(Vec::as_slice));
        computing > most(&mut { computed })
    }
}

fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}
