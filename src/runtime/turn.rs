//! A device that takes one caller at a time: the sessions of WebGPU share one queue and one pool of buffers in the process, which
//! ONNX Runtime's plugin does not lock. Two guards that used them at the same time computed wrong, or crashed.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::config::Provider;

static TAKEN: Mutex<bool> = Mutex::new(false);
static GIVEN_BACK: Condvar = Condvar::new();

/// Held by who uses such a device. Whoever makes a session as well takes this first.
pub(crate) struct Turn(());

impl Turn {
    /// Waits for the provider's device, if that takes one caller at a time.
    pub(crate) fn of(provider: Provider) -> Option<Turn> {
        if provider != Provider::WebGpu {
            return None;
        }
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = GIVEN_BACK.wait_while(taken, |taken| *taken).unwrap_or_else(PoisonError::into_inner);
        *taken = true;
        Some(Turn(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        GIVEN_BACK.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_where_the_device_wants_that() {
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let turn = Turn::of(Provider::WebGpu);
                        most.fetch_max(1 + inside.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        let both = [Turn::of(Provider::Cuda), Turn::of(Provider::Cuda)];
        assert!(both.iter().all(Option::is_none));
    }
}
