//! One conversation's annotation without waiting for it.

use std::{collections::VecDeque, sync::Arc};

use super::{
    part::{Judged, Part, merge},
    work::Work,
};
use crate::{
    Result,
    annotation::{AnnotateOptions, Annotation},
    engine::{Batch, Notify},
    opened::Opened,
    process::Owned,
    text::Message,
};

/// An annotation that the engine works at. Dropping it cancels it.
pub(crate) struct BegunAnnotation {
    shared: Arc<Owned<Opened>>,
    options: AnnotateOptions,
    notify: Notify,
    /// Parts that wait for the one before them.
    parts: VecDeque<Part>,
    current: Option<(Judged, Work)>,
    done: Vec<(Judged, Annotation)>,
}

impl BegunAnnotation {
    /// Renders a conversation and gives its first part to the engine. `notify` is called whenever going on does not wait.
    pub(crate) fn begin(
        shared: &Arc<Owned<Opened>>,
        options: AnnotateOptions,
        messages: &[Message],
        notify: Notify,
    ) -> Result<Self> {
        shared.process().check()?;
        let parts = Part::all(shared, options, messages)?.into();
        let mut begun =
            BegunAnnotation { shared: shared.clone(), options, notify, parts, current: None, done: Vec::new() };
        begun.next(&mut Batch::default())?;
        Ok(begun)
    }

    /// Whether going on does not wait.
    pub(crate) fn is_ready(&self) -> bool {
        !self.current.as_ref().is_some_and(|(_, work)| work.is_waiting())
    }

    /// Takes what was computed and begins what is left. The annotation, if nothing is.
    pub(crate) fn advance(&mut self) -> Result<Option<Annotation>> {
        let batch = &mut Batch::default();
        if let Some((judged, mut work)) = self.current.take() {
            match work.advance(batch)? {
                Some(annotation) => self.done.push((judged, annotation)),
                None => {
                    self.current = Some((judged, work));
                    return Ok(None);
                }
            }
        }
        while self.current.is_none() {
            if self.parts.is_empty() {
                return merge(&self.shared, std::mem::take(&mut self.done)).map(Some);
            }
            self.next(batch)?;
        }
        Ok(None)
    }

    /// Begins the next part, if there is one.
    fn next(&mut self, batch: &mut Batch) -> Result<()> {
        let Some(part) = self.parts.pop_front() else { return Ok(()) };
        let mut work = Work::open(&self.shared, self.options, &part, Some(self.notify.clone()))?;
        match work.advance(batch)? {
            Some(annotation) => self.done.push((part.judged.clone(), annotation)),
            None => self.current = Some((part.judged.clone(), work)),
        }
        Ok(())
    }
}
