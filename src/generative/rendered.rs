//! A conversation as a model that writes its verdict takes it: whole, or in the parts that fit its context.

use std::ops::Range;

use crate::{
    Error, Result,
    annotation::{AnnotateOptions, AnnotationMode, TextOverflow, with_last},
    opened::{Gen, Opened},
    text::Message,
};

/// A conversation that is rendered.
#[derive(Clone)]
pub(crate) struct Rendered {
    pub(crate) mode: AnnotationMode,
    pub(crate) ids: Vec<u32>,
}

impl Rendered {
    /// # Errors
    /// [`Error::Conversation`] and [`Error::ContextFull`], as [`Guard::annotate`](crate::Guard::annotate) has them.
    pub(crate) fn new(shared: &Opened, messages: &[Message]) -> Result<Self> {
        let ids = shared.renderer.render_whole(&shared.tokenizer, messages)?;
        Ok(Rendered { mode: AnnotationMode::of(messages), ids })
    }

    /// The parts of a conversation, each with the bytes of the last message's content that it has: one, or with windows
    /// several if all of it does not fit.
    pub(crate) fn parts(
        shared: &Opened,
        model: &Gen,
        messages: &[Message],
        options: AnnotateOptions,
    ) -> Result<Vec<(Self, Range<usize>)>> {
        let Opened { tokenizer, info, .. } = shared;
        let limit = info.context.saturating_sub(options.decoding.most_tokens(&model.answer));
        let content = messages.last().map_or("", |last| &last.content);
        let whole = Rendered::new(shared, messages);
        let too_long = match &whole {
            Ok(rendered) => rendered.ids.len() > limit,
            Err(error) => matches!(error, Error::ContextFull { .. }),
        };
        if options.overflow == TextOverflow::Refuse || !too_long {
            return Ok(vec![(whole?, 0..content.len())]);
        }
        let measure = |messages: &[Message]| Ok(Rendered::new(shared, messages)?.ids.len());
        let judged = options.overflow.cut(tokenizer, messages, limit, &measure)?;
        let part = |judged: Range<usize>| {
            let rendered = Rendered::new(shared, &with_last(messages, &content[judged.clone()]))?;
            Ok((rendered, judged))
        };
        judged.into_iter().map(part).collect()
    }
}
