//! The graph's tensors: where each lies and how large it is.

use std::collections::{HashMap, HashSet};

use crate::model::onnx::{StringStringEntryProto, TensorProto};

/// The most dimensions of a tensor.
const RANK: usize = 4;

/// Where tensors in `weights.bin` start: at a page, so that they can be mapped and are aligned for any type.
const PAGE: u64 = 4096;

/// The one file that tensors may lie in.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct External<'a> {
    pub(in crate::model) name: &'a str,
    pub(in crate::model) bytes: u64,
}

/// A tensor that is known to be where it says.
pub(in crate::model) struct Tensor {
    pub(in crate::model) kind: i32,
    pub(in crate::model) dims: Vec<usize>,
    /// Those of a few integers.
    integers: Option<Vec<i64>>,
}

impl Tensor {
    /// Whether it has these dimensions. An error says its name.
    pub(super) fn has(&self, name: &str, dims: &[usize]) -> Result<(), String> {
        match self.dims == dims {
            true => Ok(()),
            false => Err(format!("tensor {name:?} has the dimensions {:?}, not {dims:?}", self.dims)),
        }
    }
}

/// The tensors by name.
pub(super) struct Tensors<'g>(HashMap<&'g str, Tensor>);

impl<'g> Tensors<'g> {
    /// `inputs` are those of the graph, whose names no tensor may have.
    pub(super) fn new(tensors: &'g [TensorProto], weights: External, inputs: &HashSet<String>) -> Result<Self, String> {
        let mut known = HashMap::with_capacity(tensors.len());
        for proto in tensors {
            let name = proto.name();
            let tensor = check(proto, weights).map_err(|reason| format!("tensor {name:?}: {reason}"))?;
            if name.is_empty() || inputs.contains(name) || known.insert(name, tensor).is_some() {
                return Err(format!("tensor {name:?} has no name of its own"));
            }
        }
        Ok(Tensors(known))
    }

    pub(super) fn get(&self, name: &str) -> Result<&Tensor, String> {
        self.0.get(name).ok_or_else(|| format!("there is no tensor {name:?}"))
    }

    /// A few integers, which lie in the graph.
    pub(super) fn integers(&self, name: &str) -> Result<&[i64], String> {
        self.get(name)?.integers.as_deref().ok_or_else(|| format!("tensor {name:?} is not a few integers"))
    }
}

/// A tensor, if it is where it says, and as large.
pub(in crate::model) fn check(proto: &TensorProto, weights: External) -> Result<Tensor, String> {
    let kind = proto.data_type();
    let size: u64 = match kind {
        TensorProto::INT64 => 8,
        TensorProto::FLOAT => 4,
        TensorProto::FLOAT16 | TensorProto::BFLOAT16 => 2,
        TensorProto::UINT8 => 1,
        _ => return Err(format!("data_type {kind} is not supported")),
    };
    let dims = &proto.dims;
    let positive = dims.iter().map(|dim| usize::try_from(*dim).ok().filter(|dim| *dim > 0));
    let sizes: Option<Vec<usize>> = positive.collect();
    let Some(sizes) = sizes.filter(|sizes| (1..=RANK).contains(&sizes.len())) else {
        return Err(format!("the dimensions {dims:?} are not supported"));
    };
    let bytes = sizes.iter().try_fold(size, |bytes, dim| bytes.checked_mul(*dim as u64));
    let bytes = bytes.filter(|bytes| *bytes <= i64::MAX as u64).ok_or_else(|| format!("{dims:?} is too large"))?;
    let found = match (&proto.raw_data, proto.data_location()) {
        (Some(raw), 0) if proto.external_data.is_empty() => raw.len() as u64,
        (None, TensorProto::EXTERNAL) => external(&proto.external_data, bytes, weights)?,
        _ => return Err("it is neither in raw_data nor in external_data".to_owned()),
    };
    match found == bytes {
        true => Ok(Tensor { kind, integers: integers(proto).filter(|_| sizes.len() == 1), dims: sizes }),
        false => Err(format!("{found} bytes, its dimensions {dims:?} take {bytes}")),
    }
}

/// The most integers of a tensor whose values are looked at.
const INTEGERS: usize = 8;

fn integers(proto: &TensorProto) -> Option<Vec<i64>> {
    let bytes = proto.raw_data.as_deref().filter(|_| proto.data_type() == TensorProto::INT64)?;
    let (integers, rest) = bytes.as_chunks::<8>();
    let few = rest.is_empty() && integers.len() <= INTEGERS;
    few.then(|| integers.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
}

/// The bytes of a tensor in the file of weights.
fn external(entries: &[StringStringEntryProto], bytes: u64, weights: External) -> Result<u64, String> {
    let (mut location, mut offset, mut length) = (None, 0, bytes);
    for (index, entry) in entries.iter().enumerate() {
        if entries[..index].iter().any(|other| other.key() == entry.key()) {
            return Err(format!("external_data: {:?} appears twice", entry.key()));
        }
        let number = || {
            let digits = Some(entry.value()).filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|value| value.parse::<u64>().ok());
            number.ok_or_else(|| format!("external_data: {} is {:?}", entry.key(), entry.value()))
        };
        match entry.key() {
            "location" => location = Some(entry.value()),
            "offset" => offset = number()?,
            "length" => length = number()?,
            other => return Err(format!("external_data: {other:?} is not supported")),
        }
    }
    // The runtime would read any file that it can find from the bundle's folder.
    let External { name, bytes: size } = weights;
    if location != Some(name) {
        return Err(format!("external_data: the location is {location:?}, only {name} can be"));
    }
    if offset % PAGE != 0 || offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(format!("external_data: {length} bytes at {offset} are not on pages within {name}"));
    }
    Ok(length)
}
