//! Who uses a device alone. The sessions of WebGPU share one queue and one pool of buffers in the process, which ONNX
//! Runtime's plugin does not lock: two guards that used them at the same time computed wrong, or crashed. And CUDA
//! refuses orders of other threads while it records a step.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::config::{Provider, RuntimeConfig};

static WEBGPU: Device = Device::new();
static CUDA: Device = Device::new();

struct Device {
    users: Mutex<Users>,
    given_back: Condvar,
}

struct Users {
    alone: bool,
    together: usize,
    /// Those who want to be alone; later ones wait for them, or they never were.
    waiting: usize,
}

impl Device {
    const fn new() -> Self {
        let users = Users { alone: false, together: 0, waiting: 0 };
        Device { users: Mutex::new(users), given_back: Condvar::new() }
    }

    fn take(&'static self, alone: bool) -> Turn {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.waiting += usize::from(alone);
        let busy = |users: &mut Users| users.alone || if alone { users.together > 0 } else { users.waiting > 0 };
        let mut users = self.given_back.wait_while(users, busy).unwrap_or_else(PoisonError::into_inner);
        users.waiting -= usize::from(alone);
        users.together += usize::from(!alone);
        users.alone = alone;
        Turn { device: self, alone }
    }
}

/// Held by who uses such a device. Whoever makes a session as well takes this first.
pub(crate) struct Turn {
    device: &'static Device,
    alone: bool,
}

impl Turn {
    /// Waits for the provider's device, if somebody may use that alone.
    pub(crate) fn of(config: &RuntimeConfig) -> Option<Turn> {
        match config.provider {
            Provider::WebGpu => Some(WEBGPU.take(true)),
            Provider::Cuda => Some(CUDA.take(config.records_steps())),
            _ => None,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut users = self.device.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.alone = false;
        users.together -= usize::from(!self.alone);
        drop(users);
        self.device.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn config(provider: Provider, graphs: bool) -> RuntimeConfig {
        let mut config = RuntimeConfig { provider, ..RuntimeConfig::default() };
        config.cuda.graphs = graphs;
        config
    }

    #[test]
    fn who_wants_to_be_alone_is() {
        for (alone, other) in [
            (config(Provider::WebGpu, false), config(Provider::WebGpu, false)),
            (config(Provider::Cuda, true), config(Provider::Cuda, false)),
        ] {
            let inside = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for config in [&alone, &other, &other, &alone] {
                    let (inside, is_alone) = (&inside, std::ptr::eq(config, &alone));
                    scope.spawn(move || {
                        for _ in 0..200 {
                            let turn = Turn::of(config);
                            let before = inside.fetch_add(1, Ordering::SeqCst);
                            assert!(!is_alone || before == 0, "{before}");
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(turn);
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn others_do_not_wait() {
        let together = config(Provider::Cuda, false);
        let _both = [Turn::of(&together), Turn::of(&together)];
        assert!(Turn::of(&config(Provider::Cpu, true)).is_none());
    }
}
