//! Bundles that are compiled in: the demonstration guards. Their files are compressed by build.rs.

use std::io;

/// A file, as raw deflate after its length (8 bytes, little endian).
#[cfg(feature = "nano")]
#[derive(Debug)]
pub(crate) struct Packed(&'static [u8]);

/// Nothing is compiled in.
#[cfg(not(feature = "nano"))]
#[derive(Debug)]
pub(crate) enum Packed {}

#[cfg(feature = "nano")]
impl Packed {
    fn parts(&self) -> (u64, &'static [u8]) {
        let (length, packed) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        (u64::from_le_bytes(*length), packed)
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.parts().0
    }

    /// The file, in memory of its own: what opens it keeps it no longer than it has to.
    pub(super) fn unpack(&self) -> io::Result<Vec<u8>> {
        let (length, packed) = self.parts();
        let mut file = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let raw = zlib_rs::InflateConfig { window_bits: -15 };
        let (unpacked, code) = zlib_rs::decompress_slice(&mut file, packed, raw);
        if code != zlib_rs::ReturnCode::Ok || unpacked.len() as u64 != length {
            return Err(io::Error::other(format!("it cannot be unpacked: {code:?}")));
        }
        Ok(file)
    }
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
