//! Bugs on purpose.

use std::cell::Cell;

thread_local! {
    /// Where this thread is to panic, once.
    pub(crate) static AT: Cell<&'static str> = const { Cell::new("") };
}

pub(super) fn here(place: &str) {
    if AT.get() == place {
        AT.set("");
        panic!("on purpose, at {place}");
    }
}
