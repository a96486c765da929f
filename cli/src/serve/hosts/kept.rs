//! Conversations that are kept between the calls of a gateway. They only spare work: what was lost is judged anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Mutex as Waiting;

/// Conversations by the names that a gateway gives them.
pub(crate) struct Kept<T> {
    entries: Mutex<Entries<T>>,
    /// The most of them.
    most: usize,
    /// How long one is kept that nobody asks for.
    idle: Duration,
}

struct Entries<T> {
    by_name: HashMap<String, Entry<T>>,
    /// How often somebody has asked.
    asked: u64,
}

struct Entry<T> {
    conversation: Arc<Waiting<T>>,
    /// When it was asked for, by the count and by the clock.
    turn: u64,
    used: Instant,
}

impl<T: Default> Kept<T> {
    pub(crate) fn new(most: usize, idle: Duration) -> Self {
        Kept { entries: Mutex::new(Entries { by_name: HashMap::new(), asked: 0 }), most, idle }
    }

    /// The conversation of this name, a new one if there is none. Where there are too many the one goes that was not asked for
    /// the longest.
    pub(crate) fn get(&self, name: &str) -> Arc<Waiting<T>> {
        let mut entries = self.entries();
        entries.asked += 1;
        let (turn, used) = (entries.asked, Instant::now());
        if let Some(entry) = entries.by_name.get_mut(name) {
            (entry.turn, entry.used) = (turn, used);
            return entry.conversation.clone();
        }
        if entries.by_name.len() >= self.most {
            entries.drop_oldest();
        }
        let conversation: Arc<Waiting<T>> = Arc::default();
        entries.by_name.insert(name.to_owned(), Entry { conversation: conversation.clone(), turn, used });
        conversation
    }

    /// Lets the conversation go that was not asked for the longest. Tells whether there was one.
    pub(crate) fn drop_oldest(&self) -> bool {
        self.entries().drop_oldest()
    }

    /// Lets go of those that nobody has asked for.
    pub(crate) fn drop_idle(&self) {
        let idle = self.idle;
        self.entries().by_name.retain(|_, entry| entry.used.elapsed() < idle);
    }

    fn entries(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Entries<T> {
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.by_name.iter().min_by_key(|(_, entry)| entry.turn).map(|(name, _)| name.clone());
        oldest.is_some_and(|name| self.by_name.remove(&name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(most: usize, idle: Duration) -> Kept<u32> {
        Kept::new(most, idle)
    }

    async fn count(kept: &Kept<u32>, name: &str) -> u32 {
        let conversation = kept.get(name);
        let mut count = conversation.lock().await;
        *count += 1;
        *count
    }

    #[tokio::test]
    async fn a_conversation_goes_on_until_there_are_too_many() {
        let kept = kept(2, Duration::MAX);
        assert_eq!((count(&kept, "a").await, count(&kept, "a").await, count(&kept, "b").await), (1, 2, 1));
        // The one that was not asked for the longest goes.
        assert_eq!((count(&kept, "a").await, count(&kept, "c").await), (3, 1));
        assert_eq!((count(&kept, "a").await, count(&kept, "b").await), (4, 1));
        assert!(kept.drop_oldest() && kept.drop_oldest() && !kept.drop_oldest());
        assert_eq!(count(&kept, "a").await, 1);
    }

    #[tokio::test]
    async fn one_that_is_in_use_is_not_lost_to_who_uses_it() {
        let kept = kept(1, Duration::MAX);
        let held = kept.get("a");
        assert_eq!(count(&kept, "b").await, 1);
        *held.lock().await += 1;
        assert_eq!(count(&kept, "a").await, 1);
    }

    #[tokio::test]
    async fn idle_ones_go() {
        let forever = kept(9, Duration::MAX);
        count(&forever, "a").await;
        forever.drop_idle();
        assert_eq!(count(&forever, "a").await, 2);
        let at_once = kept(9, Duration::ZERO);
        count(&at_once, "a").await;
        at_once.drop_idle();
        assert_eq!(count(&at_once, "a").await, 1);
    }
}
