//! Bundles that are compiled in: the demonstration guards. Their files are compressed by build.rs.

use std::io;

/// A file: its length (8 bytes, little endian), in how many planes its bytes are (1 byte), and these as raw deflate.
#[cfg(feature = "nano")]
#[derive(Debug)]
pub(crate) struct Packed(&'static [u8]);

/// Nothing is compiled in.
#[cfg(not(feature = "nano"))]
#[derive(Debug)]
pub(crate) enum Packed {}

#[cfg(feature = "nano")]
impl Packed {
    /// Length, planes and what is compressed.
    fn parts(&self) -> (u64, usize, &'static [u8]) {
        let (length, rest) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let (planes, packed) = rest.split_first().unwrap_or((&1, &[]));
        (u64::from_le_bytes(*length), usize::from(*planes), packed)
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.parts().0
    }

    /// The file, in memory of its own: what opens it keeps it no longer than it has to.
    pub(super) fn unpack(&self) -> io::Result<Vec<u8>> {
        let (length, planes, packed) = self.parts();
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let raw = zlib_rs::InflateConfig { window_bits: -15 };
        let (unpacked, code) = zlib_rs::decompress_slice(&mut bytes, packed, raw);
        if code != zlib_rs::ReturnCode::Ok || unpacked.len() as u64 != length {
            return Err(io::Error::other(format!("it cannot be unpacked: {code:?}")));
        }
        Ok(if planes == 4 { joined(&bytes) } else { bytes })
    }
}

/// Bytes that are in four planes, the first byte of every four first, in their order. Those that are left over come last.
#[cfg(feature = "nano")]
fn joined(planes: &[u8]) -> Vec<u8> {
    let each = planes.len() / 4;
    let (whole, rest) = planes.split_at(each * 4);
    let (first, others) = whole.split_at(each);
    let (second, others) = others.split_at(each);
    let (third, fourth) = others.split_at(each);
    let mut file = vec![0; planes.len()];
    let mut words = file.chunks_exact_mut(4);
    for ((((word, a), b), c), d) in words.by_ref().zip(first).zip(second).zip(third).zip(fourth) {
        word.copy_from_slice(&[*a, *b, *c, *d]);
    }
    words.into_remainder().copy_from_slice(rest);
    file
}

#[cfg(not(feature = "nano"))]
impl Packed {
    pub(super) fn len(&self) -> u64 {
        match *self {}
    }

    pub(super) fn unpack(&self) -> io::Result<Vec<u8>> {
        match *self {}
    }
}

#[cfg(feature = "nano")]
macro_rules! packed {
    ($name:literal) => {
        Packed(include_bytes!(concat!(env!("OUT_DIR"), "/", $name)))
    };
}

/// The demonstration guard.
#[cfg(feature = "nano")]
pub(crate) static NANO: [(&str, Packed); 5] = [
    ("guard.toml", packed!("nano-guard.toml")),
    ("paged.onnx", packed!("nano-paged.onnx")),
    ("weights.bin", packed!("nano-weights.bin")),
    ("tokenizer.json", packed!("nano-tokenizer.json")),
    ("chat_template.jinja", packed!("nano-chat_template.jinja")),
];

/// The demonstration guard of the variant gen. Its tokenizer is that of the other, and is there once.
#[cfg(feature = "nano")]
pub(crate) static NANO_GEN: [(&str, Packed); 5] = [
    ("guard.toml", packed!("nano-gen-guard.toml")),
    ("paged.onnx", packed!("nano-gen-paged.onnx")),
    ("weights.bin", packed!("nano-gen-weights.bin")),
    ("tokenizer.json", packed!("nano-tokenizer.json")),
    ("chat_template.jinja", packed!("nano-gen-chat_template.jinja")),
];

#[cfg(all(test, feature = "nano"))]
mod tests {
    use super::*;

    #[test]
    fn planes_are_joined_with_what_is_left_over() {
        assert_eq!(joined(b"aebfcgdhij"), b"abcdefghij");
        assert_eq!(joined(b"abc"), b"abc");
    }
}
