//! What can go on in a queue, and who is told of it: those who wait in it, and signals.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How the event loop of a host learns that [`CompletionQueue::poll`](super::CompletionQueue::poll) has something to do. It may have nothing to give all the
/// same: a call may only go on, or somebody else may have taken it.
pub(crate) trait Signal: Send + Sync {
    /// There is something to do, for the first time since `clear`. Called under the queue's lock.
    fn raise(&self) {}

    /// There is nothing to do. Called under the queue's lock.
    fn clear(&self) {}

    /// After `raise`, and not under the lock.
    fn wake(&self) {}
}

/// The timer's thread calls little, but a host's callback runs on it.
pub(super) const TIMER_STACK: usize = 1 << 20;

/// What wakes those who wait.
#[derive(Default)]
pub(super) struct Inbox {
    arrivals: Mutex<Arrivals>,
    arrived: Condvar,
    /// For the timer: there is an earlier deadline, or it is to end.
    timer: Condvar,
}

#[derive(Default)]
struct Arrivals {
    /// Of calls that can go on without waiting.
    tickets: VecDeque<u64>,
    /// Counts calls with a deadline: who waits looks at deadlines again.
    deadlines: u64,
    /// Who else is told. None until a host asks for it; then there is the timer, too.
    signals: Vec<Arc<dyn Signal>>,
    /// Whether they know that there is something to do.
    is_raised: bool,
    /// When the timer tells of a deadline.
    alarm: Option<Instant>,
    /// Whether it did, and nobody has looked since.
    is_due: bool,
    /// Whether the timer is to end.
    ended: bool,
}

impl Arrivals {
    /// Tells that there is something to do. Who is returned has to be woken when the lock is free.
    #[must_use]
    fn raise(&mut self) -> Vec<Arc<dyn Signal>> {
        if self.is_raised || self.signals.is_empty() {
            return Vec::new();
        }
        self.is_raised = true;
        self.signals.iter().for_each(|signal| signal.raise());
        self.signals.clone()
    }

    /// Tells that there is nothing to do, if that is so.
    fn lower(&mut self) {
        if self.is_raised && self.tickets.is_empty() && !self.is_due {
            self.is_raised = false;
            self.signals.iter().for_each(|signal| signal.clear());
        }
    }

    /// Has the timer tell of a deadline. Returns whether that is earlier than what it waits for.
    fn set_alarm(&mut self, deadline: Option<Instant>) -> bool {
        let earlier = deadline.filter(|_| !self.signals.is_empty());
        let earlier = earlier.filter(|deadline| self.alarm.is_none_or(|alarm| *deadline < alarm));
        self.alarm = earlier.or(self.alarm);
        earlier.is_some()
    }
}

pub(super) fn wake(signals: Vec<Arc<dyn Signal>>) {
    signals.iter().for_each(|signal| signal.wake());
}

/// What [`Inbox::take`] found.
pub(super) enum Taken {
    Ticket(u64),
    /// There are other deadlines, or one has passed.
    Again,
    /// The time has passed.
    Nothing,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, ticket: u64) {
        let mut arrivals = self.lock();
        arrivals.tickets.push_back(ticket);
        let woken = arrivals.raise();
        drop(arrivals);
        self.arrived.notify_one();
        wake(woken);
    }

    pub(super) fn put_deadline(&self, deadline: Instant) {
        let mut arrivals = self.lock();
        arrivals.deadlines += 1;
        let earlier = arrivals.set_alarm(Some(deadline));
        drop(arrivals);
        self.arrived.notify_all();
        if earlier {
            self.timer.notify_one();
        }
    }

    /// The timer: tells of deadlines until it is to end.
    pub(super) fn tell_of_deadlines(&self) {
        let mut arrivals = self.lock();
        while !arrivals.ended {
            let now = Instant::now();
            arrivals = match arrivals.alarm {
                Some(alarm) if alarm <= now => {
                    (arrivals.alarm, arrivals.is_due) = (None, true);
                    let woken = arrivals.raise();
                    drop(arrivals);
                    wake(woken);
                    self.lock()
                }
                Some(alarm) => self.timer.wait_timeout(arrivals, alarm - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.timer.wait(arrivals).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Has a signal told from now on. Who is returned has to be woken: it was raised.
    #[must_use]
    pub(super) fn attach(&self, signal: &Arc<dyn Signal>) -> Vec<Arc<dyn Signal>> {
        let mut arrivals = self.lock();
        arrivals.signals.push(signal.clone());
        match arrivals.is_raised {
            true => {
                signal.raise();
                vec![signal.clone()]
            }
            false if arrivals.tickets.is_empty() => Vec::new(),
            false => arrivals.raise(),
        }
    }

    pub(super) fn set_alarm(&self, deadline: Option<Instant>) {
        if self.lock().set_alarm(deadline) {
            self.timer.notify_one();
        }
    }

    /// Wakes signals that are raised.
    pub(super) fn wake_again(&self) {
        let arrivals = self.lock();
        let woken = if arrivals.is_raised { arrivals.signals.clone() } else { Vec::new() };
        drop(arrivals);
        wake(woken);
    }

    /// Before somebody looks at deadlines: how many calls had one.
    pub(super) fn look(&self) -> u64 {
        let mut arrivals = self.lock();
        arrivals.is_due = false;
        arrivals.deadlines
    }

    /// The next ticket; waits for one until the given moment or the next deadline, or until there are other deadlines than those
    /// seen.
    pub(super) fn take(&self, until: Option<Instant>, next: Option<Instant>, deadlines: u64) -> Taken {
        let mut arrivals = self.lock();
        if arrivals.set_alarm(next) {
            self.timer.notify_one();
        }
        let until = [until, next].into_iter().flatten().min();
        loop {
            if let Some(ticket) = arrivals.tickets.pop_front() {
                arrivals.lower();
                return Taken::Ticket(ticket);
            }
            if arrivals.deadlines != deadlines || arrivals.is_due {
                return Taken::Again;
            }
            // Signals have to know before the caller does that there is nothing: it may wait for them.
            arrivals.lower();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            arrivals = match left {
                Some(Duration::ZERO) => return Taken::Nothing,
                Some(left) => self.arrived.wait_timeout(arrivals, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.arrived.wait(arrivals).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends the timer. Calls that come to an end later know the inbox, and have nobody to tell.
    pub(super) fn end(&self) {
        let mut arrivals = self.lock();
        arrivals.ended = true;
        let signals = std::mem::take(&mut arrivals.signals);
        drop(arrivals);
        // Not under the lock: it may close descriptors.
        drop(signals);
        self.timer.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use super::{super::CompletionQueue, *};

    struct Seen {
        raised: AtomicBool,
        woken: Mutex<mpsc::Sender<()>>,
    }

    impl Signal for Seen {
        fn raise(&self) {
            assert!(!self.raised.swap(true, Ordering::SeqCst), "raised twice");
        }

        fn clear(&self) {
            assert!(self.raised.swap(false, Ordering::SeqCst), "cleared twice");
        }

        fn wake(&self) {
            let _ = self.woken.lock().unwrap().send(());
        }
    }

    fn attached(queue: &CompletionQueue) -> (Arc<Seen>, mpsc::Receiver<()>) {
        let (sender, woken) = mpsc::channel();
        let seen = Arc::new(Seen { raised: AtomicBool::new(false), woken: Mutex::new(sender) });
        queue.attach(seen.clone()).unwrap();
        (seen, woken)
    }

    fn is_raised(seen: &Seen) -> bool {
        seen.raised.load(Ordering::SeqCst)
    }

    /// Tickets here are of calls that are not in the queue any more: there is something to do, and nothing comes of it.
    #[test]
    fn signals_are_raised_as_long_as_there_is_something_to_do() {
        let queue = CompletionQueue::new();
        queue.inbox.put(1);
        let (first, woken) = attached(&queue);
        assert!(is_raised(&first) && woken.try_recv().is_ok());
        let (second, woken_too) = attached(&queue);
        assert!(is_raised(&second) && woken_too.try_recv().is_ok());
        queue.inbox.put(2);
        assert!(woken.try_recv().is_err(), "it knows already");
        queue.wake_again();
        assert!(woken.try_recv().is_ok() && woken_too.try_recv().is_ok());
        assert!(queue.poll().is_none());
        assert!(!is_raised(&first) && !is_raised(&second));
        queue.wake_again();
        queue.wait(Duration::from_millis(1));
        assert!(woken.try_recv().is_err() && woken_too.try_recv().is_err());
        queue.inbox.put(3);
        assert!(is_raised(&first) && is_raised(&second) && woken.try_recv().is_ok());
        let inbox = queue.inbox.clone();
        drop(queue);
        inbox.put(4);
        assert!(woken.try_recv().is_err() && Arc::strong_count(&first) == 1);
    }

    #[test]
    fn a_deadline_raises_them() {
        let queue = CompletionQueue::new();
        let (seen, woken) = attached(&queue);
        for milliseconds in [0, 3, 1] {
            queue.inbox.put_deadline(Instant::now() + Duration::from_millis(milliseconds));
            woken.recv().unwrap();
            assert!(is_raised(&seen));
            assert!(queue.poll().is_none());
            assert!(!is_raised(&seen));
        }
    }

    /// Whoever waits for signals alone sees all there is to do, from however many threads it comes.
    #[test]
    fn no_signal_is_lost() {
        let (queue, rounds) = (CompletionQueue::new(), if cfg!(miri) { 20 } else { 2000 });
        let (_seen, woken) = attached(&queue);
        let done = std::sync::atomic::AtomicUsize::new(0);
        let is_empty = || queue.inbox.lock().tickets.is_empty();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (queue, done, is_empty) = (&queue, &done, &is_empty);
                scope.spawn(move || {
                    for round in 0..rounds {
                        match (thread + round) % 3 {
                            0 => queue.inbox.put_deadline(Instant::now()),
                            _ => queue.inbox.put(round),
                        }
                        // It goes on when all is seen, and hangs if that never is.
                        while round % 8 == 0 && !is_empty() {
                            std::thread::yield_now();
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    queue.inbox.put(rounds);
                });
            }
            while done.load(Ordering::SeqCst) < 4 || !is_empty() {
                woken.recv().unwrap();
                while queue.poll().is_some() {}
            }
        });
    }
}
