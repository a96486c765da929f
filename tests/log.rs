//! A program in Rust that has a subscriber of `tracing` and uses the C interface, too: the messages are the subscriber's.

use std::{
    ffi::{c_char, c_void},
    sync::Mutex,
};

use qwenguard::{Config, Guard};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

type Callback = unsafe extern "C" fn(*mut c_void, u32, *const c_char, *const c_char);

unsafe extern "C" {
    fn qg_log_set(callback: Option<Callback>, context: *mut c_void, level: u32, error: *mut *mut c_void) -> i32;
    fn qg_log_open(level: u32, log: *mut *mut c_void, error: *mut *mut c_void) -> i32;
}

const QG_ERROR_WRONG_STATE: i32 = 10;

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Own;

impl Subscriber for Own {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("qwenguard")
    }

    fn event(&self, event: &Event<'_>) {
        struct Message;
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    SEEN.lock().unwrap().push(format!("{value:?}"));
                }
            }
        }
        event.record(&mut Message);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

unsafe extern "C" fn never(_: *mut c_void, _: u32, _: *const c_char, _: *const c_char) {
    std::process::abort();
}

#[test]
fn the_subscriber_of_the_program_stays() {
    tracing::subscriber::set_global_default(Own).unwrap();
    let (mut log, none, no_error) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the functions as qwenguard.h declares them, where a status is a number. None wants an error.
    unsafe {
        assert_eq!(qg_log_set(Some(never), none, 5, no_error), QG_ERROR_WRONG_STATE);
        assert_eq!(qg_log_open(5, &mut log, no_error), QG_ERROR_WRONG_STATE);
        assert!(log.is_null());
        // There is nothing to take away.
        assert_eq!(qg_log_set(None, none, 0, no_error), 0);
    }
    let mut config = Config::default();
    (config.runtime.threads, config.cache.mib) = (1, 64);
    drop(Guard::nano(&config).unwrap());
    let seen = SEEN.lock().unwrap();
    assert!(seen.iter().any(|message| message.contains("kernels on the CPU")), "{seen:?}");
}
