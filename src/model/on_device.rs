//! A model on a device: one that may be lost, and may take one caller at a time.

use super::{Layout, Model, RaggedBatch, StepLogits};
use crate::{
    Error, Result,
    config::RuntimeConfig,
    runtime::{PluginUser, Runtime, Turn},
};

pub(super) struct OnDevice {
    model: Box<dyn Model>,
    runtime: Runtime,
    config: RuntimeConfig,
    /// Why nothing can be computed any more, once the device was lost.
    lost: Option<String>,
    // These two are let go of after the model.
    _user: Option<PluginUser>,
    turn: Option<Turn>,
}

impl OnDevice {
    pub(super) fn new(model: Box<dyn Model>, runtime: &Runtime, config: &RuntimeConfig) -> Self {
        let user = runtime.plugin_user(config.provider);
        OnDevice { model, runtime: runtime.clone(), config: config.clone(), lost: None, _user: user, turn: None }
    }

    fn check_there(&self) -> Result<()> {
        match &self.lost {
            None => Ok(()),
            Some(reason) => {
                Err(Error::Provider { provider: self.config.provider.name().to_owned(), reason: reason.clone() })
            }
        }
    }

    /// What is wrong after a step has failed: of the step, or of the device.
    fn after(&mut self, error: Error) -> Error {
        let answers = self.runtime.answers(&self.config);
        self.runtime.failed_on_device(self.config.provider, answers.is_err());
        if let Err(lost) = answers {
            let reason = format!(
                "the device does not answer after a step that failed ({error}): it is lost, drop this guard and open another"
            );
            tracing::error!(reason, %lost, "lost the device");
            self.lost = Some(reason);
        }
        self.check_there().err().unwrap_or(error)
    }
}

impl Drop for OnDevice {
    fn drop(&mut self) {
        self.turn = Turn::of(&self.config);
    }
}

impl Model for OnDevice {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn layout(&self) -> Layout {
        self.model.layout()
    }

    fn context(&self) -> usize {
        self.model.context()
    }

    fn heads(&self) -> usize {
        self.model.heads()
    }

    fn with_f32_cache(&mut self, blocks: usize, run: &mut dyn FnMut(&mut dyn Model) -> Result<()>) -> Result<()> {
        let _turn = Turn::of(&self.config);
        let result = self.model.with_f32_cache(blocks, run);
        // Before anybody asked it anything: whether the device is lost shows when it is asked again.
        result.inspect_err(|_| self.runtime.failed_on_device(self.config.provider, false))
    }

    fn run(&mut self, batch: &RaggedBatch) -> Result<StepLogits> {
        self.check_there()?;
        let _turn = Turn::of(&self.config);
        let result = self.model.run(batch);
        result.map_err(|error| self.after(error))
    }
}
