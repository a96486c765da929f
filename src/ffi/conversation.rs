//! What a `qg_stream` stands for: the library's stream, wherever it is, and what its last call answered.

use std::sync::{PoisonError, RwLock, RwLockWriteGuard, TryLockError, Weak};

use super::{
    failure::Failure,
    result::{qg_prompt_check, qg_update},
};
use crate::{Guard, PromptCheck, Result, Stream, Update};

/// Who has streams of conversations, each for a call.
pub(super) trait Borrower: Send + Sync {
    /// Gives up the call of a ticket, and gives its stream.
    fn withdraw(&self, ticket: u64) -> Option<Stream>;
}

/// What a handle stands for. Whoever has borrowed the stream knows it too.
pub(super) struct Conversation {
    pub(super) guard: Guard,
    /// Its readers are the functions of `const qg_stream *`, its writers the others. Nobody waits for it.
    held: RwLock<Held>,
}

struct Held {
    place: Place,
    last: Last,
}

#[expect(clippy::large_enum_variant, reason = "there is one for every stream, and it is mostly here")]
enum Place {
    Here(Stream),
    /// Somebody has it, for the call of this ticket.
    Lent(Weak<dyn Borrower>, u64),
    /// A panic took it, while it was lent.
    Lost,
}

/// What the last call that succeeded answered, for those who ask for details.
#[derive(Clone)]
pub(super) enum Last {
    Nothing,
    Check(PromptCheck),
    Update(Update),
}

impl Conversation {
    pub(super) fn new(guard: Guard, stream: Stream, last: Last) -> Self {
        Conversation { guard, held: RwLock::new(Held { place: Place::Here(stream), last }) }
    }

    pub(super) fn read<T>(&self, body: impl FnOnce(&Stream, &Last) -> Result<T, Failure>) -> Result<T, Failure> {
        match &*self.held.try_read().map_err(locked)? {
            Held { place: Place::Here(stream), last } => body(stream, last),
            Held { place, .. } => Err(place.failure()),
        }
    }

    /// Takes the stream for itself.
    pub(super) fn hold(&self) -> Result<Holding<'_>, Failure> {
        let held = self.held.try_write().map_err(locked)?;
        match &held.place {
            Place::Here(_) => Ok(Holding { guard: &self.guard, held }),
            place => Err(place.failure()),
        }
    }

    /// Waits, which is for moments: for those that look at a stream that is lent.
    fn held_at_last(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the stream away for a call.
    pub(super) fn lend(&self, borrower: Weak<dyn Borrower>, ticket: u64) -> Result<Stream, Failure> {
        let mut holding = self.hold()?;
        match std::mem::replace(&mut holding.held.place, Place::Lent(borrower, ticket)) {
            Place::Here(stream) => Ok(stream),
            place => Err(place.failure()),
        }
    }

    /// After a panic that took the stream: it does not come back.
    pub(super) fn lose(&self) {
        self.held_at_last().place = Place::Lost;
    }

    /// Gives up the call that the stream is lent for, with the stream.
    pub(super) fn withdraw(&self) {
        if let Place::Lent(borrower, ticket) = &self.held_at_last().place
            && let Some(borrower) = borrower.upgrade()
        {
            drop(borrower.withdraw(*ticket));
        }
    }

    /// Takes the stream back that was lent.
    pub(super) fn take_back(&self, stream: Stream) -> Holding<'_> {
        let mut held = self.held_at_last();
        held.place = Place::Here(stream);
        Holding { guard: &self.guard, held }
    }

    /// Makes a call that answers with an update.
    pub(super) fn update(&self, call: impl FnOnce(&mut Stream) -> Result<Update>) -> Result<qg_update, Failure> {
        let mut holding = self.hold()?;
        let update = call(holding.stream())?;
        Ok(holding.updated(update))
    }

    /// Makes a call that answers with a prompt's verdict.
    pub(super) fn check(
        &self,
        call: impl FnOnce(&mut Stream) -> Result<PromptCheck>,
    ) -> Result<qg_prompt_check, Failure> {
        let mut holding = self.hold()?;
        let check = call(holding.stream())?;
        Ok(holding.checked(check))
    }
}

/// A stream that nobody else can use now.
pub(super) struct Holding<'a> {
    guard: &'a Guard,
    held: RwLockWriteGuard<'a, Held>,
}

impl Holding<'_> {
    pub(super) fn stream(&mut self) -> &mut Stream {
        match &mut self.held.place {
            Place::Here(stream) => stream,
            Place::Lent(..) | Place::Lost => unreachable!("a stream that is held is nowhere else"),
        }
    }

    /// Keeps what the last call answered, and gives it as C has it.
    pub(super) fn updated(&mut self, update: Update) -> qg_update {
        let result = qg_update::new(&update, self.guard);
        self.held.last = Last::Update(update);
        result
    }

    /// As `updated`.
    pub(super) fn checked(&mut self, check: PromptCheck) -> qg_prompt_check {
        let result = qg_prompt_check::new(&check, self.guard);
        self.held.last = Last::Check(check);
        result
    }
}

impl Place {
    /// Why a stream that is not here cannot be used.
    fn failure(&self) -> Failure {
        match self {
            Place::Here(_) | Place::Lent(..) => Failure::InUse,
            Place::Lost => unfinished(),
        }
    }
}

impl Last {
    pub(super) fn update(&self) -> Option<&Update> {
        match self {
            Last::Update(update) => Some(update),
            Last::Nothing | Last::Check(_) => None,
        }
    }
}

fn locked<T>(error: TryLockError<T>) -> Failure {
    match error {
        TryLockError::WouldBlock => Failure::InUse,
        TryLockError::Poisoned(_) => unfinished(),
    }
}

fn unfinished() -> Failure {
    Failure::Panic("an earlier call on this stream did not come to its end".into())
}
