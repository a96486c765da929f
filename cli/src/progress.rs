//! How far a long run is: a line on a terminal, where the output goes elsewhere.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line on standard error that says how many conversations are done, and of a file how much of it and for how long still.
pub(crate) struct Progress {
    bar: ProgressBar,
    done: usize,
}

impl Progress {
    /// Of a run that reads a file. Nothing is written unless standard error is a terminal and standard output is none:
    /// there the lines themselves say it.
    pub(crate) fn of_file(path: &Path) -> Self {
        let hidden = io::stdout().is_terminal();
        let size = std::fs::metadata(path).ok().filter(|data| data.is_file()).map(|data| data.len());
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(size, target).with_message("0");
        let template = match size {
            Some(_) => "{percent:>3} % [{bar:30}] {msg} conversations, {elapsed} gone, {eta} left",
            None => "{spinner} {msg} conversations, {elapsed} gone",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Progress { bar: bar.with_style(style.progress_chars("=> ")), done: 0 }
    }

    /// A conversation is done, which took so many bytes of the input.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.done += 1;
        self.bar.set_message(self.done.to_string());
        self.bar.inc(bytes as u64);
    }

    /// Lets something else be written to standard error.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
