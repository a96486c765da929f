//! The portable graphs: standard operators in fixed shapes, for providers without an operator for paged caches.
//!
//! A block of the cache is a stream's whole context, a slot. A graph takes so many new tokens of so many slots, whose
//! streams are padded to these; longer work is several runs (`plan`). The host looks up embeddings and rotary rows and makes
//! the mask (`inputs`, `element`), and keeps the caches (`cache`).

mod cache;
mod check;
mod element;
mod inputs;
mod plan;
mod sessions;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use ndarray::{Array2, ArrayViewD, s};
use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{Session, SessionInputValue, SessionOutputs},
    value::{DynTensor, Tensor},
};

use super::{
    Layout, Model, Numbers, RaggedBatch, StepLogits,
    cache_size::{self, Block, Memory},
    request::{Backed, Request},
};
use crate::{
    Error, Result,
    bundle::{Append, Bundle, Dimensions, Head as BundleHead, Variant},
    config::Provider,
    runtime::{Assigned, Runtime, memory},
};
use cache::{Cache, Device, Filled, Shape};
use check::{HIDDEN, ROW_CHECK};
use element::Element;
use inputs::{Embeddings, Rotary};
use plan::{Part, Run, Stream};
use sessions::{PortableOptions, Sessions};

/// The graphs' name in guard.toml.
pub(in crate::model) const GRAPH: &str = "portable";

/// A model of portable graphs, with its caches.
pub(crate) struct PortableModel {
    name: String,
    dims: Dimensions,
    heads: Vec<Head>,
    chosen: Chosen,
    embeddings: Embeddings,
    rotary: Rotary,
    sessions: Sessions,
    cache: Cache,
    device: Option<Arc<Device>>,
}

struct Head {
    name: String,
    classes: usize,
    /// Its session, if it is a graph of its own.
    own: Option<usize>,
}

/// Which of a bundle's variants are used, and what their caches are.
pub(in crate::model) struct Chosen {
    append: Append,
    /// Of that way of appending.
    variants: Vec<Variant>,
    shape: Shape,
    weights: String,
    /// Tokens of a stream.
    context: usize,
}

impl Chosen {
    /// Those that append as is preferred, if there are some.
    pub(in crate::model) fn of(bundle: &Bundle, preferred: Append) -> Result<Self> {
        let missing = |field: &str| bundle.field_error(&format!("graphs.{GRAPH}{field}"), "missing".to_owned());
        let graph = bundle.manifest.graphs.get(GRAPH).ok_or_else(|| missing(""))?;
        let first = graph.variants.first().ok_or_else(|| missing(".variants"))?;
        let has_preferred = graph.variants.iter().any(|variant| variant.append == preferred);
        let append = if has_preferred { preferred } else { first.append };
        let alike = || graph.variants.iter().filter(|variant| variant.append == append);
        let slots = alike().map(|variant| variant.slots).max().unwrap_or(1);
        // A graph that writes copies of caches writes those of a whole group.
        let used = |variant: &&Variant| append == Append::Rows || variant.slots == slots;
        let variants: Vec<Variant> = alike().filter(used).cloned().collect();
        let mut contexts: Vec<usize> = variants.iter().map(|variant| variant.context).collect();
        contexts.sort_unstable();
        contexts.dedup();
        let dims = &bundle.manifest.model;
        let shape = Shape {
            layers: dims.num_layers,
            kv_heads: dims.num_kv_heads,
            head_dim: dims.head_dim,
            element: graph.cache.and_then(Element::of).ok_or_else(|| missing(".cache"))?,
            slots,
            padding: usize::from(append == Append::Scatter),
            contexts,
        };
        let context = dims.context.min(shape.holds(shape.largest()));
        Ok(Chosen { append, variants, shape, weights: graph.weights.clone(), context })
    }

    /// A stream's cache.
    pub(in crate::model) fn block(&self) -> Block {
        let copies = if self.append == Append::Scatter { 2 } else { 1 };
        Block { tokens: self.context, bytes: copies * self.shape.slot_bytes(self.shape.largest()) }
    }

    /// Slots that so many bytes hold: whole groups.
    fn groups(&self, cache_bytes: usize) -> Result<usize> {
        let blocks = self.block().layout(cache_bytes)?.blocks;
        match blocks / self.shape.slots {
            0 => {
                let Block { bytes, .. } = self.block();
                let reason = format!("the graphs take {} streams at a time, of {bytes} bytes each", self.shape.slots);
                Err(Error::config("cache.mib", reason))
            }
            groups => Ok(groups),
        }
    }

    /// The variant that a first token is computed by.
    fn first(&self) -> usize {
        let key = |index: &usize| {
            let Variant { new_tokens, context, slots, .. } = self.variants[*index];
            (context, slots, new_tokens)
        };
        (0..self.variants.len()).min_by_key(key).unwrap_or(0)
    }

    fn cache(&self, groups: usize, device: Option<Arc<Device>>) -> Result<Cache> {
        Cache::new(self.shape.clone(), groups, self.append == Append::Scatter, device)
    }
}

/// Opens a bundle's model, by graphs whose new rows the host writes if there are some.
pub(in crate::model) fn open_rows(request: &Request) -> Result<Backed> {
    open(request, Append::Rows)
}

/// Opens a bundle's model, by graphs that write a second cache if there are some: where caches are in device memory.
pub(in crate::model) fn open_scatter(request: &Request) -> Result<Backed> {
    open(request, Append::Scatter)
}

fn open(request: &Request, preferred: Append) -> Result<Backed> {
    let Request { bundle, runtime, config, .. } = *request;
    let chosen = Chosen::of(bundle, preferred)?;
    let is_on_device = config.runtime.provider != Provider::Cpu && chosen.append == Append::Scatter;
    let memory = if is_on_device { Memory::Device } else { Memory::Host };
    let cache_bytes = cache_size::bytes(config, chosen.context, chosen.block(), memory)?;
    let options = PortableOptions { cache_bytes, threads: request.threads(), runtime: config.runtime.clone() };
    let float = request.field("cache", &request.graph.cache)?;
    let numbers = Numbers::Own { weight_bits: 8 * float.bytes() as u32, float };
    let (model, assigned) = PortableModel::open(bundle, runtime, chosen, &options)?;
    Ok(Backed { model: Box::new(model), numbers, assigned })
}

/// The memory that a session reads caches from, if that is not the host's.
fn device(session: &Session, runtime: &Runtime) -> Result<Option<Arc<Device>>> {
    let memory = memory::of_input(session, &cache::names(1, "past")[0])?;
    if memory.allocation_device() == AllocationDevice::CPU {
        return Ok(None);
    }
    let allocator = Mutex::new(Allocator::new(session, memory)?);
    Ok(Some(Arc::new(Device { allocator, runtime: runtime.clone() })))
}

impl PortableModel {
    /// Checks all graphs of the bundle that may be run, opens the one that is needed first, and takes memory for the
    /// caches.
    fn open(
        bundle: &Bundle,
        runtime: &Runtime,
        chosen: Chosen,
        options: &PortableOptions,
    ) -> Result<(Self, Vec<Assigned>)> {
        let manifest = &bundle.manifest;
        let dims = &manifest.model;
        let graph = manifest.graphs.get(GRAPH);
        let missing = || bundle.field_error(&format!("graphs.{GRAPH}.embedding"), "missing".to_owned());
        let embedding = graph.and_then(|graph| graph.embedding).ok_or_else(missing)?;
        let own = graph.map_or(&[][..], |graph| &graph.heads);
        let is_own = |head: &&BundleHead| own.iter().any(|graph| graph.name == head.name);
        let in_trunk: Vec<&BundleHead> = manifest.heads.iter().filter(|head| !is_own(head)).collect();
        let mut sessions = Sessions::new(bundle, &chosen.weights, runtime, options)?;
        for variant in &chosen.variants {
            let ends = check::of_variant(variant, (dims, &in_trunk), chosen.shape.element, !own.is_empty());
            sessions.add(bundle, &variant.file, ends)?;
        }
        let mut heads = Vec::with_capacity(manifest.heads.len());
        for head in &manifest.heads {
            let own = own.iter().position(|graph| graph.name == head.name).map(|index| (index, &own[index].file));
            if let Some((_, file)) = own {
                sessions.add(bundle, file, check::of_head(head, dims, chosen.shape.element))?;
            }
            let session = own.map(|_| sessions.len() - 1);
            heads.push(Head { name: head.name.clone(), classes: head.class_count(dims), own: session });
        }
        let assigned = sessions.open_now(chosen.first())?;
        let device = match chosen.append {
            Append::Rows => None,
            Append::Scatter => device(sessions.get(chosen.first())?, runtime)?,
        };
        let cache = chosen.cache(chosen.groups(options.cache_bytes)?, device.clone())?;
        let model = PortableModel {
            name: bundle.name(),
            dims: dims.clone(),
            heads,
            embeddings: Embeddings::open(bundle, &chosen.weights, embedding)?,
            rotary: Rotary::new(dims, chosen.context),
            sessions,
            cache,
            device,
            chosen,
        };
        Ok((model, assigned))
    }

    /// What the runtime would not name, or take for something else.
    fn check(&self, batch: &RaggedBatch) -> Result<()> {
        let known = 0..self.dims.vocab_size as i64;
        if batch.tokens() == 0 || batch.input_ids.iter().any(|id| !known.contains(id)) {
            return Err(Error::inference("a batch is empty or has an unknown token id"));
        }
        let ascending = |rows: &Vec<usize>| rows.is_sorted_by(|a, b| a < b);
        let inside = |rows: &Vec<usize>| rows.last().is_none_or(|last| *last < batch.tokens());
        if batch.wanted.len() != self.heads.len() || !batch.wanted.iter().all(|rows| ascending(rows) && inside(rows)) {
            return Err(Error::inference("a batch wants rows or heads that are not there"));
        }
        let mut taken = vec![false; self.layout().blocks];
        for (stream, blocks) in batch.blocks.iter().enumerate() {
            let tokens = batch.cu_seqlens[stream + 1] - batch.cu_seqlens[stream];
            let past = batch.past_lens[stream];
            let fits = past >= 0 && tokens > 0 && past.saturating_add(tokens) <= self.chosen.context as i32;
            let slot = match blocks[..] {
                [block] if fits => usize::try_from(block).ok(),
                _ => None,
            };
            match slot.and_then(|slot| taken.get_mut(slot)).filter(|taken| !**taken) {
                Some(taken) => *taken = true,
                None => return Err(Error::inference("a batch has a stream without a slot of its own and room in it")),
            }
        }
        Ok(())
    }

    /// The streams of a batch, by the group of their slot.
    fn streams(&self, batch: &RaggedBatch) -> BTreeMap<usize, Vec<Stream>> {
        let mut groups: BTreeMap<usize, Vec<Stream>> = BTreeMap::new();
        for (stream, blocks) in batch.blocks.iter().enumerate() {
            let [first, end] = [batch.cu_seqlens[stream], batch.cu_seqlens[stream + 1]].map(|row| row as usize);
            let slot = blocks[0] as usize;
            let past = batch.past_lens[stream] as usize;
            let slots = self.chosen.shape.slots;
            let stream = Stream { slot: slot % slots, past, first, tokens: end - first };
            groups.entry(slot / slots).or_default().push(stream);
        }
        groups
    }

    /// Runs a graph, and takes what is wanted of its outputs. Returns the slots of streams with a row that is not finite.
    fn run_graph(
        &mut self,
        group: usize,
        run: &Run,
        batch: &RaggedBatch,
        logits: &mut StepLogits,
    ) -> Result<Vec<usize>> {
        let variant = &self.chosen.variants[run.variant];
        let inputs = self.inputs(variant, run, batch)?;
        let session = self.sessions.get(run.variant)?;
        let read = Reader { heads: &self.heads, variant, run, batch };
        let mut damaged;
        let hidden;
        match variant.append {
            Append::Rows => {
                let caches = self.cache.inputs(group, run.first_slot, variant.slots)?;
                let names = self.chosen.shape.names("past").into_iter().map(Cow::Owned);
                let mut all: Vec<(Cow<str>, SessionInputValue)> = names.zip(caches).collect();
                all.extend(inputs.into_iter().map(|(name, tensor)| (name.into(), tensor.into())));
                let outputs = session.run(all)?;
                damaged = read.logits(&outputs, logits)?;
                hidden = read.hidden(&outputs, self.dims.hidden_size)?;
                append_rows(&mut self.cache, group, &read, &outputs, &mut damaged, logits)?;
            }
            Append::Scatter => {
                let mut binding = session.create_binding()?;
                self.cache.bind(group, &mut binding)?;
                for (name, tensor) in &inputs {
                    binding.bind_input(*name, tensor)?;
                }
                let cpu = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
                for name in read.outputs() {
                    binding.bind_output_to_device(name, &cpu)?;
                }
                let outputs = session.run_binding(&binding)?;
                damaged = read.logits(&outputs, logits)?;
                hidden = read.hidden(&outputs, self.dims.hidden_size)?;
                if damaged.is_empty() {
                    self.cache.swap(group);
                }
            }
        }
        for (head, place, row) in hidden {
            let logits = logits.heads[head].row_mut(place);
            self.run_head(head, row, logits)?;
        }
        Ok(damaged)
    }

    /// Runs a head that is a graph of its own.
    fn run_head(&mut self, head: usize, row: Vec<f32>, mut logits: ndarray::ArrayViewMut1<f32>) -> Result<()> {
        let Head { name, classes, own: Some(session) } = &self.heads[head] else { return Ok(()) };
        let session = self.sessions.get(*session)?;
        let row = element::row(self.chosen.shape.element, row)?;
        let outputs = session.run(ort::inputs! { HIDDEN => row })?;
        logits.assign(&output(&outputs, name, &[1, *classes])?.slice(s![0, ..]));
        Ok(())
    }

    /// What a run takes beside the caches. Of what is padding, the host's part is zeros, or the last of what is before.
    fn inputs(&self, variant: &Variant, run: &Run, batch: &RaggedBatch) -> Result<Vec<(&'static str, DynTensor)>> {
        let Variant { new_tokens, context, slots, .. } = *variant;
        let Dimensions { hidden_size, num_kv_heads, head_dim, .. } = self.dims;
        let mut embeds = vec![0f32; slots * new_tokens * hidden_size];
        let [mut cos, mut sin] = [(); 2].map(|()| Vec::with_capacity(slots * new_tokens * head_dim));
        let mut lens = Vec::with_capacity(slots);
        let mut indices = Vec::new();
        for slot in 0..slots {
            let part = run.parts.iter().find(|part| part.slot == run.first_slot + slot);
            let Part { past, first, tokens, .. } = part.copied().unwrap_or(Part { slot, past: 0, first: 0, tokens: 0 });
            let rows = embeds[slot * new_tokens * hidden_size..].chunks_exact_mut(hidden_size);
            for (id, row) in batch.input_ids[first..first + tokens].iter().zip(rows) {
                self.embeddings.read(*id, row)?;
            }
            self.rotary.extend(&mut cos, &mut sin, past..past + tokens, new_tokens);
            // The slots of a group that are not in the run lose nothing: their rows go where no length reaches.
            lens.push(past);
            if variant.append == Append::Scatter {
                let last = context - 1;
                let place = |row: usize| if part.is_some() { (past + row).min(last) } else { last };
                let all = (0..num_kv_heads).flat_map(|head| (0..new_tokens).map(move |row| (head, row)));
                indices.extend(all.flat_map(|(head, row)| [slot, head, place(row)].map(|index| index as i64)));
            }
        }
        let rotary = [slots, 1, new_tokens, head_dim];
        let mut inputs = vec![
            ("embeds", Tensor::from_array(([slots, new_tokens, hidden_size], embeds))?.upcast()),
            ("cos", Tensor::from_array((rotary, cos))?.upcast()),
            ("sin", Tensor::from_array((rotary, sin))?.upcast()),
            ("mask", element::mask(self.chosen.shape.element, &lens, context)?),
        ];
        if variant.append == Append::Scatter {
            inputs.push(("slots", Tensor::from_array(([slots, num_kv_heads, new_tokens, 3], indices))?.upcast()));
        }
        Ok(inputs)
    }
}

impl Model for PortableModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn layout(&self) -> Layout {
        let Block { tokens, bytes } = self.chosen.block();
        Layout { block_tokens: tokens, blocks: self.cache.groups() * self.chosen.shape.slots, block_bytes: bytes }
    }

    /// A stream has one block.
    fn context(&self) -> usize {
        self.chosen.context
    }

    fn heads(&self) -> usize {
        self.heads.len()
    }

    fn with_f32_cache(&mut self, blocks: usize, run: &mut dyn FnMut(&mut dyn Model) -> Result<()>) -> Result<()> {
        let other = self.chosen.cache(blocks.div_ceil(self.chosen.shape.slots), self.device.clone())?;
        let own = std::mem::replace(&mut self.cache, other);
        let result = run(self);
        self.cache = own;
        result
    }

    fn run(&mut self, batch: &RaggedBatch) -> Result<StepLogits> {
        self.check(batch)?;
        // What is not computed, because something before it is not finite, is not finite either.
        let empty = |(head, wanted): (&Head, &Vec<usize>)| Array2::from_elem((wanted.len(), head.classes), f32::NAN);
        let heads = self.heads.iter().zip(&batch.wanted).map(empty).collect();
        let mut logits = StepLogits { heads, row_check: vec![f32::NAN; batch.tokens()] };
        for (group, mut streams) in self.streams(batch) {
            let filled =
                |stream: &Stream| Filled { slot: stream.slot, past: stream.past, end: stream.past + stream.tokens };
            let mut ends: Vec<Filled> = streams.iter().map(filled).collect();
            self.cache.fit(group, &ends)?;
            while let Some(mut run) = plan::next(&mut streams, &self.chosen.variants, self.cache.context(group)) {
                while !run.parts.is_empty() {
                    let damaged = self.run_graph(group, &run, batch, &mut logits)?;
                    streams.retain(|stream| !damaged.contains(&stream.slot));
                    ends.retain(|stream| !damaged.contains(&stream.slot));
                    run.parts.retain(|part| !damaged.contains(&part.slot));
                    // Of a cache that is written as a whole nothing was taken: the others run again without those.
                    if damaged.is_empty() || self.chosen.append == Append::Rows {
                        break;
                    }
                }
            }
            ends.into_iter().for_each(|stream| self.cache.filled(group, stream));
        }
        Ok(logits)
    }
}

/// What is read of a run's outputs.
struct Reader<'a> {
    heads: &'a [Head],
    variant: &'a Variant,
    run: &'a Run,
    batch: &'a RaggedBatch,
}

impl Reader<'_> {
    /// The outputs that are no caches.
    fn outputs(&self) -> impl Iterator<Item = &str> {
        let own = self.heads.iter().any(|head| head.own.is_some()).then_some(HIDDEN);
        let trunk = self.heads.iter().filter(|head| head.own.is_none()).map(|head| &*head.name);
        trunk.chain([ROW_CHECK]).chain(own)
    }

    /// A part's place among the slots of the run.
    fn slot(&self, part: &Part) -> usize {
        part.slot - self.run.first_slot
    }

    /// The rows of a head that are wanted of the run: their place among those that the batch wants, the slot of the run,
    /// and the row of the slot.
    fn wanted(&self, head: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let wanted = &self.batch.wanted[head];
        self.run.parts.iter().flat_map(move |part| {
            let rows = part.first..part.first + part.tokens;
            let places = wanted.partition_point(|row| *row < rows.start)..wanted.partition_point(|row| *row < rows.end);
            places.map(move |place| (place, self.slot(part), wanted[place] - part.first))
        })
    }

    /// Takes the logits that are wanted, and the checks of all rows. Returns the slots of streams with a row that is not
    /// finite.
    fn logits(&self, outputs: &SessionOutputs, logits: &mut StepLogits) -> Result<Vec<usize>> {
        let [slots, new_tokens] = [self.variant.slots, self.variant.new_tokens];
        for (index, head) in self.heads.iter().enumerate().filter(|(_, head)| head.own.is_none()) {
            let found = output(outputs, &head.name, &[slots, new_tokens, head.classes])?;
            for (place, slot, row) in self.wanted(index) {
                logits.heads[index].row_mut(place).assign(&found.slice(s![slot, row, ..]));
            }
        }
        let found = output(outputs, ROW_CHECK, &[slots, new_tokens])?;
        let mut damaged = Vec::new();
        for part in &self.run.parts {
            for row in 0..part.tokens {
                logits.row_check[part.first + row] = found[[self.slot(part), row]];
            }
            if !logits.row_check[part.first..][..part.tokens].iter().all(|check| check.is_finite()) {
                damaged.push(part.slot);
            }
        }
        Ok(damaged)
    }

    /// The hidden states that heads of their own are wanted of, each with its head and its place among the wanted rows.
    fn hidden(&self, outputs: &SessionOutputs, width: usize) -> Result<Vec<(usize, usize, Vec<f32>)>> {
        let mut hidden = Vec::new();
        for (index, _) in self.heads.iter().enumerate().filter(|(_, head)| head.own.is_some()) {
            let found = output(outputs, HIDDEN, &[self.variant.slots, self.variant.new_tokens, width])?;
            let rows =
                self.wanted(index).map(|(place, slot, row)| (index, place, found.slice(s![slot, row, ..]).to_vec()));
            hidden.extend(rows);
        }
        Ok(hidden)
    }
}

/// Writes the new rows of keys and values of a run. Those that are not finite are not written, and their stream is
/// damaged: graphs read all of a slot, and what comes after a stream's tokens is only made small there, not left out.
fn append_rows(
    cache: &mut Cache,
    group: usize,
    read: &Reader,
    outputs: &SessionOutputs,
    damaged: &mut Vec<usize>,
    logits: &mut StepLogits,
) -> Result<()> {
    let Shape { kv_heads, head_dim, element, .. } = cache.shape;
    let Variant { new_tokens, slots, .. } = *read.variant;
    let names = cache.shape.names("new");
    let dims = [slots, kv_heads, new_tokens, head_dim];
    let new = names.iter().map(|name| element::output(name, &outputs[&**name], element, dims));
    let new: Vec<&[u8]> = new.collect::<Result<_>>()?;
    let row = head_dim * element.bytes();
    let slot_bytes = kv_heads * new_tokens * row;
    for part in read.run.parts.iter().filter(|part| !damaged.contains(&part.slot)).copied().collect::<Vec<_>>() {
        let start = read.slot(&part) * slot_bytes;
        let rows: Vec<&[u8]> = new.iter().map(|bytes| &bytes[start..][..slot_bytes]).collect();
        let finite = |token: usize| {
            let starts = (0..kv_heads).map(|head| (head * new_tokens + token) * row);
            rows.iter().all(|rows| starts.clone().all(|start| element::is_finite(&rows[start..][..row], element)))
        };
        if let Some(token) = (0..part.tokens).find(|token| !finite(*token)) {
            logits.row_check[part.first + token] = f32::NAN;
            damaged.push(part.slot);
            continue;
        }
        let filled = Filled { slot: part.slot, past: part.past, end: part.past + part.tokens };
        for (pool, rows) in rows.into_iter().enumerate() {
            cache.write(group, filled, pool, rows, new_tokens);
        }
    }
    Ok(())
}

/// An output of floats. The runtime does not hold a graph to the shapes that it promises.
fn output<'o>(outputs: &'o SessionOutputs, name: &str, dims: &[usize]) -> Result<ArrayViewD<'o, f32>> {
    let view = outputs[name].try_extract_array::<f32>()?;
    match view.shape() == dims {
        true => Ok(view),
        false => Err(Error::inference(format!("output {name}: its shape is {:?}, not {dims:?}", view.shape()))),
    }
}

#[cfg(test)]
mod tests;
