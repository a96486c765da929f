//! Many rows judged at once.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use qwenguard::{Annotation, Error};

use super::{Task, columns::Said, verdict::Verdict};
use crate::Failure;

/// Threads that give rows to the guard: while one waits for its rows, another makes the next ones ready.
const THREADS: usize = 2;

impl Task<'_> {
    /// Judges rows; `done` is told how many were. An error of a row is its own; one of the guard ends the run.
    pub(super) fn judge(
        &self,
        said: &[Result<Said, String>],
        mut done: impl FnMut(usize) + Send,
    ) -> Result<Vec<Result<Verdict, String>>, Failure> {
        let chunk = self.jobs.div_ceil(THREADS);
        let chunks: Vec<&[Result<Said, String>]> = said.chunks(chunk).collect();
        let (next, told) = (AtomicUsize::new(0), Mutex::new(&mut done));
        let work = || {
            let mut mine = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(rows) = chunks.get(index) else { break };
                mine.push((index, self.judge_chunk(rows)?));
                if let Ok(mut told) = told.lock() {
                    told(rows.len());
                }
            }
            Ok::<_, Failure>(mine)
        };
        let mut judged = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
            let mut judged = work()?;
            for thread in threads {
                judged.extend(thread.join().map_err(|_| super::message("a thread that judges ended in a panic"))??);
            }
            Ok::<_, Failure>(judged)
        })?;
        judged.sort_by_key(|(index, _)| *index);
        Ok(judged.into_iter().flat_map(|(_, verdicts)| verdicts).collect())
    }

    fn judge_chunk(&self, rows: &[Result<Said, String>]) -> Result<Vec<Result<Verdict, String>>, Failure> {
        let said = rows.iter().filter_map(|row| row.as_ref().ok());
        // Of a row with thinking in a column of its own there are two: they share the prompt.
        let conversations = said.flat_map(|said| said.thinking.iter().chain([&said.messages])).map(|all| &all[..]);
        let mut annotations = self.guard.annotate_all(conversations, &self.options).into_iter();
        let mut next = || match annotations.next().unwrap_or(Err(Error::EngineStopped)) {
            Ok(annotation) => Ok(Ok(annotation)),
            Err(error) if is_of_the_row(&error) => Ok(Err(error.to_string())),
            Err(error) => Err(Failure::from(error)),
        };
        let verdict = |row: &Result<Said, String>| {
            let said = match row {
                Ok(said) => said,
                Err(reason) => return Ok(Err(reason.clone())),
            };
            // Both are taken before either is looked at: the next row begins behind them.
            let thinking = said.thinking.as_ref().map(|_| next()).transpose()?;
            let answer = next()?;
            let name = self.reading.thinking.as_deref().unwrap_or_default();
            let thinking = thinking.transpose().map_err(|reason| format!("{name}: {reason}"));
            Ok(thinking.and_then(|thinking| self.verdict(answer?, thinking, said.helpfulness)))
        };
        rows.iter().map(verdict).collect()
    }

    fn verdict(&self, annotation: Annotation, thinking: Option<Annotation>, score: f64) -> Result<Verdict, String> {
        let all: Vec<&Annotation> = thinking.iter().chain([&annotation]).collect();
        let reward = self.reward.map(|rule| rule.reward(&all, score)).transpose();
        let reward = reward.map_err(|error| format!("no reward: {error}"))?;
        Ok(Verdict { annotation, thinking, reward })
    }
}

/// Whether an error is about what a row says.
fn is_of_the_row(error: &Error) -> bool {
    matches!(error, Error::Conversation { .. } | Error::Argument { .. } | Error::ContextFull { .. })
}
