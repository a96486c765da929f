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

    /// Of a data set of so many units, bytes or rows, of which some were done before.
    pub(crate) fn of_rows(units: u64, done: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(units), ProgressDrawTarget::stderr()).with_message("0 rows");
        // The bar has what the words leave it: what does not fit in a line is cut off, and the time left stands at the end.
        let template = "{percent:>3} % [{wide_bar}] {msg}, {elapsed} gone, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style.progress_chars("=> "));
        bar.set_position(done);
        bar.reset_eta();
        Progress { bar, done: 0 }
    }

    /// Some rows are judged.
    pub(crate) fn add_rows(&mut self, rows: usize) {
        self.done += rows;
        let seconds = self.bar.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{} rows, {:.1} a second", self.done, self.done as f64 / seconds));
    }

    /// How many of the units are done.
    pub(crate) fn at(&self, units: u64) {
        self.bar.set_position(units);
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
