//! From messages to token ids: the checkpoint's template, with message text kept text.

use serde::{Deserialize, Serialize};

use super::{Tokenizer, template::ChatTemplate};
use crate::{Error, Result, bundle::SpecialTokens};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the model's template knows.
    pub role: String,
    /// The text. Special tokens in it, such as `<|im_end|>`, are text: nobody can close their own turn.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new("user", content)
    }

    /// What the host tells the model beforehand.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new("system", content)
    }

    /// An earlier answer of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new("assistant", content)
    }
}

/// The ids of a conversation up to where its answer starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    /// From the start to the end of the last user turn: the query heads are read at the last of these.
    pub(crate) prompt: Vec<u32>,
    /// What the template puts before an answer: fed, never judged.
    pub(crate) scaffold: Vec<u32>,
}

/// Turns messages into ids.
pub(crate) struct Renderer {
    template: ChatTemplate,
    tokens: SpecialTokens,
}

/// Characters that mark places in message text while it goes through the template. They are private use: the first
/// ones that no message contains are taken.
const MARKERS: std::ops::RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';

impl Renderer {
    pub(crate) fn new(template: &str, tokens: SpecialTokens) -> Result<Self, String> {
        Ok(Renderer { template: ChatTemplate::new(template)?, tokens })
    }

    /// Renders messages and the start of the answer to them, and finds where the prompt ends. A last message of the
    /// assistant is the beginning of that answer.
    pub(crate) fn render(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Conversation> {
        let mut unused = MARKERS.filter(|marker| !messages.iter().any(|message| message.content.contains(*marker)));
        let (Some(break_up), Some(answer)) = (unused.next(), unused.next()) else {
            return Err(Error::Conversation("the messages use all private use characters of plane 15".into()));
        };
        let mut marked: Vec<Message> = messages
            .iter()
            .map(|message| Message::new(&message.role, break_special_tokens(tokenizer, &message.content, break_up)))
            .collect();
        match marked.last_mut() {
            Some(last) if last.role == "assistant" => last.content.push(answer),
            _ => marked.push(Message::assistant(answer)),
        }

        let rendered = self.template.render(&marked)?;
        let Some((before, _)) = rendered.split_once(answer) else {
            return Err(Error::Conversation("the chat template does not render an answer".into()));
        };
        let mut prompt = encode_control(tokenizer, before, break_up)?;
        let end = self.prompt_end(&prompt)?;
        let scaffold = prompt.split_off(end);
        Ok(Conversation { prompt, scaffold })
    }

    /// One past the end of the last user turn: the first `<|im_end|>` after the last `<|im_start|>user`.
    fn prompt_end(&self, ids: &[u32]) -> Result<usize> {
        let user = &self.tokens.user;
        let starts = |at: usize| ids[at] == self.tokens.turn_start && ids[at + 1..].starts_with(user);
        let turn = (0..ids.len()).rev().find(|at| starts(*at));
        let turn = turn.ok_or_else(|| Error::Conversation("there is no user turn".into()))?;
        let length = ids[turn..].iter().position(|id| *id == self.tokens.turn_end);
        let length = length.ok_or_else(|| Error::Conversation("the last user turn does not end".into()))?;
        Ok(turn + length + 1)
    }
}

/// Puts `marker` into every special token that the text spells, so that it does not look like one.
fn break_special_tokens(tokenizer: &Tokenizer, text: &str, marker: char) -> String {
    let mut broken = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((span, _)) = tokenizer.find_special(rest) {
        // After the first character: the rest may hold the start of another one.
        let cut = span.start + rest[span.start..].chars().next().map_or(1, char::len_utf8);
        broken.push_str(&rest[..cut]);
        broken.push(marker);
        rest = &rest[cut..];
    }
    broken + rest
}

/// Encodes a rendered text: special tokens become control tokens, everything between them is text.
fn encode_control(tokenizer: &Tokenizer, rendered: &str, marker: char) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    let mut rest = rendered;
    loop {
        let found = tokenizer.find_special(rest);
        let text = &rest[..found.as_ref().map_or(rest.len(), |(span, _)| span.start)];
        if !text.is_empty() {
            ids.extend(tokenizer.ids(&text.replace(marker, ""))?);
        }
        let Some((span, id)) = found else { return Ok(ids) };
        ids.push(id);
        rest = &rest[span.end..];
    }
}
