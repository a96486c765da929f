//! An answer on its way past the guard.

use qwenguard::{Call, Decision, Error, Reply, Update, Violation};

use super::unjudged;
use crate::{
    message,
    serve::{calls::Judge, fault::Fault},
};

/// Bytes that are judged together: a longer piece is cut, so that others wait less.
const PIECE: usize = 4096;

/// One answer, and how much of it may be shown.
pub(crate) struct Guarded {
    judge: Judge,
    /// Bytes that were given.
    received: usize,
    /// Bytes that may be shown.
    horizon: usize,
    /// What else than thinking was given.
    is_text: bool,
    is_finished: bool,
    is_stopped: bool,
    /// Where it stops.
    stop: Option<Violation>,
    /// A tool call's arguments are being written.
    in_call: bool,
    /// The beginning of an escape in those.
    escape: String,
    /// What was found and does not stop: flags, and all of a policy in shadow mode.
    reported: Vec<Violation>,
}

impl Guarded {
    /// The answer to a prompt that was judged.
    pub(crate) fn new(judge: Judge) -> Self {
        Guarded {
            judge,
            received: 0,
            horizon: 0,
            is_text: false,
            is_finished: false,
            is_stopped: false,
            stop: None,
            in_call: false,
            escape: String::new(),
            reported: Vec::new(),
        }
    }

    /// Another answer that goes on from here. What was found so far is this one's to report.
    pub(crate) fn fork(&self) -> qwenguard::Result<Self> {
        let Guarded { received, horizon, is_text, is_finished, is_stopped, in_call, .. } = *self;
        let (stop, escape) = (self.stop.clone(), self.escape.clone());
        let (judge, reported) = (self.judge.fork()?, Vec::new());
        Ok(Guarded { judge, received, horizon, is_text, is_finished, is_stopped, stop, in_call, escape, reported })
    }

    /// Judges more of the answer.
    pub(crate) async fn text(&mut self, text: &str) -> Result<(), Fault> {
        for piece in text.as_bytes().chunks(PIECE) {
            if self.is_stopped() {
                return Ok(());
            }
            self.is_text = true;
            self.call(Call::Text(piece)).await?;
        }
        Ok(())
    }

    /// Judges thinking. After text, and where the model's template has no place for it, it is judged as text.
    pub(crate) async fn thinking(&mut self, text: &str) -> Result<(), Fault> {
        for piece in text.as_bytes().chunks(PIECE) {
            if self.is_stopped() {
                return Ok(());
            }
            if !self.is_text {
                self.check_open()?;
                match self.judge.call(Call::Thinking(piece)).await {
                    Err(Error::WrongState { .. }) if self.received == 0 => {}
                    reply => {
                        self.take(reply?)?;
                        continue;
                    }
                }
            }
            self.is_text = true;
            self.call(Call::Text(piece)).await?;
        }
        Ok(())
    }

    /// A tool call begins. It is judged as Qwen's template writes it.
    pub(crate) async fn call_name(&mut self, name: &str) -> Result<(), Fault> {
        self.end_call().await?;
        self.text(&format!("\n<tool_call>\n{{\"name\": \"{name}\", \"arguments\": ")).await?;
        self.in_call = true;
        Ok(())
    }

    /// More of a tool call's arguments. Letters that are spelled as escapes are judged as letters.
    pub(crate) async fn call_arguments(&mut self, arguments: &str) -> Result<(), Fault> {
        let all = std::mem::take(&mut self.escape) + arguments;
        let (whole, begun) = all.split_at(message::whole_escapes(&all));
        self.escape = begun.to_owned();
        self.text(&message::unescape(whole)).await
    }

    /// A tool call ends, if there is one.
    pub(crate) async fn end_call(&mut self) -> Result<(), Fault> {
        if std::mem::take(&mut self.in_call) {
            let rest = std::mem::take(&mut self.escape);
            self.text(&(rest + "}\n</tool_call>\n")).await?;
        }
        Ok(())
    }

    /// The answer is complete.
    pub(crate) async fn finish(&mut self) -> Result<(), Fault> {
        self.end_call().await?;
        if !self.is_finished && !self.is_stopped() {
            self.call(Call::Finish).await?;
            self.is_finished = true;
        }
        Ok(())
    }

    /// An answer that said that it is complete has no more text.
    fn check_open(&self) -> Result<(), Fault> {
        if self.is_finished { Err(unjudged("it has text after its end")) } else { Ok(()) }
    }

    async fn call(&mut self, call: Call<'_>) -> Result<(), Fault> {
        self.check_open()?;
        let reply = self.judge.call(call).await?;
        self.take(reply)
    }

    fn take(&mut self, reply: Reply) -> Result<(), Fault> {
        let Reply::Update(update) = reply else { return Err(Error::EngineStopped.into()) };
        self.update(update);
        Ok(())
    }

    fn update(&mut self, update: Update) {
        (self.received, self.horizon) = (update.received, update.horizon);
        self.reported.extend(update.flags);
        match (update.decision, update.violation) {
            (Decision::Stop, violation) => (self.is_stopped, self.stop) = (true, violation),
            (Decision::Continue, Some(violation)) if !self.reported.contains(&violation) => {
                self.reported.push(violation)
            }
            (Decision::Continue, _) => {}
        }
    }

    /// Bytes of the answer so far.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// How many of them may be shown.
    pub(crate) fn horizon(&self) -> usize {
        self.horizon
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Where it stops.
    pub(crate) fn stop(&self) -> Option<&Violation> {
        self.stop.as_ref()
    }

    /// Takes what was found and does not stop.
    pub(crate) fn take_reported(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.reported)
    }
}
