//! The streams' caches. Each has a slot; the slots that a graph takes together are a group and lie beside each other.
//!
//! A graph takes caches of a fixed number of tokens, keys and values of a head in a row. So a group is laid out for one
//! such number at a time, the least that holds its streams: when one of them outgrows it, the rows of the group are moved
//! apart once, and no run has to copy them.

use std::sync::{Arc, Mutex, PoisonError};

use memmap2::MmapMut;
use ort::{
    memory::Allocator,
    session::{IoBinding, SessionInputValue},
    value::DynTensor,
};

use super::element::{self, Element};
use crate::{
    Error, Result,
    runtime::{Runtime, memory},
};

/// What there is room for.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) element: Element,
    /// Slots in a group.
    pub(super) slots: usize,
    /// Tokens of a graph's cache that no stream has.
    pub(super) padding: usize,
    /// The tokens that graphs take, ascending.
    pub(super) contexts: Vec<usize>,
}

impl Shape {
    /// Bytes of a token in a head.
    fn row(&self) -> usize {
        self.head_dim * self.element.bytes()
    }

    /// Bytes of some slots of one layer's keys or values.
    fn bytes(&self, slots: usize, context: usize) -> usize {
        slots * self.kv_heads * context * self.row()
    }

    /// Bytes of one slot in all layers, with so many tokens.
    pub(super) fn slot_bytes(&self, context: usize) -> usize {
        2 * self.layers * self.bytes(1, context)
    }

    /// The most tokens that a graph takes.
    pub(super) fn largest(&self) -> usize {
        self.contexts.last().copied().unwrap_or(0)
    }

    /// How many tokens a stream has at most, where the graph takes so many.
    pub(super) fn holds(&self, context: usize) -> usize {
        context - self.padding.min(context)
    }

    fn dims(&self, slots: usize, context: usize) -> [i64; 4] {
        [slots, self.kv_heads, context, self.head_dim].map(|size| size as i64)
    }

    /// The names of all layers' keys and values, such as `past_key.0`.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        names(self.layers, prefix)
    }
}

/// As [`Shape::names`].
pub(super) fn names(layers: usize, prefix: &str) -> Vec<String> {
    (0..layers).flat_map(|layer| ["key", "value"].map(|part| format!("{prefix}_{part}.{layer}"))).collect()
}

/// The caches of all streams.
pub(super) struct Cache {
    pub(super) shape: Shape,
    groups: Vec<Group>,
    memory: Memory,
    /// Where copies are, unless in plain memory.
    device: Option<Arc<Device>>,
}

/// Streams whose caches lie beside each other.
struct Group {
    /// The tokens that each has room for.
    context: usize,
    /// The tokens that each has, at most.
    lens: Vec<usize>,
}

enum Memory {
    /// The keys, or values, of a layer, of all groups: each has as many bytes as it ever needs. Pages are taken from the
    /// system as they are first written.
    Pools(Vec<MmapMut>),
    /// Of each group that was used.
    Buffers(Vec<Option<Buffers>>),
}

/// Twice what a group needs: a run reads the one half and writes the other.
struct Buffers {
    current: Vec<DynTensor>,
    next: Vec<DynTensor>,
}

/// Memory of a device, for graphs that write copies of caches.
pub(super) struct Device {
    pub(super) allocator: Mutex<Allocator>,
    pub(super) runtime: Runtime,
}

/// A stream in a run of its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    /// In its group.
    pub(super) slot: usize,
    pub(super) past: usize,
    /// Tokens after the run.
    pub(super) end: usize,
}

impl Cache {
    /// A cache of so many groups. `buffers` says that graphs write copies of it, on the device if there is one.
    pub(super) fn new(shape: Shape, groups: usize, buffers: bool, device: Option<Arc<Device>>) -> Result<Self> {
        let least = shape.contexts.first().copied().unwrap_or(0);
        let memory = match buffers {
            true => Memory::Buffers((0..groups).map(|_| None).collect()),
            false => {
                let bytes = groups.checked_mul(shape.bytes(shape.slots, shape.largest()));
                let bytes = bytes.filter(|bytes| *bytes <= isize::MAX as usize).unwrap_or(usize::MAX);
                let pools = (0..2 * shape.layers).map(|_| {
                    let pool = if bytes == usize::MAX { None } else { MmapMut::map_anon(bytes).ok() };
                    pool.ok_or(Error::OutOfMemory { bytes, purpose: "a layer's KV cache" })
                });
                Memory::Pools(pools.collect::<Result<_>>()?)
            }
        };
        let group = || Group { context: least, lens: vec![0; shape.slots] };
        Ok(Cache { groups: (0..groups).map(|_| group()).collect(), shape, memory, device })
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The tokens that the streams of a group have room for.
    pub(super) fn context(&self, group: usize) -> usize {
        self.groups[group].context
    }

    /// Makes room for a run. What the group had room for before stays if it is enough, until a stream begins anew.
    pub(super) fn fit(&mut self, group: usize, streams: &[Filled]) -> Result<()> {
        let Group { context, lens } = &mut self.groups[group];
        for stream in streams {
            lens[stream.slot] = stream.past;
        }
        let needed = streams.iter().map(|stream| stream.end).chain(lens.iter().copied()).max().unwrap_or(0);
        let least = self.shape.contexts.iter().copied().find(|context| self.shape.holds(*context) >= needed);
        let least = least.ok_or_else(|| Error::inference(format!("no graph holds {needed} tokens of a stream")))?;
        let anew = streams.iter().any(|stream| stream.past == 0);
        if least > *context || (least < *context && anew) {
            self.resize(group, least)?;
        }
        if let Memory::Buffers(groups) = &mut self.memory
            && groups[group].is_none()
        {
            groups[group] = Some(Buffers::new(&self.shape, self.groups[group].context, self.device.as_deref())?);
        }
        Ok(())
    }

    /// A stream has so many tokens now.
    pub(super) fn filled(&mut self, group: usize, stream: Filled) {
        self.groups[group].lens[stream.slot] = stream.end;
    }

    /// Lays a group out for another number of tokens.
    fn resize(&mut self, group: usize, context: usize) -> Result<()> {
        let Cache { shape, groups, memory, device } = self;
        let Group { context: before, lens } = &groups[group];
        let move_rows = |bytes: &mut [u8]| move_rows(bytes, shape, lens, *before, context);
        match memory {
            Memory::Pools(pools) => {
                let bytes = shape.bytes(shape.slots, shape.largest());
                pools.iter_mut().for_each(|pool| move_rows(&mut pool[group * bytes..][..bytes]));
            }
            Memory::Buffers(buffers) => {
                if let Some(old) = &mut buffers[group] {
                    old.resize(shape, (*before, context), device.as_deref(), &move_rows)?;
                }
            }
        }
        self.groups[group].context = context;
        Ok(())
    }

    /// The caches of some slots of a group as inputs, of graphs that give new rows.
    pub(super) fn inputs(&self, group: usize, first: usize, slots: usize) -> Result<Vec<SessionInputValue<'_>>> {
        let Memory::Pools(pools) = &self.memory else { return Ok(Vec::new()) };
        let (shape, context) = (&self.shape, self.groups[group].context);
        let start = group * shape.bytes(shape.slots, shape.largest()) + shape.bytes(first, context);
        let values = pools.iter().map(|pool| {
            let bytes = &pool[start..][..shape.bytes(slots, context)];
            element::view(bytes, shape.element, shape.dims(slots, context))
        });
        values.collect()
    }

    /// Binds the caches of a group, of graphs that write copies.
    pub(super) fn bind(&mut self, group: usize, binding: &mut IoBinding) -> Result<()> {
        let Memory::Buffers(groups) = &mut self.memory else { return Ok(()) };
        let Some(Buffers { current, next }) = &mut groups[group] else { return Ok(()) };
        for (name, tensor) in self.shape.names("past").into_iter().zip(current) {
            binding.bind_input(name, tensor)?;
        }
        for (name, tensor) in self.shape.names("present").into_iter().zip(next) {
            binding.bind_output(name, tensor)?;
        }
        Ok(())
    }

    /// What a run wrote is what the next one reads.
    pub(super) fn swap(&mut self, group: usize) {
        if let Memory::Buffers(groups) = &mut self.memory
            && let Some(Buffers { current, next }) = &mut groups[group]
        {
            std::mem::swap(current, next);
        }
    }

    /// Writes a stream's new rows of a layer's keys or values, `[kv heads, new tokens, head dim]`, of which the first count.
    pub(super) fn write(&mut self, group: usize, stream: Filled, pool: usize, rows: &[u8], new_tokens: usize) {
        let Memory::Pools(pools) = &mut self.memory else { return };
        let (shape, context) = (&self.shape, self.groups[group].context);
        let (row, count) = (shape.row(), stream.end - stream.past);
        let start = group * shape.bytes(shape.slots, shape.largest()) + shape.bytes(stream.slot, context);
        for head in 0..shape.kv_heads {
            let target = start + (head * context + stream.past) * row;
            let source = &rows[head * new_tokens * row..][..count * row];
            pools[pool][target..][..count * row].copy_from_slice(source);
        }
    }
}

impl Buffers {
    /// A half of zeros, and one that the first run writes.
    fn new(shape: &Shape, context: usize, device: Option<&Device>) -> Result<Self> {
        let zeros = host(shape, context)?;
        let tensors = |filled: bool| -> Result<Vec<DynTensor>> {
            let tensors = (0..2 * shape.layers).map(|_| match device {
                None => host(shape, context),
                Some(device) => device.tensor(shape, context, filled.then_some(&zeros)),
            });
            tensors.collect()
        };
        Ok(Buffers { current: tensors(true)?, next: tensors(false)? })
    }

    /// Lays the rows out for another number of tokens.
    fn resize(
        &mut self,
        shape: &Shape,
        (before, context): (usize, usize),
        device: Option<&Device>,
        move_rows: &dyn Fn(&mut [u8]),
    ) -> Result<()> {
        let mut new = Buffers::new(shape, context, device)?;
        let bytes = shape.bytes(shape.slots, context);
        for (old, new) in self.current.iter_mut().zip(&mut new.current) {
            let mut rows = match device {
                None => element::bytes(old)?.to_vec(),
                Some(device) => {
                    let mut there = host(shape, before)?;
                    memory::copy(&device.runtime, [(&*old, &mut there)])?;
                    element::bytes(&mut there)?.to_vec()
                }
            };
            rows.resize(rows.len().max(bytes), 0);
            move_rows(&mut rows);
            match device {
                None => element::bytes(new)?.copy_from_slice(&rows[..bytes]),
                Some(device) => {
                    let mut moved = host(shape, context)?;
                    element::bytes(&mut moved)?.copy_from_slice(&rows[..bytes]);
                    memory::copy(&device.runtime, [(&moved, new)])?;
                }
            }
        }
        *self = new;
        Ok(())
    }
}

impl Device {
    /// A tensor for a group's keys or values of a layer, with these numbers if there are some.
    fn tensor(&self, shape: &Shape, context: usize, numbers: Option<&DynTensor>) -> Result<DynTensor> {
        let allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = element::kind(shape.element);
        let tensor = DynTensor::new(&allocator, kind, shape.dims(shape.slots, context));
        let mut tensor = tensor.map_err(|error| {
            let bytes = shape.bytes(shape.slots, context);
            tracing::error!(error = error.message(), bytes, "no device memory for a layer's KV cache");
            Error::OutOfMemory { bytes, purpose: "a layer's KV cache in device memory: set cache.mib to less" }
        })?;
        if let Some(numbers) = numbers {
            memory::copy(&self.runtime, [(numbers, &mut tensor)])?;
        }
        Ok(tensor)
    }
}

/// Zeros in plain memory, for a group's keys or values of a layer.
fn host(shape: &Shape, context: usize) -> Result<DynTensor> {
    let kind = element::kind(shape.element);
    let mut tensor = DynTensor::new(&Allocator::default(), kind, shape.dims(shape.slots, context))?;
    element::bytes(&mut tensor)?.fill(0);
    Ok(tensor)
}

/// Moves the rows of a group from one layout to another. What is in between keeps what was there: rows of other tokens,
/// which no mask lets through, but numbers.
fn move_rows(bytes: &mut [u8], shape: &Shape, lens: &[usize], from: usize, to: usize) {
    let row = shape.row();
    let heads = lens.iter().flat_map(|len| std::iter::repeat_n(*len, shape.kv_heads)).enumerate();
    let mut move_head = |(head, len): (usize, usize)| {
        let len = len.min(from).min(to);
        let source = head * from * row;
        bytes.copy_within(source..source + len * row, head * to * row);
    };
    // Those first that others would overwrite.
    match to > from {
        true => heads.collect::<Vec<_>>().into_iter().rev().for_each(&mut move_head),
        false => heads.for_each(&mut move_head),
    }
}
