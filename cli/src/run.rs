//! Many conversations at once, and their output in the order of the input.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::mpsc::{Receiver, TryRecvError},
    time::Duration,
};

use qwenguard::{Completion, CompletionQueue, Error, Guard, Policy, Stream};
use serde_json::Value;

use crate::{
    Outcome,
    conversation::{Conversation, Refused},
    events,
    judging::{Judging, Manner},
    lines::Line,
    look::{self, complain},
    message::ToolCalls,
    summary::Counts,
};

/// How many times as many conversations as are judged at once are begun or wait to be written.
const AHEAD: usize = 4;

/// Bytes that a conversation may have written before its turn comes: then it waits.
const MAX_BUFFERED: usize = 256 << 10;

/// A run over the lines of an input.
pub(crate) struct Run<'g> {
    guard: &'g Guard,
    policy: Policy,
    manner: Manner,
    tool_calls: ToolCalls,
    /// What the input is called.
    name: String,
    /// The most conversations that are judged at once.
    limit: usize,
    queue: CompletionQueue,
    /// In the order of the input. What is over stays until all before it is written.
    jobs: VecDeque<Job>,
    /// The tag of the first of them; the others count on from it.
    first: u64,
    /// Calls in the queue.
    calls: usize,
    out: Box<dyn Write>,
    lines: usize,
    counts: Counts,
}

/// A line of the input.
struct Job {
    line: usize,
    judging: Judging,
    stage: Stage,
    /// Why it could not be judged to its end.
    error: Option<String>,
}

enum Stage {
    /// Its next call can be made; if `busy`, once another one is done.
    Ready {
        stream: Box<Stream>,
        busy: bool,
    },
    /// Its call is in the queue.
    Called,
    Over,
}

impl Job {
    fn fail(&mut self, reason: String) -> io::Result<()> {
        self.stage = Stage::Over;
        self.judging.fail(self.line, &reason)?;
        self.error = Some(reason);
        Ok(())
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }
}

impl<'g> Run<'g> {
    pub(crate) fn new(
        guard: &'g Guard,
        policy: Policy,
        manner: Manner,
        tool_calls: ToolCalls,
        name: String,
        limit: usize,
    ) -> Self {
        Run {
            guard,
            policy,
            manner,
            tool_calls,
            name,
            limit,
            queue: CompletionQueue::new(),
            jobs: VecDeque::new(),
            first: 0,
            calls: 0,
            out: look::output(manner.look),
            lines: 0,
            counts: Counts::default(),
        }
    }

    /// Judges all lines.
    ///
    /// # Errors
    /// Those of writing the output. What is not written is then not judged to its end.
    pub(crate) fn all(&mut self, lines: &Receiver<Line>) -> io::Result<()> {
        loop {
            let more = self.take_lines(lines)?;
            self.write()?;
            self.make_calls();
            if self.calls > 0 {
                // Lines that come meanwhile are taken after the next call that is done.
                let Some(done) = self.queue.wait(Duration::MAX) else { continue };
                self.complete(done)?;
                while let Some(done) = self.queue.poll() {
                    self.complete(done)?;
                }
            } else if !more && self.jobs.is_empty() {
                return Ok(());
            }
        }
    }

    /// Writes the end: the summary, and what is wrong with the input as a whole.
    pub(crate) fn end(&mut self, summary: bool) -> io::Result<()> {
        if self.lines == 0 {
            self.counts.errors += 1;
            let reason = "there is no conversation in the input";
            if self.manner.json {
                self.event(&events::error(&Value::Null, None, reason))?;
            }
            complain(&format!("{}: {reason}", self.name));
        } else if self.counts.errors > 0 && self.manner.json {
            complain(&format!("{}: {} of {} lines are errors", self.name, self.counts.errors, self.lines));
        }
        if summary && self.manner.json {
            self.event(&self.counts.event())?;
        } else if summary {
            look::tell(&self.counts.text());
        }
        self.out.flush()
    }

    pub(crate) fn outcome(&self) -> Outcome {
        // What was found is known even if nobody reads it.
        let stopped = self.counts.stopped > 0 || self.jobs.front().is_some_and(|job| job.judging.is_stopped());
        Outcome { stopped, failed: self.counts.errors > 0 }
    }

    fn event(&mut self, event: &Value) -> io::Result<()> {
        writeln!(self.out, "{}", self.manner.look.json(event))
    }

    /// Begins with lines as far as there are some, and there is room; waits for one if there is nothing else to do.
    /// Returns whether more may come.
    fn take_lines(&mut self, lines: &Receiver<Line>) -> io::Result<bool> {
        while self.jobs.len() < AHEAD.saturating_mul(self.limit) && self.open() < self.limit {
            let line = if self.jobs.is_empty() {
                self.out.flush()?;
                lines.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                lines.try_recv()
            };
            match line {
                Ok(line) => self.start(line)?,
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Conversations that are begun and not over.
    fn open(&self) -> usize {
        self.jobs.iter().filter(|job| !job.is_over()).count()
    }

    fn start(&mut self, Line { number, text }: Line) -> io::Result<()> {
        self.lines += 1;
        let read = match text {
            Ok(text) => Conversation::read(&text, self.tool_calls),
            Err(reason) => Err(Refused { id: Value::Null, reason }),
        };
        let (conversation, stream) = match read {
            Ok(conversation) => (conversation, self.guard.stream_with(self.policy.clone()).map_err(|e| e.to_string())),
            Err(Refused { id, reason }) => (Conversation { id, history: Vec::new(), answer: None }, Err(reason)),
        };
        let judging = Judging::new(conversation, self.manner);
        let mut job = Job { line: number, judging, stage: Stage::Over, error: None };
        match stream {
            Ok(stream) => job.stage = Stage::Ready { stream: Box::new(stream), busy: false },
            Err(reason) => job.fail(reason)?,
        }
        self.jobs.push_back(job);
        Ok(())
    }

    /// Writes what the first conversation has to say, and if it is over, what those after it have.
    fn write(&mut self) -> io::Result<()> {
        let mut written = false;
        while let Some(job) = self.jobs.front_mut() {
            let over = job.is_over();
            let output = std::mem::take(job.judging.output());
            if over {
                self.counts.merge(std::mem::take(&mut job.judging.counts));
            }
            if !output.is_empty() {
                self.out.write_all(&output)?;
                written = true;
            }
            if !over {
                break;
            }
            if let Some(reason) = job.error.take().filter(|_| !self.manner.json) {
                self.out.flush()?;
                complain(&format!("{}, line {}: {}", self.name, job.line, look::error_line(&reason)));
            }
            self.jobs.pop_front();
            self.first += 1;
        }
        if written { self.out.flush() } else { Ok(()) }
    }

    /// Makes the next call of every conversation that has one, unless much of it waits to be written.
    fn make_calls(&mut self) {
        for (index, job) in self.jobs.iter_mut().enumerate() {
            if index > 0 && job.judging.output().len() > MAX_BUFFERED {
                continue;
            }
            match std::mem::replace(&mut job.stage, Stage::Called) {
                Stage::Ready { stream, busy } if !busy || self.calls == 0 => {
                    let Some(call) = job.judging.call() else { unreachable!("a conversation without a call is over") };
                    self.queue.submit(*stream, call, self.first + index as u64, None);
                    self.calls += 1;
                }
                other => job.stage = other,
            }
        }
    }

    /// Takes the answer to a call.
    fn complete(&mut self, done: Completion) -> io::Result<()> {
        self.calls -= 1;
        let job = &mut self.jobs[(done.tag - self.first) as usize];
        let stream = Box::new(done.stream.expect("calls of streams give them back"));
        match done.result {
            // Too much waits already: again when some of it is done.
            Err(Error::Busy { .. }) if self.calls > 0 => {
                job.stage = Stage::Ready { stream, busy: true };
                return Ok(());
            }
            Err(error) => job.fail(error.to_string())?,
            Ok(reply) => {
                job.judging.take(reply)?;
                job.stage =
                    if job.judging.call().is_some() { Stage::Ready { stream, busy: false } } else { Stage::Over };
            }
        }
        for job in &mut self.jobs {
            if let Stage::Ready { busy, .. } = &mut job.stage {
                *busy = false;
            }
        }
        Ok(())
    }
}
