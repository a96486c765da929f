//! `qwenguard moderate --follow`: an answer judged while it is being written.

use std::io::{self, ErrorKind, Read, Write};

use qwenguard::{Decision, Guard, Message, Policy, Update};
use serde_json::{Value, json};

use crate::{
    Failure, Outcome, events,
    joined::{self, Joined},
    judging::Manner,
    look::{self, complain},
};

/// The most bytes of one read: a writer that is faster than the guard is judged in larger pieces.
const READ: usize = 4096;

/// An answer on its way.
struct Following {
    manner: Manner,
    out: Box<dyn Write>,
    text: Vec<u8>,
    joined: Joined,
    /// Bytes that are written.
    shown: usize,
    stopped: bool,
}

/// Reads an answer to `prompt` and writes what is cleared of it, byte for byte; with JSON one update per read instead.
/// Ends at the violation unless it is not to stop.
pub(crate) fn run(
    guard: &Guard,
    policy: Policy,
    prompt: &str,
    input: impl Read,
    manner: Manner,
) -> Result<Outcome, Failure> {
    let mut following = Following {
        manner,
        out: look::output(manner.look),
        text: Vec::new(),
        joined: Joined::default(),
        shown: 0,
        stopped: false,
    };
    let ended = following.judge(guard, policy, prompt, input);
    if following.stopped && !manner.json {
        complain(if following.shown == 0 { "stopped at the prompt or the first words" } else { "stopped here" });
    }
    let written = ended.as_ref().map_or_else(|failure| following.fail(failure), |()| Ok(()));
    if let Err(error) = written {
        complain(&Failure::Output(error).to_string());
    }
    Ok(Outcome { stopped: following.stopped, failed: ended.is_err() })
}

fn read(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Failure> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.map_err(|error| Failure::Message(format!("reading the answer: {error}"))),
        }
    }
}

impl Following {
    fn judge(&mut self, guard: &Guard, policy: Policy, prompt: &str, mut input: impl Read) -> Result<(), Failure> {
        let mut stream = guard.stream_with(policy)?;
        let check = stream.prompt(&[Message::user(prompt)])?;
        self.stopped = check.decision == Decision::Stop;
        if self.manner.json {
            writeln!(self.out, "{}", self.manner.look.json(&events::prompt(&Value::Null, &check)))?;
            self.out.flush()?;
        }
        let mut buffer = [0; READ];
        while self.goes_on() {
            let count = read(&mut input, &mut buffer)?;
            if count == 0 {
                if self.text.is_empty() {
                    return Err(Failure::Message("the answer is empty".into()));
                }
                let update = stream.finish()?;
                self.take(&[], update, true)?;
                break;
            }
            // What precedes a byte that is no text is judged first, however much is read at once.
            let (valid, rest) = buffer[..count].split_at(self.valid(&buffer[..count]));
            for piece in [valid, rest].into_iter().filter(|piece| !piece.is_empty()) {
                if self.goes_on() {
                    let update = stream.push_text(piece)?;
                    self.take(piece, update, false)?;
                }
            }
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        !self.stopped || self.manner.no_stop
    }

    /// How many of the next bytes come before one that cannot be UTF-8.
    fn valid(&self, bytes: &[u8]) -> usize {
        let held = self.text.len() - joined::floor(&self.text, self.text.len());
        let text = [&self.text[self.text.len() - held..], bytes].concat();
        match std::str::from_utf8(&text) {
            Err(error) if error.error_len().is_some() => error.valid_up_to().saturating_sub(held),
            _ => bytes.len(),
        }
    }

    /// Takes what the next bytes, or the end, were answered.
    fn take(&mut self, bytes: &[u8], update: Update, ended: bool) -> Result<(), Failure> {
        self.text.extend_from_slice(bytes);
        self.stopped |= update.decision == Decision::Stop;
        if self.manner.json {
            let event = self.update_event(&update, ended);
            writeln!(self.out, "{}", self.manner.look.json(&event))?;
        } else {
            self.show(update.horizon)?;
        }
        self.out.flush()?;
        Ok(())
    }

    /// Writes what is cleared up to a byte.
    fn show(&mut self, horizon: usize) -> io::Result<()> {
        let cleared = &self.text[self.shown..horizon];
        match std::str::from_utf8(cleared) {
            Ok(text) => self.out.write_all(self.manner.look.text(text).as_bytes())?,
            Err(_) => self.out.write_all(cleared)?,
        }
        self.shown = horizon;
        Ok(())
    }

    /// The answer cannot be judged to its end.
    fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        let reason = failure.to_string();
        if self.manner.json && matches!(failure, Failure::Message(_)) {
            writeln!(self.out, "{}", self.manner.look.json(&events::error(&Value::Null, None, &reason)))?;
            self.out.flush()?;
        }
        complain(&reason);
        Ok(())
    }

    fn update_event(&mut self, update: &Update, ended: bool) -> Value {
        let tokens = update.tokens.iter().map(|token| {
            let text = self.joined.text(token, &self.text);
            events::token(&Value::Null, token, &text)
        });
        let tokens: Vec<Value> = tokens.collect();
        let mut event = json!({
            "event": "update",
            "decision": update.decision,
            "horizon": update.horizon,
            "horizon_tokens": update.horizon_tokens,
            "received": update.received,
            "final_tokens": update.final_tokens,
            "void_from": update.void_from,
            "violation": update.violation,
            "flags": update.flags,
            "opinions": update.opinions,
            "tokens": tokens,
        });
        if ended {
            event["rest"] = self.joined.rest(&self.text).into();
        }
        event
    }
}
