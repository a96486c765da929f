//! What the graphs leave to the host: rows of the embedding, and of the rotary embedding.

use half::{f16, slice::HalfFloatSliceExt};
use zerocopy::IntoBytes;

use super::element::Element;
use crate::{
    Error, Result,
    bundle::{Bundle, Dimensions, Embedding, Pieces},
};

/// The embedding, read where it lies.
pub(super) struct Embeddings {
    file: Pieces,
    name: String,
    /// Where it begins in the file.
    offset: u64,
    element: Element,
    width: usize,
}

impl Embeddings {
    pub(super) fn open(bundle: &Bundle, weights: &str, embedding: Embedding) -> Result<Self> {
        let Embedding { offset, kind } = embedding;
        let refused = || bundle.field_error("graphs.portable.embedding.type", "it is not fp16 or fp32".to_owned());
        let element = Element::of(kind).ok_or_else(refused)?;
        let file = bundle.place.pieces(weights)?;
        Ok(Embeddings { file, name: weights.to_owned(), offset, element, width: bundle.manifest.model.hidden_size })
    }

    /// Reads the row of a token.
    pub(super) fn read(&self, id: i64, row: &mut [f32]) -> Result<()> {
        let at = self.offset + id as u64 * (self.width * self.element.bytes()) as u64;
        let failed = |error| Error::inference(format!("{}: {error}", self.name));
        match self.element {
            Element::Fp32 => self.file.read(at, row.as_mut_bytes()).map_err(failed),
            Element::Fp16 => {
                let mut numbers = vec![f16::ZERO; self.width];
                self.file.read(at, numbers.as_mut_bytes()).map_err(failed)?;
                numbers.convert_to_f32_slice(row);
                Ok(())
            }
        }
    }
}

/// Cosines and sines for the places in a context, each row twice in a row: `[context, head dim]`.
pub(super) struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
    width: usize,
}

impl Rotary {
    /// In f32 all the way, as the original model computes them.
    pub(super) fn new(model: &Dimensions, context: usize) -> Self {
        let width = model.head_dim;
        let theta = model.rope_theta.unwrap_or(1.0) as f32;
        let frequencies: Vec<f32> =
            (0..width / 2).map(|pair| 1.0 / theta.powf((2 * pair) as f32 / width as f32)).collect();
        let table = |function: fn(f32) -> f32| -> Vec<f32> {
            let angles = (0..context).flat_map(|place| {
                let half = frequencies.iter().map(move |frequency| place as f32 * frequency);
                half.clone().chain(half)
            });
            angles.map(function).collect()
        };
        Rotary { cos: table(f32::cos), sin: table(f32::sin), width }
    }

    /// Adds the rows of some places, and for padding the last of these again.
    pub(super) fn extend(&self, cos: &mut Vec<f32>, sin: &mut Vec<f32>, places: std::ops::Range<usize>, rows: usize) {
        for row in 0..rows {
            let place = (places.start + row).min(places.end.saturating_sub(1).max(places.start));
            let values = place * self.width..(place + 1) * self.width;
            cos.extend(&self.cos[values.clone()]);
            sin.extend(&self.sin[values]);
        }
    }
}
