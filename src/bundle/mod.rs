//! A bundle: one exported model in a folder, or embedded in the library. Opening checks what it says about itself and
//! the digests of its files.

mod answer;
mod dimensions;
mod embedded;
mod file;
mod graph;
mod head;
mod identity;
mod manifest;
mod portable;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    thread,
};

use sha2::{Digest, Sha256};

use crate::{Error, Result, error::Reason, limits};

pub(crate) use answer::{Answer, CANDIDATES, ModeLines, NEXT_TOKEN, Piece, Refusal};
pub(crate) use dimensions::Dimensions;
use embedded::Packed;
#[cfg(feature = "nano")]
pub(crate) use embedded::{NANO, NANO_GEN};
pub(crate) use graph::{Append, Embedding, Float, Graph, Variant, WEIGHTS};
pub(crate) use head::{Classes, Head};
use identity::Identity;
pub(crate) use manifest::{Manifest, Precision, QUERY_HEADS, RESPONSE_HEADS, SelfTest};

const MANIFEST: &str = "guard.toml";

/// Bytes that are read and hashed at a time: they stay in the processor's caches.
const PIECE: usize = 256 << 10;

/// Where the files of a bundle are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A folder.
    Folder(PathBuf),
    /// Compiled in: file names and contents.
    #[cfg_attr(not(feature = "nano"), expect(dead_code, reason = "only the demonstration guard is compiled in"))]
    Embedded(&'static [(&'static str, Packed)]),
}

/// A file of a bundle that is read in pieces.
#[derive(Debug)]
pub(crate) enum Pieces {
    File(File),
    Memory(Vec<u8>),
}

impl Pieces {
    /// Reads what lies at an offset.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Pieces::File(file) => file::read_at(file, offset, buffer),
            Pieces::Memory(bytes) => {
                let piece = usize::try_from(offset).ok().and_then(|from| bytes.get(from..)?.get(..buffer.len()));
                buffer.copy_from_slice(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// A bundle whose manifest is understood and whose files are there.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) place: Place,
    pub(crate) manifest: Manifest,
    /// Which files they were when the bundle was opened. Compiled in they cannot change.
    identities: BTreeMap<String, Identity>,
    /// Of guard.toml, which has the digests of the other files.
    pub(crate) sha256: String,
}

impl Bundle {
    /// Opens the bundle in a folder. What is in its files, [`Bundle::checked`] looks at.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        if folder.as_os_str().is_empty() {
            return Err(Error::argument("bundle", "it is empty, where the folder of a bundle is wanted"));
        }
        Self::load(Place::Folder(folder.to_owned()))
    }

    /// Opens a bundle that is compiled in.
    #[cfg(feature = "nano")]
    pub(crate) fn embedded(files: &'static [(&'static str, Packed)]) -> Result<Self> {
        Self::load(Place::Embedded(files))
    }

    fn load(place: Place) -> Result<Self> {
        let text = place.read_text(MANIFEST, limits::MANIFEST_BYTES).map_err(|error| place.without_folder(error))?;
        let manifest = Manifest::parse(&text, &place.name())?;
        let mut identities = BTreeMap::new();
        for (name, expected) in &manifest.files {
            let found = match &place {
                Place::Folder(folder) => {
                    let identity = place.identity(&place.open(folder, name)?, name)?;
                    let bytes = identity.bytes;
                    identities.insert(name.clone(), identity);
                    bytes
                }
                Place::Embedded(files) => place.embedded(files, name)?.len(),
            };
            if found != expected.bytes {
                let reason = format!("{found} bytes, guard.toml says {}", expected.bytes);
                return Err(place.file_error(name, reason));
            }
        }
        let sha256 = hex(Sha256::digest(text.as_bytes()));
        Ok(Bundle { place, manifest, identities, sha256 })
    }

    /// Gives what `open` makes of the bundle's files, if these have the digests of guard.toml (unless `digests` is
    /// false) and nobody changed them meanwhile. The weights are read beside `open`, the others before it: what parses
    /// them need not see what is damaged. Files of other graphs than the one that is opened are not read.
    pub(crate) fn checked<T>(&self, digests: bool, graph: &str, open: impl FnOnce() -> Result<T>) -> Result<T> {
        if !digests {
            let opened = open();
            self.check_unchanged()?;
            return opened;
        }
        let graphs = &self.manifest.graphs;
        let weights = graphs.get(graph).map_or(WEIGHTS, |graph| &*graph.weights);
        for name in self.manifest.files.keys() {
            if *name != weights && !self.manifest.is_of_another(name, graph) {
                self.check_digest(name)?;
            }
        }
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("qwenguard-hash".into());
            let digest = thread.spawn_scoped(scope, || self.check_digest(weights));
            let opened = open();
            // Where there is no thread to be had it takes longer.
            match digest {
                Ok(thread) => thread.join().map_err(|_| self.file_error(weights, "its digest was not computed"))??,
                Err(_) => self.check_digest(weights)?,
            }
            // What is wrong with the files says more than what came of it.
            self.check_unchanged()?;
            opened
        })
    }

    fn check_digest(&self, name: &str) -> Result<()> {
        let (Place::Folder(folder), Some(expected)) = (&self.place, self.manifest.files.get(name)) else {
            return Ok(());
        };
        let file = self.place.open(folder, name)?;
        self.check_identity(&file, name)?;
        let sha256 = sha256(&file).map_err(|error| self.file_error(name, Reason::of(error)))?;
        self.check_identity(&file, name)?;
        if sha256 != expected.sha256 {
            return Err(self.file_error(name, "its SHA-256 is not the one in guard.toml: the file is damaged"));
        }
        Ok(())
    }

    /// The files that the names stand for now are those that they stood for when the bundle was opened.
    fn check_unchanged(&self) -> Result<()> {
        let Place::Folder(folder) = &self.place else { return Ok(()) };
        self.identities.keys().try_for_each(|name| self.check_identity(&self.place.open(folder, name)?, name))
    }

    fn check_identity(&self, file: &File, name: &str) -> Result<()> {
        if Some(&self.place.identity(file, name)?) == self.identities.get(name) {
            return Ok(());
        }
        Err(self.file_error(name, "it changed while the bundle was opened: open it again when it is complete"))
    }

    /// What tells later whether files are still those that they were when the bundle was opened.
    pub(crate) fn pinned(&self, names: &[&str]) -> Pinned {
        let identity = |name: &&str| Some(((*name).to_owned(), self.identities.get(*name)?.clone()));
        Pinned { place: self.place.clone(), files: names.iter().filter_map(identity).collect() }
    }

    /// The bundle's folder, or its name if it is compiled in.
    pub(crate) fn name(&self) -> String {
        self.place.name()
    }

    /// A file of the bundle as text, of at most `limit` bytes.
    pub(crate) fn read_text(&self, file: &str, limit: u64) -> Result<String> {
        self.place.read_text(file, limit)
    }

    /// An error about a field of guard.toml.
    pub(crate) fn field_error(&self, field: &str, reason: String) -> Error {
        Error::BundleField { bundle: self.name(), field: field.to_owned(), reason }
    }

    /// An error about one of the bundle's files.
    pub(crate) fn file_error(&self, file: &str, reason: impl Into<Reason>) -> Error {
        self.place.file_error(file, reason)
    }
}

/// Files of a bundle as they were when it was opened.
#[derive(Debug)]
pub(crate) struct Pinned {
    place: Place,
    files: Vec<(String, Identity)>,
}

impl Pinned {
    /// Fails if one of them was replaced or written to meanwhile.
    pub(crate) fn check(&self) -> Result<()> {
        let Place::Folder(folder) = &self.place else { return Ok(()) };
        for (name, identity) in &self.files {
            if self.place.identity(&self.place.open(folder, name)?, name)? != *identity {
                return Err(self.place.file_error(name, "it changed since the bundle was opened: open it again"));
            }
        }
        Ok(())
    }
}

impl Place {
    fn name(&self) -> String {
        match self {
            Place::Folder(folder) => folder.display().to_string(),
            Place::Embedded(_) => "(built in)".to_owned(),
        }
    }

    pub(crate) fn file_error(&self, file: &str, reason: impl Into<Reason>) -> Error {
        Error::bundle_file(self.name(), file, reason)
    }

    /// What is said of a manifest that cannot be read: of its folder, if there is none.
    fn without_folder(&self, error: Error) -> Error {
        let Place::Folder(folder) = self else { return error };
        match folder.metadata() {
            // An empty path is the folder that the process is in.
            _ if folder.as_os_str().is_empty() => error,
            Ok(metadata) if !metadata.is_dir() => self.file_error(MANIFEST, "the bundle is a file, and not a folder"),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
                self.file_error(MANIFEST, Reason::of(reason).after("there is no such folder"))
            }
            Ok(_) if folder.join("config.json").is_file() && !folder.join(MANIFEST).exists() => {
                let reason =
                    "missing; config.json is there, so this is a checkpoint: qwenguard-export makes a bundle of it";
                self.file_error(MANIFEST, reason)
            }
            _ => error,
        }
    }

    fn open(&self, folder: &Path, file: &str) -> Result<File> {
        file::open(&folder.join(file)).map_err(|reason| self.file_error(file, reason))
    }

    fn embedded(&self, files: &'static [(&'static str, Packed)], file: &str) -> Result<&'static Packed> {
        let found = files.iter().find(|(name, _)| *name == file);
        found.map(|(_, packed)| packed).ok_or_else(|| self.file_error(file, "missing"))
    }

    fn unpacked(&self, files: &'static [(&'static str, Packed)], file: &str) -> Result<Vec<u8>> {
        self.embedded(files, file)?.unpack().map_err(|error| self.file_error(file, Reason::of(error)))
    }

    /// The contents of a file of at most `limit` bytes.
    pub(crate) fn read(&self, file: &str, limit: u64) -> Result<Vec<u8>> {
        match self {
            Place::Folder(folder) => {
                file::read(&folder.join(file), limit).map_err(|reason| self.file_error(file, reason))
            }
            Place::Embedded(files) => self.unpacked(files, file),
        }
    }

    /// A file that is to be read in pieces.
    pub(crate) fn pieces(&self, file: &str) -> Result<Pieces> {
        match self {
            Place::Folder(folder) => Ok(Pieces::File(self.open(folder, file)?)),
            Place::Embedded(files) => Ok(Pieces::Memory(self.unpacked(files, file)?)),
        }
    }

    fn read_text(&self, file: &str, limit: u64) -> Result<String> {
        let not_text = |error: std::string::FromUtf8Error| self.file_error(file, Reason::from("not UTF-8").with(error));
        String::from_utf8(self.read(file, limit)?).map_err(not_text)
    }

    /// The folder and the name of a file with weights, whatever links lead there. Embedded weights have no folder.
    pub(crate) fn weights(&self, file: &str) -> Result<(String, String)> {
        let Place::Folder(folder) = self else { return Ok((String::new(), file.to_owned())) };
        let path = dunce::canonicalize(folder.join(file)).map_err(|error| self.file_error(file, Reason::of(error)))?;
        let text = |part: Option<&OsStr>| part.and_then(OsStr::to_str).map(str::to_owned);
        let parts = text(path.parent().map(Path::as_os_str)).zip(text(path.file_name()));
        parts.ok_or_else(|| self.file_error(file, format!("its path {path:?} is not UTF-8")))
    }

    fn identity(&self, file: &File, name: &str) -> Result<Identity> {
        Identity::of(file).map_err(|error| self.file_error(name, Reason::of(error)))
    }

    pub(crate) fn len(&self, file: &str) -> Result<u64> {
        match self {
            Place::Folder(folder) => {
                let metadata = self.open(folder, file)?.metadata();
                Ok(metadata.map_err(|error| self.file_error(file, Reason::of(error)))?.len())
            }
            Place::Embedded(files) => Ok(self.embedded(files, file)?.len()),
        }
    }
}

/// A digest in hexadecimal digits.
fn hex(digest: impl IntoIterator<Item = u8>) -> String {
    digest.into_iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a file, in hexadecimal digits.
fn sha256(file: &File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut reader = BufReader::with_capacity(PIECE, file);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        let taken = bytes.len();
        reader.consume(taken);
    }
    Ok(hex(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn copy() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("export/nano/bundle")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        folder
    }

    #[test]
    fn a_file_that_is_replaced_while_the_bundle_is_opened_is_named() {
        for name in ["paged.onnx", "weights.bin", "tokenizer.json", "chat_template.jinja"] {
            for digests in [true, false] {
                let folder = copy();
                let bundle = Bundle::open(folder.path()).unwrap();
                let path = folder.path().join(name);
                let replace = || {
                    // The same bytes, but who knows of which moment the runtime's are.
                    fs::copy(&path, folder.path().join("new")).unwrap();
                    while let Err(error) = fs::rename(folder.path().join("new"), &path) {
                        // Windows refuses while a digest is computed of the file.
                        assert!(cfg!(windows) && error.kind() == std::io::ErrorKind::PermissionDenied, "{error}");
                        thread::yield_now();
                    }
                    Ok(())
                };
                let error = bundle.checked(digests, "paged_cpu", replace).unwrap_err().to_string();
                assert!(error.contains(&format!("{name}: it changed while")), "{error}");
            }
        }
    }

    #[test]
    fn a_file_that_is_written_while_the_bundle_is_opened_is_named() {
        let folder = copy();
        let bundle = Bundle::open(folder.path()).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        let write = || {
            let file = File::options().write(true).open(folder.path().join("weights.bin")).unwrap();
            file.set_modified(later).unwrap();
            Err::<(), _>(Error::EngineStopped)
        };
        // It says more than what came of it.
        let error = bundle.checked(false, "paged_cpu", write).unwrap_err().to_string();
        assert!(error.contains("weights.bin: it changed while"), "{error}");
        fs::remove_file(folder.path().join("weights.bin")).unwrap();
        let error = bundle.checked(true, "paged_cpu", || Ok(())).unwrap_err().to_string();
        assert!(error.contains("weights.bin"), "{error}");
    }

    /// What is compiled in is what is in the folders, all of it.
    #[cfg(feature = "nano")]
    #[test]
    fn embedded_bundles_are_those_of_their_folders() {
        for (folder, embedded) in [("export/nano/bundle", &NANO), ("export/nano-gen/bundle", &NANO_GEN)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let mut found: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
            let mut names: Vec<_> = embedded.iter().map(|(name, _)| std::ffi::OsString::from(name)).collect();
            found.sort();
            names.sort();
            assert_eq!(names, found, "{}", folder.display());
            for (name, packed) in embedded {
                let bytes = fs::read(folder.join(name)).unwrap();
                assert_eq!(packed.len(), bytes.len() as u64, "{}: {name}", folder.display());
                assert!(packed.unpack().unwrap() == bytes, "{}: {name}", folder.display());
            }
            // Embedded files are not hashed when they are opened.
            Bundle::open(&folder).unwrap().checked(true, "paged_cpu", || Ok(())).unwrap();
        }
    }

    #[test]
    fn digests_are_those_of_everybody_else() {
        let folder = tempfile::tempdir().unwrap();
        let digest = |bytes: &[u8]| {
            fs::write(folder.path().join("file"), bytes).unwrap();
            sha256(&File::open(folder.path().join("file")).unwrap()).unwrap()
        };
        assert_eq!(digest(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let long = vec![7; 3 * PIECE + 1];
        assert_eq!(digest(&long), Sha256::digest(&long).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
}
