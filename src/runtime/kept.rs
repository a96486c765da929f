//! A graph and its weights as files in a folder of their own. CoreML knows a model by its path, and finds by that what it kept
//! of it; from memory all graphs would be one to it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use super::Weights;

/// Lays a graph out with the one file of weights that it names. What is there already stays. Gives the graph's path.
pub(super) fn lay_out(folder: &Path, graph: &[u8], weights: &Weights) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    match weights {
        Weights::Folder { folder: from, name } => place(&folder.join(name), |new| {
            let from = Path::new(from).join(name);
            // On another file system, or where there are no links, it costs their size.
            fs::hard_link(&from, new).or_else(|_| fs::copy(&from, new).map(drop))
        })?,
        Weights::Memory { name, bytes } => place(&folder.join(name), |new| fs::write(new, bytes))?,
    }
    let path = folder.join("graph.onnx");
    place(&path, |new| fs::write(new, graph))?;
    Ok(path)
}

/// Makes a file, if it is not there, in one piece: others may do the same, or look for it.
fn place(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    if path.is_file() {
        return Ok(());
    }
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", process::id()));
    let new = PathBuf::from(new);
    let written = write(&new).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::RuntimeConfig,
        runtime::{Runtime, SessionSpec},
    };

    /// A portable graph of a golden checkpoint, and the file of its weights.
    fn bundle() -> (PathBuf, Vec<u8>, String) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/golden-portable/grouped-bf16-fp32");
        let manifest: toml::Table =
            fs::read_to_string(folder.join("guard.toml")).expect("run `make test-data`").parse().unwrap();
        let graph = &manifest["graphs"]["portable"];
        let file = graph["variants"][0]["file"].as_str().unwrap();
        (folder.clone(), fs::read(folder.join(file)).unwrap(), graph["weights"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_session_is_made_by_path_as_from_memory() {
        let (folder, graph, name) = bundle();
        let cache = tempfile::tempdir().unwrap();
        let kept = cache.path().join("digest");
        let weights = || Weights::Folder { folder: folder.to_str().unwrap(), name: &name };
        let path = lay_out(&kept, &graph, &weights()).unwrap();
        let files = || {
            let all = fs::read_dir(&kept).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
            let mut all: Vec<String> = all.collect();
            all.sort();
            all
        };
        let mut expected = vec!["graph.onnx".to_owned(), name.clone()];
        expected.sort();
        assert_eq!(files(), expected);
        let runtime = Runtime::load(&RuntimeConfig::default()).unwrap();
        let by_path = runtime.session_builder(1).unwrap().commit_from_file(&path).unwrap();
        let spec = SessionSpec { graph: &graph, weights: weights(), operators: None, threads: 1, digest: "" };
        let from_memory = runtime.session(&RuntimeConfig::default(), spec).ok().unwrap().session;
        let names = |all: &[ort::value::Outlet]| all.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(by_path.inputs()), names(from_memory.inputs()));
        assert_eq!(names(by_path.outputs()), names(from_memory.outputs()));
        // Weights that are in memory are written; what is there stays.
        let again = lay_out(&kept, b"other", &Weights::Memory { name: "more.bin", bytes: vec![1, 2] }).unwrap();
        assert_eq!(fs::read(again).unwrap(), graph);
        assert_eq!(fs::read(kept.join("more.bin")).unwrap(), [1, 2]);
        assert_eq!(files().len(), 3);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let weights = Weights::Folder { folder: "/nowhere", name: "weights.bin" };
        lay_out(cache.path(), b"graph", &weights).unwrap_err();
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
        fs::write(cache.path().join("file"), "").unwrap();
        lay_out(&cache.path().join("file"), b"graph", &weights).unwrap_err();
    }
}
