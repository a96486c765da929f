//! From messages to token ids: the checkpoint's template, with message text kept text.

#[cfg(test)]
mod qwen;
#[cfg(test)]
mod tests;
mod whole;

use super::{
    audit::{self, Audit, Brackets},
    encode,
    markup::{Beginning, Markup},
    message::Message,
    pipeline::least_bytes,
    size,
    template::ChatTemplate,
    tokenizer::Tokenizer,
};
use crate::{Error, Result, error::Reason};

/// Control tokens that a text cannot spell, and the word that starts a user turn.
pub(crate) struct ControlTokens {
    /// `<|im_start|>`
    pub(crate) turn_start: u32,
    /// `<|im_end|>`
    pub(crate) turn_end: u32,
    /// The word `user` after a turn's start.
    pub(crate) user: Vec<u32>,
}

/// The ids of a conversation up to where its answer starts.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    /// From the start to the end of the turn that is judged: the query heads are read at the last of these.
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
    /// Whether the answer goes on within thinking.
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
    tokens: ControlTokens,
    /// Tokens that fit the model's context.
    context: usize,
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
    /// Around what an audit looks for.
    audit: Brackets,
}

impl Marks {
    fn absent_from(messages: &[Message]) -> Result<Self> {
        const FIRST: u32 = 0xF_0000;
        let mut used = vec![false; 0xFFFE];
        let texts = messages.iter().flat_map(|message| [&message.role, &message.content]);
        for text in texts.filter(|text| memchr::memchr2(0xF3, 0xF4, text.as_bytes()).is_some()) {
            for character in text.chars() {
                let index = u32::from(character).wrapping_sub(FIRST) as usize;
                if let Some(used) = used.get_mut(index) {
                    *used = true;
                }
            }
        }
        let absent = (FIRST..).zip(&used).filter(|(_, used)| !**used).filter_map(|(code, _)| char::from_u32(code));
        let absent: Vec<char> = absent.take(5).collect();
        let [broken, thinking, answer, open, close] = absent[..] else {
            return Err(Error::conversation("the messages use all private use characters of plane 15"));
        };
        Ok(Marks { broken, thinking, answer, audit: Brackets { open, close } })
    }
}

/// One conversation on its way through the template.
struct Rendering<'r> {
    renderer: &'r Renderer,
    tokenizer: &'r Tokenizer,
    marks: Marks,
}

/// A rendered text in three parts.
struct Rendered {
    /// Which message is judged.
    judged: usize,
    /// Up to the end of the turn that is judged.
    prompt: String,
    /// From there to where the answer goes on.
    lead: String,
    /// After the answer.
    after: String,
}

impl Rendering<'_> {
    /// Messages without special tokens in their texts, by the roles that templates know.
    fn plain(&self, messages: &[Message]) -> Vec<Message> {
        let plain = |message: &Message| match &*message.role {
            "developer" => Message::system(self.text(&message.content)),
            role => Message::new(role, self.text(&message.content)),
        };
        messages.iter().map(plain).collect()
    }

    fn text(&self, text: &str) -> String {
        break_special_tokens(self.tokenizer, text, self.marks.broken)
    }

    /// Renders messages and an answer of texts that a mark follows each, and gives what is around the marks. None if the
    /// template does not keep them.
    fn around<const N: usize>(
        &self,
        messages: &mut Vec<Message>,
        answer: &[(&str, char)],
    ) -> Result<Option<[String; N]>> {
        let answer: String = answer.iter().map(|(given, mark)| format!("{}{mark}", self.text(given))).collect();
        messages.push(Message::assistant(answer));
        let rendered = self.renderer.template.render(messages)?;
        messages.pop();
        let pieces = rendered.split([self.marks.thinking, self.marks.answer]).map(str::to_owned);
        Ok(pieces.collect::<Vec<_>>().try_into().ok())
    }

    /// Renders a conversation, and checks that all of it is there.
    fn conversation(&self, history: &[Message], answer: &str, roles: &[String]) -> Result<Rendered> {
        let no_answer = || Error::conversation("the chat template does not render an answer");
        let answer = [(answer, self.marks.answer)];
        let mut messages = self.plain(history);
        let [before, after] = self.around(&mut messages, &answer)?.ok_or_else(no_answer)?;
        for (index, message) in messages.iter_mut().enumerate() {
            message.content = self.marks.audit.mark(&message.role, &message.content, index);
        }
        let [marked, _] = self.around(&mut messages, &answer)?.ok_or_else(no_answer)?;
        let audit = self.marks.audit.audit(self.tokenizer, history, &marked)?;
        let mut prompt = before;
        let (judged, end) = self.judged(history, roles, &prompt, &audit)?;
        let lead = prompt.split_off(end);
        Ok(Rendered { judged, prompt, lead, after })
    }

    /// Which message is judged, and where its turn ends in a rendered text: after its `<|im_end|>`.
    fn judged(&self, history: &[Message], roles: &[String], rendered: &str, audit: &Audit) -> Result<(usize, usize)> {
        let judged = history.iter().rposition(|message| roles.contains(&message.role));
        let judged = judged.ok_or_else(|| {
            Error::conversation(format!("there is no user turn: no message of role {}", roles.join(" or ")))
        })?;
        let refused = |index: usize, what| audit::refused(index, &history[index].role, what);
        let controls: Vec<_> = self.tokenizer.specials(rendered).collect();
        if let Some(index) = audit.differs(controls.iter().map(|(_, id)| *id)) {
            return Err(refused(index.unwrap_or(judged), audit::OTHER_TURNS));
        }
        let ControlTokens { turn_start, turn_end, .. } = self.renderer.tokens;
        let boundary = |(_, id): &&(_, u32)| [turn_start, turn_end].contains(id);
        let (before, after) = controls.split_at(audit.ends[judged]);
        let start = before.iter().rev().find(boundary).filter(|(_, id)| *id == turn_start);
        let end = after.iter().find(boundary).filter(|(_, id)| *id == turn_end);
        match (start, end) {
            (Some(_), Some((end, _))) => Ok((judged, end.end)),
            _ => Err(refused(judged, "the chat template does not write it within a turn")),
        }
    }

    /// What the template puts around thinking that starts with `thought`: the same in every conversation, but for the
    /// turns before it.
    fn think_frame(&self, thought: Option<&str>, turns: &[u32]) -> Result<Option<ThinkFrame>> {
        let open = format!("<think>\n{}", thought.unwrap_or_default());
        let answer = [(open.as_str(), self.marks.thinking), ("\n</think>\n\n", self.marks.answer)];
        let rendered = self.around(&mut vec![Message::user("")], &answer)?;
        let Some([before, between, _]) = rendered else { return Ok(None) };
        let before = self.ids(&before)?;
        let open = [turns, &before[self.turns(&before)..]].concat();
        let tag = self.tokenizer.think_tags().and_then(|(tag, _)| open.iter().rposition(|id| *id == tag));
        let close = between.trim_start_matches('\n');
        Ok(Some(ThinkFrame {
            bare: open[..tag.unwrap_or(open.len())].to_vec(),
            open,
            tail: between[..between.len() - close.len()].to_owned(),
            close: self.ids(close)?,
        }))
    }

    /// How many tokens the turns have that end.
    fn turns(&self, ids: &[u32]) -> usize {
        ids.iter().rposition(|id| *id == self.renderer.tokens.turn_end).map_or(0, |last| last + 1)
    }

    /// Encodes a rendered text: special tokens become control tokens, everything between them is text. What is longer
    /// than the context is tokenized up to there.
    fn ids(&self, rendered: &str) -> Result<Vec<u32>> {
        let limit = self.renderer.context;
        let full = |wanted| Error::ContextFull { used: 0, wanted, limit };
        // Marks are not ASCII: what they add is less than what is taken off for NFC.
        let least = self.tokenizer.least_tokens(least_bytes(rendered.as_bytes()));
        if least > limit {
            return Err(full(least));
        }
        let mut ids = Vec::new();
        let mut at = 0;
        let end = (rendered.len()..rendered.len(), None);
        for (span, id) in self.tokenizer.specials(rendered).map(|(span, id)| (span, Some(id))).chain([end]) {
            let text = &rendered[at..span.start];
            if !text.is_empty() {
                let text = text.replace(self.marks.broken, "");
                let new = encode::ids_within(self.tokenizer, &text, limit.saturating_sub(ids.len()))?;
                ids.extend(new.map_err(|least| full(ids.len() + least))?);
            }
            ids.extend(id);
            if ids.len() > limit {
                return Err(full(ids.len()));
            }
            at = span.end;
        }
        Ok(ids)
    }
}

impl Renderer {
    pub(crate) fn new(template: &str, tokens: ControlTokens, context: usize) -> Result<Self, Reason> {
        Ok(Renderer { template: ChatTemplate::new(template)?, tokens, context })
    }

    /// Renders messages and what is around the answer to them, and finds where the prompt ends: with the turn of the last
    /// message of one of `roles`. A last message of the assistant is the beginning of that answer.
    pub(crate) fn render(&self, tokenizer: &Tokenizer, messages: &[Message], roles: &[String]) -> Result<Conversation> {
        size::check_messages(tokenizer, self.context, messages)?;
        let rendering = Rendering { renderer: self, tokenizer, marks: Marks::absent_from(messages)? };
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
        let Rendered { judged, prompt, lead, after } = rendering.conversation(history, &answer, roles)?;
        let prompt = rendering.ids(&prompt)?;
        if !self.ends_with_user_turn(&prompt) {
            let what = "the chat template does not write it as a turn of the user, and only those can be judged";
            return Err(audit::refused(judged, &history[judged].role, what));
        }
        let plain = rendering.ids(&lead)?;
        if judged + 1 < messages.len() && prompt.len() + plain.len() > self.context {
            return Err(Error::ContextFull { used: 0, wanted: prompt.len() + plain.len(), limit: self.context });
        }
        let end = rendering.ids(&after)?;
        let thinking = match markup.in_answer() {
            true => None,
            false => rendering.think_frame(thought.as_deref(), &plain[..rendering.turns(&plain)])?,
        };
        let start = if thinking.is_some() || markup.in_answer() { markup } else { Markup::answer() };
        Ok(Conversation { prompt, frame: Frame { plain, thinking, end, start } })
    }

    fn ends_with_user_turn(&self, ids: &[u32]) -> bool {
        let start = ids.iter().rposition(|id| *id == self.tokens.turn_start);
        start.is_some_and(|start| ids[start + 1..].starts_with(&self.tokens.user))
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
