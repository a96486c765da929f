//! `qwenguard moderate --follow`: an answer judged while it is being written.

use std::io::{Read, Write};

use qwenguard::{Decision, Guard, Message, Policy, Update};
use serde_json::{Value, json};

use crate::{Failure, Outcome, events};

/// The most bytes of one read: a writer that is faster than the guard is judged in larger pieces.
const READ: usize = 4096;

/// Reads an answer to `prompt` and writes what is cleared of it, byte for byte; with `json` one update per read
/// instead. Ends at the violation unless `no_stop`.
pub(crate) fn run(
    guard: &Guard,
    policy: Policy,
    prompt: &str,
    mut input: impl Read,
    json: bool,
    no_stop: bool,
) -> Result<Outcome, Failure> {
    let mut out = std::io::stdout().lock();
    let mut stream = guard.stream_with(policy)?;
    let check = stream.prompt(&[Message::user(prompt)])?;
    if json {
        writeln!(out, "{}", events::prompt(&Value::Null, &check))?;
    }
    let mut stopped = check.decision == Decision::Stop;
    let mut text = Vec::new();
    let mut shown = 0;
    while !stopped || no_stop {
        let mut buffer = [0; READ];
        let count =
            input.read(&mut buffer).map_err(|error| Failure::Message(format!("reading the answer: {error}")))?;
        let update = if count == 0 { stream.finish()? } else { stream.push_text(&buffer[..count])? };
        text.extend_from_slice(&buffer[..count]);
        if json {
            writeln!(out, "{}", update_event(&text, &update))?;
        } else {
            out.write_all(&text[shown..update.horizon])?;
        }
        out.flush()?;
        shown = update.horizon;
        stopped |= update.decision == Decision::Stop;
        if count == 0 {
            break;
        }
    }
    if stopped && !json {
        eprintln!("qwenguard: stopped {}", if shown == 0 { "at the prompt or the first words" } else { "here" });
    }
    Ok(if stopped { Outcome::Stopped } else { Outcome::Clear })
}

fn update_event(text: &[u8], update: &Update) -> Value {
    let token = |token| events::token(&Value::Null, token, text);
    json!({
        "event": "update",
        "decision": update.decision,
        "horizon": update.horizon,
        "horizon_tokens": update.horizon_tokens,
        "received": update.received,
        "final_tokens": update.final_tokens,
        "void_from": update.void_from,
        "violation": update.violation.as_ref().map(events::violation),
        "flags": update.flags.iter().map(events::violation).collect::<Vec<_>>(),
        "tokens": update.tokens.iter().map(token).collect::<Vec<_>>(),
    })
}
