//! An answer that comes as text: its channels, and the tokens that the model is fed for it.

#[cfg(any(test, feature = "_internals"))]
mod checked;

use std::ops::Range;

use super::{
    conversation::Frame,
    delta::{DeltaTokenizer, Edit, cut_error},
    markup::{self, Channel, Markup, Part, Parts},
    tokenizer::{TextToken, Tokenizer},
};
use crate::{Error, Result};

#[cfg(feature = "_internals")]
pub(crate) use checked::check_answer;

/// The most bytes that one push may have.
pub(crate) const MAX_PUSH: usize = 1 << 20;

/// One token of an answer as the model is fed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerToken {
    pub(crate) id: u32,
    /// The bytes of the answer that it stands for; none for what the template puts between channels.
    pub(crate) bytes: Range<usize>,
    pub(crate) channel: Channel,
    /// Whether it is part of what is judged.
    pub(crate) judged: bool,
}

/// An answer as text, as far as it came.
#[derive(Debug, Clone)]
pub(crate) struct AnswerText {
    markup: Markup,
    /// All bytes before the answer proper.
    head: Vec<u8>,
    /// Those that the caller said are thinking.
    declared: Range<usize>,
    thinking: Option<DeltaTokenizer>,
    answer: Option<DeltaTokenizer>,
    /// The most tokens that one of them may have.
    most: usize,
}

/// A change of an answer's tokens: the first `keep` stay, the others give way to `append`.
#[derive(Debug)]
pub(crate) struct TokenEdit {
    pub(crate) keep: usize,
    pub(crate) append: Vec<AnswerToken>,
    /// How many tokens, of all that there are then, no continuation can change.
    pub(crate) stable: usize,
}

impl TokenEdit {
    /// Only so many tokens stay, and no continuation can change them.
    pub(crate) fn keep(keep: usize) -> Self {
        TokenEdit { keep, append: Vec::new(), stable: keep }
    }
}

/// What becomes of the text when its tokens are changed.
#[derive(Debug, Clone)]
pub(crate) enum TextChange {
    /// It grows.
    Grow(Box<Growth>),
    /// Its answer proper is cut back.
    Cut(Edit),
    /// It is another one.
    Replace(Box<AnswerText>),
}

/// Bytes that come, or the end, and what they are.
#[derive(Debug, Clone)]
pub(crate) struct Growth {
    /// As it is afterwards.
    markup: Markup,
    /// Bytes that may be before the answer proper.
    head: Vec<u8>,
    declared: Range<usize>,
    thinking: Option<ChannelEdit>,
    answer: Option<ChannelEdit>,
}

/// An edit of a channel's text, with the text itself if it starts here.
#[derive(Debug, Clone)]
struct ChannelEdit {
    fresh: Option<DeltaTokenizer>,
    edit: Edit,
    /// Where the caller's bytes of the channel end.
    limit: usize,
}

impl AnswerText {
    /// An empty text. Tokenizing stops when more than `most` tokens are there.
    pub(crate) fn new(frame: &Frame, most: usize) -> Self {
        AnswerText { markup: frame.start.clone(), head: Vec::new(), declared: 0..0, thinking: None, answer: None, most }
    }

    /// Bytes that came.
    pub(crate) fn received(&self) -> usize {
        self.head.len() + self.answer.as_ref().map_or(0, DeltaTokenizer::bytes)
    }

    /// The last place at or before a byte that is between characters and before which all is known.
    pub(crate) fn floor(&self, byte: usize) -> usize {
        let byte = byte.min(self.markup.decided());
        let texts = [&self.answer, &self.thinking].into_iter().flatten();
        match texts.into_iter().find(|text| text.offset() <= byte) {
            Some(text) if byte <= text.offset() + text.bytes() => {
                text.offset() + text.text().floor_char_boundary(byte - text.offset())
            }
            // In a tag, or between channels.
            _ => byte,
        }
    }

    /// The whole text so far, with its tags.
    pub(crate) fn text(&self) -> String {
        let head = String::from_utf8_lossy(&self.head);
        head.into_owned() + self.answer.as_ref().map_or("", DeltaTokenizer::text)
    }

    /// What the next bytes change: of thinking, if the caller says so, else of what their tags say. Nothing happens until
    /// the change is [applied](Self::apply).
    ///
    /// # Errors
    /// [`Error::Argument`] if the bytes are not UTF-8 where they are, too many, or the tokenizer takes no text in
    /// pieces; [`Error::WrongState`] for thinking where there can be none.
    pub(crate) fn push(
        &self,
        tokenizer: &Tokenizer,
        frame: &Frame,
        declared: bool,
        bytes: &[u8],
    ) -> Result<(TokenEdit, TextChange)> {
        if bytes.len() > MAX_PUSH {
            let reason = format!("{} bytes at once, the limit is {MAX_PUSH}: push smaller pieces", bytes.len());
            return Err(Error::argument("text", reason));
        }
        let mut markup = self.markup.clone();
        let parts = if declared {
            let state = "on an answer that has no thinking or is past it";
            markup.push_thinking(bytes).ok_or(Error::WrongState { call: "push_thinking", state })?
        } else {
            markup.push(bytes)
        };
        let declared = match declared {
            true if self.declared.is_empty() => self.head.len()..self.head.len() + bytes.len(),
            true => self.declared.start..self.head.len() + bytes.len(),
            false => self.declared.clone(),
        };
        let (tokens, thinking, answer) = self.channel_edits(tokenizer, frame, &parts, false)?;
        let head = if self.answer.is_some() { Vec::new() } else { bytes.to_vec() };
        let growth = Growth { markup, head, declared, thinking, answer };
        Ok((tokens, TextChange::Grow(Box::new(growth))))
    }

    /// What the end of the answer changes: all tokens become stable.
    ///
    /// # Errors
    /// [`Error::Argument`] if the text ends within a character. It says where that starts.
    pub(crate) fn finish(&self, tokenizer: &Tokenizer, frame: &Frame) -> Result<(TokenEdit, TextChange)> {
        let mut markup = self.markup.clone();
        let parts = markup.finish();
        let (tokens, thinking, answer) = self.channel_edits(tokenizer, frame, &parts, true)?;
        let growth = Growth { markup, head: Vec::new(), declared: self.declared.clone(), thinking, answer };
        Ok((tokens, TextChange::Grow(Box::new(growth))))
    }

    /// What cutting the text back to its first `length` bytes changes. Afterwards all is as if no more had ever come.
    ///
    /// # Errors
    /// [`Error::Argument`] if the text is shorter or that is within a character.
    pub(crate) fn truncate(
        &self,
        tokenizer: &Tokenizer,
        frame: &Frame,
        length: usize,
    ) -> Result<(TokenEdit, TextChange)> {
        // The first bytes may have to be read as a tag again.
        if let Some(answer) = self.answer.as_ref().filter(|answer| answer.offset() + markup::LONGEST_TAG <= length) {
            let edit = answer.truncate(tokenizer, length - answer.offset())?;
            let before = self.before_answer(frame);
            let tokens = TokenEdit {
                keep: before + edit.keep,
                append: edit.append.iter().map(answer_token).collect(),
                stable: before + edit.stable,
            };
            return Ok((tokens, TextChange::Cut(edit)));
        }
        let mut bytes = self.head.clone();
        bytes.extend(self.answer.iter().flat_map(|answer| answer.text().bytes()));
        if length > bytes.len() || bytes.get(length).is_some_and(|byte| is_continuation(*byte)) {
            return Err(cut_error(length, bytes.len()));
        }
        let Range { start, end } = self.declared;
        let mut text = AnswerText::new(frame, self.most);
        for (part, declared) in [(0..start, false), (start..end, true), (end..length, false)] {
            for piece in bytes[part.start.min(length)..part.end.min(length)].chunks(MAX_PUSH) {
                let (_, change) = text.push(tokenizer, frame, declared, piece)?;
                text.apply(change);
            }
        }
        let (old, mut new) = (self.tokens(frame), text.tokens(frame));
        let keep = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let stable = text.stable(frame);
        let tokens = TokenEdit { keep, append: new.split_off(keep), stable };
        Ok((tokens, TextChange::Replace(Box::new(text))))
    }

    /// The text as a change makes it.
    pub(crate) fn after(&self, change: &TextChange) -> AnswerText {
        let mut text = self.clone();
        text.apply(change.clone());
        text
    }

    /// Makes a change of this text, as it is now, happen.
    pub(crate) fn apply(&mut self, change: TextChange) {
        match change {
            TextChange::Replace(text) => *self = *text,
            TextChange::Cut(edit) => {
                if let Some(answer) = &mut self.answer {
                    answer.apply(edit);
                }
                self.markup.cut(self.received());
            }
            TextChange::Grow(growth) => {
                let Growth { markup, head, declared, thinking, answer } = *growth;
                self.markup = markup;
                self.head.extend(head);
                self.declared = declared;
                apply(&mut self.thinking, thinking);
                apply(&mut self.answer, answer);
                if let Some(answer) = &self.answer {
                    self.head.truncate(answer.offset());
                }
            }
        }
    }

    /// What new parts of the channels, or their end, change in the tokens and in each channel's text.
    fn channel_edits(
        &self,
        tokenizer: &Tokenizer,
        frame: &Frame,
        parts: &Parts,
        ends: bool,
    ) -> Result<(TokenEdit, Option<ChannelEdit>, Option<ChannelEdit>)> {
        let Parts { thinking, thinking_ends, answer } = parts;
        let thinking = self.thinking_edit(tokenizer, frame, thinking, *thinking_ends, ends)?;
        let answer = self.channel_edit(tokenizer, &self.answer, answer, ends)?;

        let mut keep = self.before_answer(frame);
        let mut append = Vec::new();
        let mut stable = self.stable(frame);
        if let Some(ChannelEdit { edit, limit, .. }) = &thinking {
            keep = edit.keep;
            append.extend(edit.append.iter().map(|token| thinking_token(token, *limit)));
            stable = edit.stable;
            if *thinking_ends {
                append.extend(close_tokens(frame, *limit));
                stable = keep + append.len();
            }
        }
        match (&answer, &self.answer) {
            (Some(ChannelEdit { edit, .. }), _) => {
                // The edit of an answer that starts here keeps nothing.
                stable = keep + append.len() + edit.stable;
                keep += edit.keep;
                append.extend(edit.append.iter().map(answer_token));
            }
            (None, Some(answer)) => {
                stable = keep + answer.stable();
                keep += answer.tokens().len();
            }
            (None, None) => {}
        }
        Ok((TokenEdit { keep, append, stable }, thinking, answer))
    }

    /// What some bytes of thinking, or its end, change.
    fn thinking_edit(
        &self,
        tokenizer: &Tokenizer,
        frame: &Frame,
        part: &Part,
        closes: bool,
        ends: bool,
    ) -> Result<Option<ChannelEdit>> {
        let Some(frame) =
            frame.thinking.as_ref().filter(|_| closes && !(part.text.is_empty() && self.thinking.is_none()))
        else {
            let ends = ends && !self.markup.in_answer();
            return self.channel_edit(tokenizer, &self.thinking, part, ends);
        };
        let fresh = self.fresh(tokenizer, &self.thinking, part)?;
        let text = fresh.as_ref().or(self.thinking.as_ref()).expect("one of them is there");
        let edit = text.end_with(tokenizer, &part.text, &frame.tail)?;
        let limit = text.offset() + text.bytes() + part.text.len();
        Ok(Some(ChannelEdit { fresh, edit, limit }))
    }

    /// What some bytes, or the end, change in the text of a channel. None if nothing.
    fn channel_edit(
        &self,
        tokenizer: &Tokenizer,
        text: &Option<DeltaTokenizer>,
        part: &Part,
        ends: bool,
    ) -> Result<Option<ChannelEdit>> {
        if part.text.is_empty() && (text.is_none() || !ends) {
            return Ok(None);
        }
        let fresh = self.fresh(tokenizer, text, part)?;
        let text = fresh.as_ref().or(text.as_ref()).expect("one of them is there");
        let edit = if ends { text.end_with(tokenizer, &part.text, "")? } else { text.push(tokenizer, &part.text)? };
        Ok(Some(ChannelEdit { fresh, edit, limit: usize::MAX }))
    }

    /// The text of a channel that starts with this part.
    fn fresh(
        &self,
        tokenizer: &Tokenizer,
        text: &Option<DeltaTokenizer>,
        part: &Part,
    ) -> Result<Option<DeltaTokenizer>> {
        if text.is_some() { Ok(None) } else { DeltaTokenizer::new(tokenizer, part.at, self.most).map(Some) }
    }

    /// How many tokens are before the answer proper.
    fn before_answer(&self, frame: &Frame) -> usize {
        let Some(thinking) = &self.thinking else { return 0 };
        let close = frame.thinking.as_ref().filter(|_| self.markup.in_answer()).map_or(0, |frame| frame.close.len());
        thinking.tokens().len() + close
    }

    /// The tokens before the answer proper.
    fn thinking_tokens(&self, frame: &Frame) -> Vec<AnswerToken> {
        let Some(thinking) = &self.thinking else { return Vec::new() };
        let tail = frame.thinking.as_ref().filter(|_| self.markup.in_answer()).map_or(0, |frame| frame.tail.len());
        let limit = thinking.offset() + thinking.text().len() - tail;
        let mut tokens: Vec<_> = thinking.tokens().iter().map(|token| thinking_token(token, limit)).collect();
        if self.markup.in_answer() {
            tokens.extend(close_tokens(frame, limit));
        }
        tokens
    }

    fn tokens(&self, frame: &Frame) -> Vec<AnswerToken> {
        let mut tokens = self.thinking_tokens(frame);
        tokens.extend(self.answer.iter().flat_map(|text| text.tokens()).map(answer_token));
        tokens
    }

    fn stable(&self, frame: &Frame) -> usize {
        match (&self.answer, &self.thinking) {
            (Some(answer), _) => self.before_answer(frame) + answer.stable(),
            (None, Some(thinking)) if !self.markup.in_answer() => thinking.stable(),
            (None, _) => self.before_answer(frame),
        }
    }
}

fn apply(text: &mut Option<DeltaTokenizer>, edit: Option<ChannelEdit>) {
    let Some(ChannelEdit { fresh, edit, .. }) = edit else { return };
    if fresh.is_some() {
        *text = fresh;
    }
    if let Some(text) = text {
        text.apply(edit);
    }
}

/// A token of thinking that ends at byte `limit`. What the template puts there may be merged with it.
fn thinking_token(token: &TextToken, limit: usize) -> AnswerToken {
    let bytes = token.bytes.start.min(limit)..token.bytes.end.min(limit);
    AnswerToken { id: token.id, judged: !bytes.is_empty(), bytes, channel: Channel::Thinking }
}

fn answer_token(token: &TextToken) -> AnswerToken {
    AnswerToken { id: token.id, bytes: token.bytes.clone(), channel: Channel::Answer, judged: true }
}

/// What the template puts after thinking that ends at byte `at`.
fn close_tokens(frame: &Frame, at: usize) -> impl Iterator<Item = AnswerToken> {
    let ids = frame.thinking.iter().flat_map(|thinking| &thinking.close);
    ids.map(move |id| AnswerToken { id: *id, bytes: at..at, channel: Channel::Answer, judged: false })
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}
