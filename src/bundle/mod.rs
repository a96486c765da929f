//! A bundle: one exported model in a folder, or embedded in the library. Opening checks what it says about itself and
//! the digests of its files.

mod file;
pub(crate) mod limits;
mod manifest;

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Error, Result, error::one_line};

pub(crate) use manifest::{Dimensions, Manifest, Precision, SpecialTokens};

const MANIFEST: &str = "guard.toml";
pub(crate) const WEIGHTS: &str = "weights.bin";

/// Where the files of a bundle are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A folder.
    Folder(PathBuf),
    /// Compiled in: file names and contents.
    #[cfg_attr(not(feature = "nano"), expect(dead_code, reason = "only the demonstration guard is compiled in"))]
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// A bundle whose manifest is understood and whose files are there.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) place: Place,
    pub(crate) manifest: Manifest,
}

impl Bundle {
    /// Opens the bundle in a folder. The weights' digest is checked only if `verify_weights`.
    pub(crate) fn open(folder: &Path, verify_weights: bool) -> Result<Self> {
        Self::load(Place::Folder(folder.to_owned()), verify_weights)
    }

    /// Opens a bundle that is compiled in.
    #[cfg(feature = "nano")]
    pub(crate) fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Result<Self> {
        Self::load(Place::Embedded(files), false)
    }

    fn load(place: Place, verify_weights: bool) -> Result<Self> {
        let text = place.read_text(MANIFEST, limits::MANIFEST_BYTES)?;
        let manifest = Manifest::parse(&text, &place.name())?;
        for (name, expected) in &manifest.files {
            let found = place.len(name)?;
            if found != expected.bytes {
                let reason = format!("{found} bytes, guard.toml says {}", expected.bytes);
                return Err(place.file_error(name, reason));
            }
            if (name != WEIGHTS || verify_weights) && place.sha256(name)? != expected.sha256 {
                return Err(place.file_error(name, "its SHA-256 is not the one in guard.toml: the file is damaged"));
            }
        }
        Ok(Bundle { place, manifest })
    }

    /// The bundle's folder, or its name if it is compiled in.
    pub(crate) fn name(&self) -> String {
        self.place.name()
    }

    /// A file of the bundle as text, of at most `limit` bytes.
    pub(crate) fn read_text(&self, file: &str, limit: u64) -> Result<Cow<'static, str>> {
        self.place.read_text(file, limit)
    }

    /// An error about one of the bundle's files.
    pub(crate) fn file_error(&self, file: &str, reason: impl Into<String>) -> Error {
        self.place.file_error(file, reason)
    }
}

impl Place {
    fn name(&self) -> String {
        match self {
            Place::Folder(folder) => folder.display().to_string(),
            Place::Embedded(_) => "(built in)".to_owned(),
        }
    }

    fn file_error(&self, file: &str, reason: impl Into<String>) -> Error {
        Error::BundleFile { bundle: self.name(), file: file.to_owned(), reason: one_line(&reason.into()) }
    }

    fn open(&self, folder: &Path, file: &str) -> Result<File> {
        file::open(&folder.join(file)).map_err(|reason| self.file_error(file, reason))
    }

    fn embedded(&self, files: &'static [(&'static str, &'static [u8])], file: &str) -> Result<&'static [u8]> {
        let found = files.iter().find(|(name, _)| *name == file);
        found.map(|(_, bytes)| *bytes).ok_or_else(|| self.file_error(file, "missing"))
    }

    /// The contents of a file of at most `limit` bytes.
    pub(crate) fn read(&self, file: &str, limit: u64) -> Result<Cow<'static, [u8]>> {
        match self {
            Place::Folder(folder) => {
                let bytes = file::read(&folder.join(file), limit);
                Ok(bytes.map_err(|reason| self.file_error(file, reason))?.into())
            }
            Place::Embedded(files) => Ok(self.embedded(files, file)?.into()),
        }
    }

    fn read_text(&self, file: &str, limit: u64) -> Result<Cow<'static, str>> {
        let not_text = |_| self.file_error(file, "not UTF-8");
        Ok(match self.read(file, limit)? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map_err(|_| self.file_error(file, "not UTF-8"))?.into(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map_err(not_text)?.into(),
        })
    }

    /// The folder and the name of the weights' file, whatever links lead there. Embedded weights have no folder.
    pub(crate) fn weights(&self) -> Result<(String, String)> {
        let Place::Folder(folder) = self else { return Ok((String::new(), WEIGHTS.to_owned())) };
        let path = folder.join(WEIGHTS).canonicalize().map_err(|error| self.file_error(WEIGHTS, error.to_string()))?;
        let text = |part: Option<&OsStr>| part.and_then(OsStr::to_str).map(str::to_owned);
        let parts = text(path.parent().map(Path::as_os_str)).zip(text(path.file_name()));
        parts.ok_or_else(|| self.file_error(WEIGHTS, format!("its path {path:?} is not UTF-8")))
    }

    pub(crate) fn len(&self, file: &str) -> Result<u64> {
        match self {
            Place::Folder(folder) => {
                let metadata = self.open(folder, file)?.metadata();
                Ok(metadata.map_err(|error| self.file_error(file, error.to_string()))?.len())
            }
            Place::Embedded(files) => Ok(self.embedded(files, file)?.len() as u64),
        }
    }

    fn sha256(&self, file: &str) -> Result<String> {
        let mut hasher = Sha256::new();
        match self {
            Place::Folder(folder) => {
                let mut reader = BufReader::with_capacity(1 << 20, self.open(folder, file)?);
                loop {
                    let bytes = reader.fill_buf().map_err(|error| self.file_error(file, error.to_string()))?;
                    if bytes.is_empty() {
                        break;
                    }
                    hasher.update(bytes);
                    let taken = bytes.len();
                    reader.consume(taken);
                }
            }
            Place::Embedded(files) => hasher.update(self.embedded(files, file)?),
        }
        Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The demonstration guard.
#[cfg(feature = "nano")]
pub(crate) const NANO: &[(&str, &[u8])] = &[
    ("guard.toml", include_bytes!("../../export/nano/bundle/guard.toml")),
    ("paged.onnx", include_bytes!("../../export/nano/bundle/paged.onnx")),
    ("weights.bin", include_bytes!("../../export/nano/bundle/weights.bin")),
    ("tokenizer.json", include_bytes!("../../export/nano/bundle/tokenizer.json")),
    ("chat_template.jinja", include_bytes!("../../export/nano/bundle/chat_template.jinja")),
];
