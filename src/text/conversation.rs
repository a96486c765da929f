//! From messages to token ids: the checkpoint's template, with message text kept text.

use serde::{Deserialize, Serialize};

use super::{
    Tokenizer,
    markup::{Beginning, Markup},
    template::ChatTemplate,
};
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
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    /// From the start to the end of the last user turn: the query heads are read at the last of these.
    pub(crate) prompt: Vec<u32>,
    /// What the template puts around the answer.
    pub(crate) frame: Frame,
}

/// What the template puts around an answer: fed, never judged.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Before an answer without thinking.
    pub(crate) plain: Vec<u32>,
    /// Around the thinking of an answer, if the template has a place for it.
    pub(crate) thinking: Option<ThinkFrame>,
    /// After the answer: the end of the turn.
    pub(crate) end: Vec<u32>,
    /// Where in the answer the prompt leaves off.
    pub(super) start: Markup,
}

/// What the template puts around thinking.
#[derive(Debug, Clone)]
pub(crate) struct ThinkFrame {
    /// Before it, with the tag.
    pub(crate) open: Vec<u32>,
    /// The same without the tag, for an answer that brings it along.
    pub(crate) bare: Vec<u32>,
    /// Text right after it, which may merge with its last token.
    pub(super) tail: String,
    /// After that, up to where the answer proper starts.
    pub(crate) close: Vec<u32>,
}

impl Frame {
    /// Whether the answer goes on within a think block.
    pub(crate) fn starts_thinking(&self) -> bool {
        self.start.in_thinking()
    }

    /// The most tokens that come before an answer.
    pub(crate) fn longest_lead(&self) -> usize {
        self.plain.len().max(self.thinking.as_ref().map_or(0, |thinking| thinking.open.len()))
    }
}

/// Turns messages into ids.
pub(crate) struct Renderer {
    template: ChatTemplate,
    tokens: SpecialTokens,
}

/// Characters that mark places in message text while it goes through the template. They are private use: the first
/// ones that no message contains are taken.
#[derive(Clone, Copy)]
struct Marks {
    /// Within special tokens that a message spells.
    broken: char,
    /// Where thinking goes on.
    thinking: char,
    /// Where the answer goes on.
    answer: char,
}

impl Marks {
    fn absent_from(messages: &[Message]) -> Result<Self> {
        let mut absent =
            ('\u{F0000}'..='\u{FFFFD}').filter(|mark| !messages.iter().any(|message| message.content.contains(*mark)));
        match (absent.next(), absent.next(), absent.next()) {
            (Some(broken), Some(thinking), Some(answer)) => Ok(Marks { broken, thinking, answer }),
            _ => Err(Error::Conversation("the messages use all private use characters of plane 15".into())),
        }
    }
}

/// One conversation on its way through the template.
struct Rendering<'r> {
    renderer: &'r Renderer,
    tokenizer: &'r Tokenizer,
    marks: Marks,
}

impl Rendering<'_> {
    /// Renders an answer of texts that a mark follows each, and gives what is around the marks. None if the template
    /// does not keep them.
    fn around<const N: usize>(&self, history: &[Message], answer: &[(&str, char)]) -> Result<Option<[String; N]>> {
        let text = |text: &str| break_special_tokens(self.tokenizer, text, self.marks.broken);
        let answer: String = answer.iter().map(|(given, mark)| format!("{}{mark}", text(given))).collect();
        let mut messages: Vec<Message> =
            history.iter().map(|message| Message::new(&message.role, text(&message.content))).collect();
        messages.push(Message::assistant(answer));
        let rendered = self.renderer.template.render(&messages)?;
        let pieces = rendered.split([self.marks.thinking, self.marks.answer]).map(str::to_owned);
        Ok(pieces.collect::<Vec<_>>().try_into().ok())
    }

    /// What the template puts around thinking that starts with `thought`: the same in every conversation.
    fn think_frame(&self, thought: Option<&str>) -> Result<Option<ThinkFrame>> {
        let open = format!("<think>\n{}", thought.unwrap_or_default());
        let answer = [(open.as_str(), self.marks.thinking), ("\n</think>\n\n", self.marks.answer)];
        let Some([before, between, _]) = self.around(&[Message::user("")], &answer)? else { return Ok(None) };
        let mut before = self.ids(&before)?;
        let open = before.split_off(self.renderer.prompt_end(&before)?);
        let tag = self.tokenizer.think_tags().and_then(|(tag, _)| open.iter().rposition(|id| *id == tag));
        let close = between.trim_start_matches('\n');
        Ok(Some(ThinkFrame {
            bare: open[..tag.unwrap_or(open.len())].to_vec(),
            open,
            tail: between[..between.len() - close.len()].to_owned(),
            close: self.ids(close)?,
        }))
    }

    /// Encodes a rendered text: special tokens become control tokens, everything between them is text.
    fn ids(&self, rendered: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut rest = rendered;
        loop {
            let found = self.tokenizer.find_special(rest);
            let text = &rest[..found.as_ref().map_or(rest.len(), |(span, _)| span.start)];
            if !text.is_empty() {
                ids.extend(self.tokenizer.ids(&text.replace(self.marks.broken, ""))?);
            }
            let Some((span, id)) = found else { return Ok(ids) };
            ids.push(id);
            rest = &rest[span.end..];
        }
    }
}

impl Renderer {
    pub(crate) fn new(template: &str, tokens: SpecialTokens) -> Result<Self, String> {
        Ok(Renderer { template: ChatTemplate::new(template)?, tokens })
    }

    /// Renders messages and what is around the answer to them, and finds where the prompt ends. A last message of the
    /// assistant is the beginning of that answer.
    pub(crate) fn render(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Conversation> {
        let marks = Marks::absent_from(messages)?;
        let rendering = Rendering { renderer: self, tokenizer, marks };
        let (history, beginning) = match messages.split_last() {
            Some((last, history)) if last.role == "assistant" => (history, last.content.as_str()),
            _ => (messages, ""),
        };
        let Beginning { thought, markup } = Markup::after(beginning);
        let answer = match &thought {
            // Closed at once: an answer without more thinking.
            Some(thought) => format!("<think>\n{thought}\n</think>\n\n"),
            None => beginning.to_owned(),
        };
        let Some([before, after]) = rendering.around(history, &[(&answer, marks.answer)])? else {
            return Err(Error::Conversation("the chat template does not render an answer".into()));
        };
        let mut prompt = rendering.ids(&before)?;
        let plain = prompt.split_off(self.prompt_end(&prompt)?);
        let end = rendering.ids(&after)?;
        let thinking = if markup.in_answer() { None } else { rendering.think_frame(thought.as_deref())? };
        let start = if thinking.is_some() || markup.in_answer() { markup } else { Markup::answer() };
        Ok(Conversation { prompt, frame: Frame { plain, thinking, end, start } })
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
